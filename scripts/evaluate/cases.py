"""Find the files of each case to score: prediction, reference and image."""

import json
from collections.abc import Mapping
from pathlib import Path

from common.data import datalists
from common.data.modalities import first_image, images_of
from common.data.regions import CONVENTIONS, canonical, conventions_by_protocol
from common.errors import InputError, shortened
from common.files import reporting_path_errors
from common.inference.results import CaseFiles

SUFFIXES = (".nii.gz", ".nii")
Images = tuple[tuple[str, Path], ...]  # name and file of each modality
# The conventions of the table that each protocol accepts; all accept regions of one's own
SCORED = conventions_by_protocol() | {"dice": tuple(CONVENTIONS)}


def find_cases(
    predictions: str | Path,
    references: str | Path,
    protocol_name: str,
    missing: str | None = None,
    images: str | Path | None = None,
    dataset_dir: str | Path | None = None,
    split: str = "testing",
) -> list[CaseFiles]:
    """Find the cases of an evaluation, sorted by name. No file is opened, except a datalist.

    Args:
        predictions: folder of NIfTI files, CASE.nii.gz or CASE.nii. Files with another suffix are ignored.
        references: folder of files with the same names, or a datalist. The cases of a datalist are the subjects of a
            split; their reference is the label, their images are all that are listed.
        protocol_name: atlas, isles, brats or dice.
        missing: worst, to accept absent predictions.
        images: folder with CASE.nii.gz, CASE_*.nii.gz or CASE-*.nii.gz; of several the first in sorted order is used.
        dataset_dir: folder that the datalist's paths start from.
        split: of the datalist.

    Raises:
        InputError: a folder does not exist or has no NIfTI file; a folder is named like a case; a suffix is upper case;
            a case occurs twice; predictions are absent and `missing` is None; all predictions are absent; a prediction
            has no reference; a datalist breaks a rule of `common.data.Datalist.load`, has no labels, or follows a label
            convention that the protocol does not accept.
    """
    predicted = _nifti_files("predictions", predictions)
    listed: Mapping[str, Images] = {}
    with reporting_path_errors(f"--references={references}"):
        path = Path(str(references)).expanduser()
        is_datalist, exists = path.is_file(), path.exists()
    if is_datalist:
        labels, listed = _of_datalist(path, protocol_name, dataset_dir, split)
    else:
        for option, value, default in (("dataset_dir", dataset_dir, None), ("split", split, "testing")):
            if value != default:
                raise InputError(f"--{option}={value}: expected with a datalist as --references, which is {references}")
        if not exists:
            raise InputError(
                f"--references={references}: does not exist; expected a folder of NIfTI files or a datalist"
            )
        labels = _nifti_files("references", references)
        if path.samefile(Path(str(predictions)).expanduser()):
            raise InputError(f"--references={references}: the folder of --predictions; expected another one")
    _check_names(predicted, labels, predictions, missing)
    if images is not None:
        found: dict[str, Path] = {}  # the first image of each case, or the one of its name
        for name, file in _nifti_files("images", images, unique=False).items():
            ends = [len(name), *(place for place in range(len(name) - 1, 0, -1) if name[place] in "_-")]
            owner = next((name[:end] for end in ends if name[:end] in labels), None)  # the longest case name
            if owner is not None and (owner not in found or name == owner):
                found[owner] = file
        listed = {name: (("image", file),) for name, file in found.items()}
    cases = []
    for name, label in sorted(labels.items()):
        modalities = listed.get(name, ())
        image = next((file for _, file in modalities), None)
        cases.append(CaseFiles(name, predicted.get(name), label, image, modalities=modalities))
    return cases


def convention_of(protocol_name: str, references: str | Path, label_convention: str | None = None) -> str:
    """The label convention to read all files by.

    It is that of the datalist, or the given one; for a folder, a challenge's protocol has its own.

    Args:
        protocol_name: atlas, isles, brats or dice.
        references: folder of NIfTI files, or a datalist.
        label_convention: a name, or regions of one's own (see `common.data.regions`); for a folder only.

    Raises:
        InputError: a convention is missing, unknown, not one of the protocol's, or given where there is one already.
    """
    path = Path(str(references)).expanduser()
    if path.is_file():
        if label_convention is not None:
            raise InputError(f"--label_convention={label_convention}: expected with a folder only; {path} has its own")
        return str(datalists.read(path)["label_convention"])
    if label_convention is None:
        if protocol_name == "dice":
            names = ", ".join(CONVENTIONS)
            raise InputError(f"--label_convention: missing; expected that of the label maps, one of {names}")
        return SCORED[protocol_name][0]
    convention = canonical(str(label_convention))
    if not _scores(protocol_name, convention):
        expected = " or ".join(sorted(SCORED[protocol_name]))
        raise InputError(f"--label_convention={label_convention}: the protocol {protocol_name} scores {expected}")
    return convention


def _scores(protocol_name: str, convention: str | None) -> bool:
    """Whether a protocol scores a convention's regions; regions of one's own are scored by any."""
    return convention is not None and (convention not in CONVENTIONS or convention in SCORED[protocol_name])


def _nifti_files(option: str, folder: str | Path, unique: bool = True) -> dict[str, Path]:
    """The NIfTI files of a folder by name without suffix, in sorted order."""
    with reporting_path_errors(f"--{option}={folder}"):
        path = Path(str(folder)).expanduser()
        files = sorted(path.iterdir()) if path.is_dir() else None
    if files is None:
        raise InputError(f"--{option}={folder}: no such folder; expected one of NIfTI files")
    found: dict[str, Path] = {}
    for file in files:
        suffix = next((suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)), None)
        if suffix is None or file.name.startswith("."):
            continue
        if file.is_dir() or not file.name.endswith(suffix):
            if unique:  # ignored, the case would pass for absent, and may count as empty
                kind = "a folder" if file.is_dir() else "a suffix in capitals"
                raise InputError(f"--{option}={folder}: {json.dumps(file.name)}: {kind}; expected a file *{suffix}")
            continue
        name = file.name.removesuffix(suffix)
        if datalists.UNPRINTABLE.search(name):
            raise InputError(f"--{option}={folder}: {json.dumps(name)}: expected a name of one line in Unicode")
        if name in found and unique:
            raise InputError(f"--{option}={folder}: {found[name].name} and {file.name}; expected one file per case")
        found.setdefault(name, file)
    if not found:
        raise InputError(f"--{option}={folder}: no file that ends with .nii.gz or .nii; expected one for each case")
    return found


def _of_datalist(
    datalist: str | Path, protocol_name: str, dataset_dir: str | Path | None, split: str
) -> tuple[dict[str, Path], dict[str, Images]]:
    """Labels and images of a split's subjects; only the first image must exist."""
    if dataset_dir is None:
        raise InputError(f"--dataset_dir: missing; expected the folder that the paths of {datalist} start from")
    content = datalists.read(datalist)
    convention = content["label_convention"]
    if not _scores(protocol_name, convention):
        expected = " or ".join(sorted(SCORED[protocol_name]))
        raise InputError(f"--protocol={protocol_name}: the labels of {datalist} follow {convention}, not {expected}")
    entries = datalists.Datalist(datalist, dataset_dir).load(str(split), None, convention, must_exist=False, missing=())
    datalists.check_files([entry | {"image": [first_image(entry)]} for entry in entries], datalist)
    listed = {entry["subject"]: images_of(entry, content["modalities"]) for entry in entries}
    return {entry["subject"]: Path(entry["label"]) for entry in entries}, listed


def _check_names(
    predicted: Mapping[str, Path], labels: Mapping[str, Path], predictions: str | Path, missing: str | None
) -> None:
    absent, extra = sorted(labels.keys() - predicted.keys()), sorted(predicted.keys() - labels.keys())
    problems = []
    if absent and (missing is None or len(absent) == len(labels)):
        problems.append(f"no prediction for {len(absent)} of {len(labels)} cases: {shortened(absent)}")
    if extra:
        problems.append(f"no reference for {len(extra)} of {len(predicted)} predictions: {shortened(extra)}")
    if problems:
        hint = ", or --missing=worst" if absent and not extra and missing is None and len(absent) < len(labels) else ""
        raise InputError(f"--predictions={predictions}: {'; '.join(problems)}; expected one for each reference{hint}")
