"""Dry run: `python -m deploy.series STUDY` prints the series that would be chosen, with the evidence."""

from pathlib import Path

from common.errors import choice, show
from common.values import names_of
from deploy.dicom.series.choice import MODALITIES, choose_series
from deploy.dicom.series.evidence import candidates_of
from deploy.dicom.series.names import read_table
from deploy.dicom.study import read_study
from deploy.process import restrict_output
from scripts.cli import run


def preview(study: str, series_names: str = "", modalities: str = ",".join(MODALITIES), prepare: bool = False) -> None:
    """Print the evidence for each series, then the series that would be chosen or an open question; write nothing.

    Args:
        study: folder with the files of a study.
        series_names: YAML file with the modality of each of the site's series names or patterns.
        modalities: modalities of the model, such as T1 for a stroke model; by default those of a tumour model.
        prepare: accept series from several frames of reference, as deploy.app --prepare does.
    """
    wanted = [choice("modalities", modality, MODALITIES) for modality in names_of(modalities)]
    names = read_table(Path(series_names) if series_names else None)
    series = read_study(Path(study))
    for candidate in candidates_of(series, names):
        show(f"{candidate.series.name}, {len(candidate.series.instances)} images: {candidate.reason}")
    selection = choose_series(series, wanted, {}, not prepare, names)
    show(*(f"{name}: {chosen.name}; {selection.reasons[name]}" for name, chosen in selection.series.items()))
    show(*(f"remark: {remark.text}" for remark in selection.remarks))


if __name__ == "__main__":
    restrict_output()
    run(preview, "deploy.series")
