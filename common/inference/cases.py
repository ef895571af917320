"""Find and check the cases of an inference run."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Transform

from .. import weights
from ..data import datalists
from ..data.modalities import SPELLINGS, count_missing, missing_in, split_name
from ..data.volumes import open_volume, read_voxels
from ..errors import ArgumentError, InputError, shortened, show
from ..files import existing_folder
from ..made import Results
from .segmentations import files_of

SCAN = re.compile(r"([^.].*?)\.(?:nii(?:\.gz)?|mg[hz]|nrrd)", re.IGNORECASE)  # file name without suffix
MASK = re.compile(
    r"(?:^|[_.\- ])(?:d?seg\w*|labels?|masks?|lesions?|roi|gt)$", re.IGNORECASE
)  # of names without modality


def find_cases(
    root: str | Path,
    modalities: Sequence[str],
    datalist: str | Path | None = None,
    split: str = "testing",
    results: Results | None = None,
    existing: str = "refuse",
    probabilities: bool = False,
    missing: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Find the cases to segment: a split of a datalist, or every scan in a folder and its subfolders.

    In a folder, scans are SUBJECT_MODALITY.nii.gz, or MODALITY.nii.gz in a folder SUBJECT; the results folder is
    skipped, and unused images are printed. Names need no modality if the network has a single modality.
    `python -m scripts.datalists` reads other layouts.

    Args:
        root: Folder of the scans; paths in a datalist are relative to it.
        modalities: Modalities of the network, in channel order.
        datalist: JSON file; None to search the folder.
        split: Split of the datalist.
        results: Folder of the results, with their `made.json`; None: no folder.
        existing: skip leaves out subjects with complete results from the same scans; refuse and replace keep them.
        probabilities: Whether probability maps count as results.
        missing: Modalities to leave out of every subject.

    Returns:
        A dictionary for each subject: "subject", and "image": absolute paths in the order of `modalities`, None for
            modalities missing in the datalist or listed in `missing`, and "" for files missing in a folder, which
            `check_missing` or `CheckFilesd` handles.

    Raises:
        InputError: the folder or datalist cannot be read; there is no case; a subject has two files of a modality; the
            results folder is the scans' folder; or, with skip, a result would overwrite a scan.
    """
    if datalist is not None:
        cases = datalists.Datalist(datalist, root).load(split, modalities, must_exist=False, missing=missing)
    else:
        cases = _cases_in(root, modalities, None if results is None else results.folder, missing)
    if results is None or existing != "skip":
        return cases
    _check_no_overwrite(cases, results, probabilities)  # `check_results` does not see the scans of skipped cases
    return [case for case in cases if not _is_done(case, results, probabilities)]


def _is_done(case: Mapping[str, Any], results: Results, probabilities: bool) -> bool:
    """Return whether a case has complete results from the same scans; print damaged results."""
    files = files_of(case["subject"], results.folder, probabilities)
    if not (all(file.exists() for file in files) and results.is_current(case["subject"], case["image"])):
        return False
    try:
        for file in files:
            read_voxels(open_volume(file), file)
    except Exception:  # damaged files raise many exceptions
        show(f"damaged result, to be replaced: {file}")
        return False
    return True


def check_results(
    cases: Sequence[Mapping[str, Any]], results: Results, existing: str = "refuse", probabilities: bool = False
) -> None:
    """Check, before inference, that its results may be written.

    Args:
        cases: Cases to segment.
        results: Folder of the results, with their `made.json`.
        existing: Treatment of existing results of these cases: refuse raises an error; skip and replace overwrite them.
        probabilities: Whether probability maps count as results.

    Raises:
        InputError: a result exists already or would overwrite a scan; or the folder holds results of different weights
            or settings.
    """
    _check_no_overwrite(cases, results, probabilities)
    replaced = {case["subject"] for case in cases} if existing == "replace" else set()
    results.check({file.name.removesuffix(".nii.gz") for file in results.folder.glob("*.nii.gz")} - replaced)
    files = [file for case in cases for file in files_of(case["subject"], results.folder, probabilities)]
    if existing == "refuse" and (present := [str(file) for file in files if file.exists()]):
        raise InputError(shortened(present), "exist already", "existing=skip or replace")


def _check_no_overwrite(cases: Sequence[Mapping[str, Any]], results: Results, probabilities: bool) -> None:
    files = [file for case in cases for file in files_of(case["subject"], results.folder, probabilities)]
    outputs = {file.parent.resolve() / file.name for file in files}
    for image in (image for case in cases for image in case["image"] if image):
        if Path(image).parent.resolve() / Path(image).name in outputs:
            raise InputError(image, "a result would overwrite this scan", "another output_dir")


def _cases_in(
    root: str | Path, modalities: Sequence[str], results: Path | None, missing: Sequence[str]
) -> list[dict[str, Any]]:
    folder = existing_folder(root, f"--dataset_dir={root}", "a folder with scans, or a datalist").absolute()
    if results is not None and results.resolve() == folder.resolve():
        raise ArgumentError("output_dir", results, "holds the scans", "another folder, or a subfolder")
    subjects: dict[str, dict[str, str]] = {}
    unused = []
    for file in sorted(folder.rglob("*")):
        if not (match := SCAN.fullmatch(file.name)) or (results is not None and results.absolute() in file.parents):
            continue
        subject, modality = split_name(match[1])
        if modality is None and len(modalities) == 1 and not MASK.search(match[1]):
            modality = modalities[0]
        if modality not in modalities:
            unused.append(file.relative_to(folder).as_posix())
            continue
        images = subjects.setdefault(subject or file.parent.name, {})
        if str(modality) in images:
            raise ArgumentError(
                "dataset_dir", root, f"{images[str(modality)]} and {file} are of one subject", "one file"
            )
        images[str(modality)] = str(file)
    if unused:
        show(f"not used, as their names state no modality of this network: {shortened(unused)}")
    if not subjects:
        example = "SUBJECT.nii.gz" if len(modalities) == 1 else f"SUBJECT_{modalities[0].lower()}.nii.gz"
        raise ArgumentError("dataset_dir", root, "contains no scan", f"files such as {example}, or a datalist")
    return [
        {"subject": subject, "image": [None if name in missing else images.get(name, "") for name in modalities]}
        for subject, images in subjects.items()
    ]


def check_missing(
    cases: Sequence[Mapping[str, Any]], modalities: Sequence[str], checkpoint: str | Path | Sequence[str]
) -> list[dict[str, Any]]:
    """Check that a network works without the modalities that cases lack; print how many cases lack which.

    The network must have been trained with `modality_dropout`, or on some subjects without these modalities.

    Args:
        cases: Cases as returned by `find_cases` and `common.data.Datalist.load`.
        modalities: Modalities of the network, in channel order.
        checkpoint: File or list of files; all are checked.

    Returns:
        The cases. "" (no file in a folder) becomes None if the modality is not needed; `CheckFilesd` refuses "".

    Raises:
        InputError: a modality that the network needs is None in a case (missing in the datalist, or left out on
            request), or a checkpoint cannot be read.
    """
    checked = [dict(case) for case in cases]
    if all(all(case["image"]) for case in checked):
        return checked
    needed: dict[str, Path] = {}
    for file in weights.checkpoint_files(checkpoint):
        metadata = weights.metadata_of(file)
        spared = modalities if metadata.get("modality_dropout") else metadata.get("missing_modalities", ())
        needed |= {name: file for name in modalities if name not in spared}
    for case in checked:
        lacking = [name for name, file in zip(modalities, case["image"], strict=True) if not file]
        if any(case["image"]) and needed.keys().isdisjoint(lacking):
            case["image"] = [file or None for file in case["image"]]
        if unfit := [name for name in missing_in(case, modalities) if name in needed]:
            problem = f"lacks {', '.join(unfit)}; {needed[unfit[0]]} was trained only on subjects with {unfit[0]}"
            expected = "complete subjects, or a checkpoint trained with modality_dropout above 0"
            raise InputError(f"subject {case['subject']}", problem, expected)
    for names, count in count_missing(checked, modalities).items():
        show(f"missing: {names} in {count} subjects; results differ from those with all modalities")
    return checked


class CheckFilesd(Transform):
    """Check the files of a case before they are read.

    MONAI Label's server passes a single path instead of a list, and no "subject".

    Args:
        keys: Key of the list of files in the order of `modalities`, or of a single path.
        modalities: Modalities of the network, in channel order.

    Raises:
        InputError: a file is missing, or its name states a different modality.
    """

    def __init__(self, keys: str, modalities: Sequence[str]) -> None:
        self.key, self.modalities = keys, list(modalities)

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        paths = data[self.key]
        files = [None if path is None else str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        if len(files) != len(self.modalities):
            problem, names = f"{len(files)} files for this subject", ", ".join(self.modalities)
            raise InputError(files[0], problem, f"{len(self.modalities)}, one for each of {names}")
        for modality, file in zip(self.modalities, files, strict=True):
            if file == "":
                words = ", ".join(f"_{word}" for word in SPELLINGS.get(modality, (modality,)))
                raise InputError(f"no {modality}", expected=f"a file whose name ends with {words}")
            match = SCAN.fullmatch(Path(file or "").name)
            named = split_name(match[1])[1] if match else None
            if named != modality and named in self.modalities:
                raise InputError(file, f"its name says {named}", f"{modality} here")
        return data
