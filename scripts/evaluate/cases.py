"""Find each case's files: prediction, reference and images."""

import json
from collections.abc import Mapping
from os.path import realpath
from pathlib import Path
from unicodedata import normalize

from common.data import datalists
from common.data.layouts.listing import stem_of
from common.data.modalities import first_image, images_of
from common.data.regions import canonical
from common.errors import InputError, shortened
from common.files import existing_folder, expand_home
from common.inference.results import CaseFiles
from common.metrics.cards import Protocol
from common.metrics.protocols import check_convention

BINARY = "lesion=1"  # default label convention of a folder of references
Images = tuple[tuple[str, Path], ...]  # name and file of each modality


def find_cases(
    predictions: str | Path,
    references: str | Path,
    protocol: Protocol | None,
    missing: str | None = None,
    dataset_dir: str | Path | None = None,
    split: str = "testing",
    label_convention: str | None = None,
) -> tuple[str, list[CaseFiles], str | None]:
    """Return an evaluation's label convention, cases (sorted by name) and split (None without a datalist).

    Images are not opened, and files that are no label maps are ignored. A datalist also gives images and the label
    convention, so `label_convention` is only for folders. Raise InputError if a file is missing or ambiguous, or if the
    convention is missing, unknown or not scored by `protocol` (None: any). With `missing="worst"`, some predictions may
    be missing, but not all.
    """
    predicted = label_maps("predictions", predictions)
    listed: Mapping[str, Images] = {}
    path = expand_home(references, f"--references={references}")
    is_datalist = path.is_file()
    for option, value, default, kind in (
        ("dataset_dir", dataset_dir, None, "datalist"),
        ("split", split, "testing", "datalist"),
        ("label_convention", label_convention, None, "folder"),
    ):
        if value != default and (kind == "datalist") != is_datalist:
            raise InputError(f"--{option}={value}: allowed only if --references is a {kind}, which {references} is not")
    if is_datalist:
        convention, labels, listed = _read_datalist(path, protocol, dataset_dir, split)
    else:
        convention = _convention_of(protocol, label_convention)
        labels = label_maps("references", references)
    _check_names(predicted, labels, predictions, missing)
    for name, file in predicted.items():
        if realpath(file) == realpath(labels[name]):
            raise InputError(f"--predictions={predictions}: {file.name} is the reference itself; expected a prediction")
    files = [CaseFiles(name, predicted.get(name), label, listed.get(name, ())) for name, label in labels.items()]
    return convention, sorted(files), split if is_datalist else None


def _convention_of(protocol: Protocol | None, label_convention: str | None) -> str:
    """Return a folder's label convention: `label_convention`, or else the protocol's first, or else `BINARY`."""
    if label_convention is None:
        return protocol.conventions[0] if protocol and protocol.conventions else BINARY
    convention = canonical(str(label_convention))
    if protocol is not None:
        check_convention(protocol.name, convention)
    return convention


def label_maps(option: str, folder: str | Path) -> dict[str, Path]:
    """Return a folder's label maps by case, sorted; raise an InputError, naming `option`, for a bad name or no file."""
    path = existing_folder(folder, f"--{option}={folder}", "a folder of label maps")
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if (name := stem_of(file.name)) is None:
            continue
        if file.is_dir() or datalists.UNPRINTABLE.search(name):
            # if ignored, the case would seem missing and might count as empty
            raise InputError(f"--{option}={folder}: {json.dumps(file.name)}; expected a file CASE.nii.gz")
        if name in files:
            raise InputError(f"--{option}={folder}: two files of one case: {files[name].name} and {file.name}")
        files[name] = file
    if not files:
        raise InputError(
            f"--{option}={folder}: no label map; expected CASE.nii.gz (or .nii, .mgz, .nrrd) for each case"
        )
    return files


def _read_datalist(
    datalist: str | Path, protocol: Protocol | None, dataset_dir: str | Path | None, split: str
) -> tuple[str, dict[str, Path], dict[str, Images]]:
    """Return the label convention, and the labels and images of a split by subject.

    Raise an InputError if a subject's label or first image is missing.
    """
    if dataset_dir is None:
        raise InputError(f"--dataset_dir: missing; expected the folder that paths in {datalist} are relative to")
    source = datalists.Datalist(datalist, dataset_dir)
    convention = source.content["label_convention"]
    if convention is None:
        raise InputError(f"{datalist}: label_convention null; expected the convention of the labels")
    if protocol is not None:
        check_convention(protocol.name, convention)
    entries = source.load(str(split), None, convention, must_exist=False, missing=())
    datalists.check_files([entry | {"image": [first_image(entry)]} for entry in entries], datalist)
    listed = {entry["subject"]: images_of(entry, source.content["modalities"]) for entry in entries}
    return convention, {entry["subject"]: Path(entry["label"]) for entry in entries}, listed


def _check_names(
    predicted: Mapping[str, Path], labels: Mapping[str, Path], predictions: str | Path, missing: str | None
) -> None:
    absent, extra = sorted(labels.keys() - predicted.keys()), sorted(predicted.keys() - labels.keys())
    if {normalize("NFC", name) for name in absent} & {normalize("NFC", name) for name in extra}:
        absent, extra = [*map(ascii, absent)], [*map(ascii, extra)]  # otherwise both would look the same
    problems = []
    if absent and (missing is None or len(absent) == len(labels)):
        problems.append(f"no prediction for {len(absent)} of {len(labels)} cases: {shortened(absent)}")
    if extra:
        problems.append(f"no reference for {len(extra)} of {len(predicted)} predictions: {shortened(extra)}")
    if problems:
        hint = ", or --missing=worst" if absent and not extra and missing is None and len(absent) < len(labels) else ""
        raise InputError(f"--predictions={predictions}: {'; '.join(problems)}; expected one for each reference{hint}")
