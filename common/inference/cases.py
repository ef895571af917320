"""Find and check the cases of an inference run."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Transform

from .. import weights
from ..data import datalists
from ..data.layouts.listing import UNPRINTABLE, list_images, stem_of, walk
from ..data.layouts.names import Naming
from ..data.layouts.reading import recognised
from ..data.modalities import SPELLINGS, count_missing, missing_in
from ..errors import ArgumentError, InputError, show
from ..files import expand_home
from ..made import Results
from .segmentations import complete
from .tables import files_of, measured_in

NNUNET = re.compile("images(Tr|Ts)")  # folder of images CASE_0000.nii.gz


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

    In a folder, `common.data.layouts.reading.recognised` finds the scans; the results folder is skipped, and unused
    images are printed, with the reason. File names need no modality if the network has a single modality.

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
        InputError: the folder or datalist cannot be read; there is no case; the results folder is the scans' folder, or
            a subfolder with a file named like a scan (not checked for a single modality, because label maps are named
            like its scans); or, with skip, a result would overwrite a scan.
    """
    if datalist is not None:
        cases = datalists.Datalist(datalist, root).load(split, modalities, must_exist=False, missing=missing)
    else:
        cases = _cases_in(root, modalities, None if results is None else results.folder, missing)
    if results is None or existing != "skip":
        return cases
    files = {case["subject"]: files_of(case["subject"], results.folder, probabilities) for case in cases}
    _check_no_overwrite(cases, files)  # `check_results` does not see the scans of skipped cases
    done = complete(files)
    return [
        case for case in cases if case["subject"] not in done or not results.is_current(case["subject"], case["image"])
    ]


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
        InputError: a result exists already or would overwrite a scan; the folder holds results of different weights or
            settings; or two cases have the same subject.
    """
    files = {case["subject"]: files_of(case["subject"], results.folder, probabilities) for case in cases}
    if len(files) < len(cases):
        raise InputError(f"{len(cases)} cases of {len(files)} subjects; expected a different subject for each case")
    _check_no_overwrite(cases, files)
    results.check(measured_in(results.folder) - ({*files} if existing == "replace" else set()))
    present = [path for paths in files.values() for path in paths if path.exists()]
    if existing == "refuse" and present:
        count = f"{len(present)} results exist" if len(present) > 1 else "1 result exists"
        raise InputError(f"{count} already, first {present[0]}; expected existing=skip or replace")


def _check_no_overwrite(cases: Sequence[Mapping[str, Any]], results: Mapping[str, Sequence[Path]]) -> None:
    outputs = {path.parent.resolve() / path.name for paths in results.values() for path in paths}
    for case in cases:
        for image in filter(None, case["image"]):
            if Path(image).parent.resolve() / Path(image).name in outputs:
                raise InputError(f"{image}: a result would overwrite this scan; expected another output_dir")


def _cases_in(
    root: str | Path, modalities: Sequence[str], results: Path | None, missing: Sequence[str]
) -> list[dict[str, Any]]:
    folder = expand_home(root, f"--dataset_dir={root}").absolute()
    if not folder.is_dir():
        raise ArgumentError(f"dataset_dir={root}: no such folder; expected a folder with scans, or a datalist")
    if results is not None and results.resolve() == folder.resolve():
        raise ArgumentError(f"output_dir={results}: holds the scans; expected another folder, or a subfolder")
    naming = Naming(tuple(modalities), {modalities[0]: ""} if len(modalities) == 1 else {})
    if len(modalities) > 1 and results is not None and results.resolve().is_relative_to(folder.resolve()):
        names = [entry.name for entry in walk(results) if not entry.is_folder] if results.is_dir() else []
        scans = [name for name in names if (stem := stem_of(name)) and naming.parse(stem).kind in modalities]
        if scans:  # with a single modality, label maps are named like scans
            raise ArgumentError(f"output_dir={results}: holds the scan {scans[0]}; expected a folder without scans")
    data = recognised(list_images(folder, without=results), naming)
    if clashes := [clash for clash in data.clashes if clash.kind in modalities]:
        raise ArgumentError("dataset_dir", root, clashes[0], "one")
    show(*data.account(modalities, takes_labels=False))
    images = {
        subject.name: {name: str(folder / path) for name, path in subject.images.items()}
        for subject in data.subjects.values()
        if not subject.images.keys().isdisjoint(modalities)
    }
    if NNUNET.fullmatch(folder.name) and all(subject.endswith("_0000") for subject in images):
        images = {subject.removesuffix("_0000"): files for subject, files in images.items()}  # as in labelsTs
    for subject, files in images.items():
        if UNPRINTABLE.search(subject):
            problem = "its name contains a line break, control character or invalid Unicode"
            raise InputError(f"{next(iter(files.values()))!a}: {problem}")
    if not images:
        example = "SUBJECT.nii.gz" if len(modalities) == 1 else f"SUBJECT_{modalities[0].lower()}.nii.gz"
        raise ArgumentError(f"dataset_dir={root}: contains no scan; expected files such as {example}, or a datalist")
    return [
        {"subject": subject, "image": [None if name in missing else files.get(name, "") for name in modalities]}
        for subject, files in images.items()
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
    files = weights.checkpoint_files(checkpoint)
    needed = {name: file for file in files for name in _needed(weights.metadata_of(file), modalities)}
    for case in checked:
        lacking = [name for name, file in zip(modalities, case["image"], strict=True) if not file]
        if any(case["image"]) and needed.keys().isdisjoint(lacking):
            case["image"] = [file or None for file in case["image"]]
        if unfit := [name for name in missing_in(case, modalities) if name in needed]:
            trained = f"{needed[unfit[0]]} was trained only on subjects with {unfit[0]}"
            raise InputError(
                f"subject {case['subject']} lacks {', '.join(unfit)}; {trained}; "
                "expected complete subjects, or a checkpoint trained with modality_dropout above 0"
            )
    for names, count in count_missing(checked, modalities).items():
        show(f"missing: {names} in {count} subjects; results differ from those with all modalities")
    return checked


def _needed(metadata: Mapping[str, Any], modalities: Sequence[str]) -> list[str]:
    """Return the modalities that no training subject lacked; none after training with `modality_dropout`."""
    if metadata.get("modality_dropout"):
        return []
    return [name for name in modalities if name not in metadata.get("missing_modalities", ())]


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
        if paths == "":  # MONAI Label's path of an image that is not in its datastore
            raise InputError("unknown image; expected the name of an image that the server lists")
        paths = [paths] if isinstance(paths, str | Path) else paths
        files = [None if path is None else str(path) for path in paths]
        if len(files) != len(self.modalities):
            names = ", ".join(self.modalities)
            problem = f"the number of files for this subject is {len(files)}"
            raise InputError(files[0], problem, f"{len(self.modalities)}, one for each of {names}")
        for modality, file in zip(self.modalities, files, strict=True):
            if file is None:
                continue
            if not file:
                words = ", ".join(f"_{word}" for word in SPELLINGS.get(modality, (modality,)))
                raise InputError(f"no {modality}; expected a file whose name ends with {words}")
            named = Naming().parse(stem_of(Path(file).name) or "").kind
            if named != modality and named in self.modalities:
                raise InputError(f"{file}: its name says {named}; expected {modality} here")
        return data
