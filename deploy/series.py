"""Dry run: `python -m deploy.series STUDY_OR_LIST` prints the series that would be chosen, with the evidence."""

from pathlib import Path

from pydicom.dataset import Dataset

from common.errors import InputError, show
from common.values import names_of
from common.weights.records import path_of
from deploy.dicom.series.choice import MODALITIES, choose_series
from deploy.dicom.series.evidence import ASK, candidate_of_header, candidates_of
from deploy.dicom.series.names import Names, read_table
from deploy.dicom.study import series_of, studies_in
from deploy.process import restrict_output
from scripts.cli import run


def preview(study: str, series_names: str = "", modalities: str = ",".join(MODALITIES), prepare: bool = False) -> None:
    """Print the series that would be chosen, the evidence for each series, and open questions; write nothing.

    The exit status is 0 even if questions are open. Damaged files are skipped with a warning; deploy.app refuses them.

    Args:
        study: folder with the files of one or more studies, or text file with a series name in each line.
        series_names: YAML file with the modality of each of the site's series names or patterns.
        modalities: modalities of the model, such as T1 for a stroke model; by default those of a tumour model.
        prepare: accept series from several frames of reference, as deploy.app --prepare does.
    """
    wanted = names_of(modalities)
    if unknown := [modality for modality in wanted if modality not in MODALITIES]:
        raise InputError(f"--modalities: {unknown[0]} is unknown; expected some of {','.join(MODALITIES)}")
    names = read_table(path_of("series_names", series_names) if series_names else None)
    path = path_of("study", study)
    if path.is_file():
        _show_names(path, names)
        return
    failed, studies = 0, studies_in(path, "study", accept_damaged=True)
    for number, (uid, paths) in enumerate(studies.items(), 1):
        show(f"study {number} of {len(studies)} (UID ...{uid[-8:]})")
        try:
            series = series_of(paths)
            for candidate in candidates_of(series, names):
                show(f"  {candidate.series.name}, {len(candidate.series.instances)} images: {candidate.reason}")
            choice = choose_series(series, wanted, {}, not prepare, names)
            show(*(f"  {name}: {chosen.name}; {choice.reasons[name]}" for name, chosen in choice.series.items()))
            show(*(f"  remark: {remark.text}" for remark in choice.remarks))
        except InputError as error:
            failed += 1
            show(f"  question: {error}")
    show(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, {failed} with a question")


def _show_names(path: Path, names: Names) -> None:
    """Print the modality of each series name in a text file, with the evidence; `doubtful` if this is unclear."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeError:
        lines = []
    if not any(lines):
        raise InputError("study: no UTF-8 text; expected a folder, or a text file with a series name on each line")
    for name in filter(None, lines):
        header = Dataset()
        header.SeriesDescription = name
        candidate = candidate_of_header(header, names)
        modality = "doubtful" if candidate.modality in (ASK, None) else candidate.modality
        show(f"{modality}: {name}: {candidate.reason}")


if __name__ == "__main__":
    restrict_output()
    run(preview, "deploy.series")
