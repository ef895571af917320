"""Find and check the cases of an inference run, and evaluate them; a failed case does not stop the rest."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.engines import SupervisedEvaluator

from .. import weights
from ..data import datalists
from ..data.names import ANY, ENTITIES, SUFFIX, count_missing, in_folders, missing_in, modality_of, split_name
from ..errors import ArgumentError, InputError, is_disk_full, one_line, shortened, show
from ..files import existing_folder
from ..made import MADE, Results
from .outputs import files_of

# End of a label map's name without suffix
MASK = re.compile(r"(?:^|[_.\- ])(?:(?:d|prob)?seg\w*|labels?|masks?|lesions?|roi|gt)$", re.IGNORECASE)


def find_cases(
    root: str | Path,
    modalities: Sequence[str],
    datalist: str | Path | None = None,
    split: str = "testing",
    output_dir: str | Path | None = None,
    missing: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Find the cases to segment: a split of a datalist, or every scan in the folder `root` and its subfolders.

    In a folder, scans are SUBJECT_MODALITY.nii.gz, or MODALITY.nii.gz in SUBJECT or SUBJECT/VISIT; for a network of a
    single modality, names need none. `output_dir` is skipped, and unused images are printed. `python -m
    scripts.datalists` reads other layouts. Raise `InputError` if there is none, or two of a modality.

    Returns:
        A dictionary for each subject: "subject", and "image": absolute paths in the order of `modalities`, None for
        missing ones, and for those in `missing`.
    """
    if datalist is not None:
        return datalists.Datalist(datalist, root).load(split, modalities, must_exist=False, missing=missing)
    folder = existing_folder(root, f"--dataset_dir={root}", "a folder with scans, or a datalist").absolute()
    output = None if output_dir is None else Path(output_dir).absolute()
    subjects: dict[str, dict[str, str]] = {}
    unused = []
    for file in sorted(folder.rglob("*")):
        path, stem, prefix = file.relative_to(folder), SUFFIX.sub("", file.name), f"{file.parent.name}_"
        folders, is_hidden = path.parts[:-1], any(part.startswith(".") for part in path.parts)
        if file.is_symlink() and file.is_dir():
            show(f"not used: {path}, a link to a folder; python -m scripts.datalists follows links")
        if stem == file.name or is_hidden or output in file.parents:
            continue
        start = prefix if stem.startswith(prefix) else ""  # so that P1_T2/P1_T2_FLAIR is FLAIR of the visit P1_T2
        rest, modality = split_name(stem.removeprefix(start))
        subject = start + rest if rest else start[:-1] or "_".join(folders) or file.parent.name
        if len(modalities) == 1 and modality is None and not MASK.search(subject):
            parts = [ENTITIES.sub("", stem[: gap.start()]) for gap in re.finditer(r"[_.\- ]", stem)]  # P1, P1_FLAIR
            stated = [*map(modality_of, folders), *(split_name(part)[1] for part in parts)]  # FLAIR in P1_FLAIR_brain
            known = [kind for kind in stated if kind not in (None, "PD")]  # PD is also Parkinson's disease
            modality = known[-1] if known and ANY not in modalities else modalities[0]
        modality = in_folders(modality, [*folders, stem])  # T1ce in Gd/T1
        if modality is None or modality not in modalities:
            unused.append(path.as_posix())
            continue
        images = subjects.setdefault(subject, {})
        first = images.get(str(modality), next(iter(images.values()), str(file)))
        if str(modality) in images or Path(first).parent != file.parent:  # different folders are different visits
            raise ArgumentError("dataset_dir", root, f"{first} and {file} are of one subject", "one file in one folder")
        images[str(modality)] = str(file)
    if unused:
        show(f"not used, as their names state no modality of this network: {shortened(unused)}")
    if not subjects:
        raise ArgumentError("dataset_dir", root, "contains no scan", f"files such as SUBJECT_{modalities[0]}.nii.gz")
    return [
        {"subject": subject, "image": [None if name in missing else images.get(name) for name in modalities]}
        for subject, images in subjects.items()
    ]


def pending_cases(
    cases: Sequence[Mapping[str, Any]], results: Results, existing: str = "refuse", probabilities: bool = False
) -> Sequence[Mapping[str, Any]]:
    """Return the cases to segment; `existing` skip leaves out those with results from the same scans.

    Raise `InputError` if a result exists already (unless `existing` is skip or replace) or would overwrite a scan, or
    if the folder keeps results of different weights or settings.
    """
    files = {case["subject"]: files_of(case["subject"], results.folder, probabilities) for case in cases}
    scans = {Path(image).resolve() for case in cases for image in case["image"] if image}
    for file in [file for paths in files.values() for file in paths]:
        if file.resolve() in scans:
            raise InputError(file, "a result would overwrite this scan", "another output_dir")
    present = [subject for subject, paths in files.items() if any(file.exists() for file in paths)]
    whole = {subject for subject in present if all(file.exists() for file in files[subject])}
    if existing == "refuse" and present:
        raise InputError(results.folder, f"has results of {shortened(present)}", "existing=skip or replace")
    kept = {file.name.removesuffix(".nii.gz") for file in results.folder.glob("*.nii.gz")}
    if existing == "replace":
        kept -= files.keys()
    if kept and not results.is_same_origin:
        problem = f"{shortened(sorted(kept))}: of different weights or settings ({MADE})"
        raise InputError(results.folder, problem, "a different output_dir, or existing=replace for all of these")
    if existing != "skip":
        return cases
    done = {it["subject"] for it in cases if it["subject"] in whole and results.is_current(it["subject"], it["image"])}
    return [case for case in cases if case["subject"] not in done]


def check_missing(
    cases: Sequence[Mapping[str, Any]], modalities: Sequence[str], checkpoint: str | Path | Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """Return the cases; raise `InputError` if one lacks a modality that a network needs; print how many lack which.

    A network works without a modality if it was trained with `modality_dropout`, or on some subjects without it.
    """
    lacking = count_missing(cases, modalities)
    for file in weights.checkpoint_files(checkpoint) if lacking else ():
        metadata = weights.metadata_of(file)
        spared = modalities if metadata.get("modality_dropout") else metadata.get("missing_modalities", ())
        for case in cases:
            if unfit := [name for name in missing_in(case, modalities) if name not in spared]:
                problem = f"lacks {', '.join(unfit)}; {file} was trained only on subjects with {unfit[0]}"
                expected = "complete subjects, or a checkpoint trained with modality_dropout above 0"
                raise InputError(f"subject {case['subject']}", problem, expected)
    for names, count in lacking.items():
        show(f"missing: {names} in {count} subjects; results differ from those with all modalities")
    return cases


class Predictor(SupervisedEvaluator):
    """MONAI's evaluator for batches of a single case: failed cases are reported on stderr, and the rest continue.

    The run ends with status 1 if a case failed, at once if the disk is full or read-only.
    """

    def __init__(self, val_data_loader: Any, **kwargs: Any) -> None:
        super().__init__(val_data_loader=val_data_loader, **kwargs)
        self.loader, self.failures = val_data_loader, 0

    def run(self, global_epoch: int = 1) -> None:
        if not len(self.loader):
            show("nothing to do: every case has a result")
            return
        self.data_loader = self._attempts()
        super().run(global_epoch)
        if self.failures:
            show(f"{self.failures} of {len(self.loader)} cases failed", error=True)
            raise SystemExit(1)

    def _attempts(self) -> Iterator[Any]:
        """Yield each batch of the loader, or the exception that reading it raised."""
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            try:
                yield next(batches)
            except (InputError, MemoryError) as error:  # of a case; other errors are of the loader itself
                yield error

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        try:
            if isinstance(batchdata, Exception):
                raise batchdata
            return super()._iteration(engine, batchdata)
        except Exception as error:  # a failed case must not stop the next
            if is_disk_full(error):
                raise
            subject = "" if error is batchdata else f"subject {batchdata['subject'][0]}: "
            show(f"failed: {subject}{one_line(error)}", error=True)
            self.failures += 1
            self.state.output = self.state.batch = []  # so that handlers see no case
            return []
