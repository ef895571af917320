"""Find each case's files: prediction, reference and images."""

from pathlib import Path
from typing import NamedTuple

from common.data import datalists
from common.data.names import files_in, images_of
from common.data.regions import canonical
from common.errors import InputError, shortened
from common.files import existing_folder
from common.metrics.protocols import Protocol, check_convention
from scripts.layouts.listing import stem_of

BINARY = "lesion=1"  # default label convention of a folder of references


class Case(NamedTuple):
    """The files of a case; `prediction` None counts as empty, `images` are pairs of modality and file."""

    name: str
    prediction: Path | None
    reference: Path
    images: tuple[tuple[str, Path], ...] = ()


def find_cases(
    predictions: str,
    references: str,
    protocol: Protocol | None,
    missing: str | None = None,
    dataset_dir: str | None = None,
    split: str = "testing",
    label_convention: str | None = None,
) -> tuple[str, list[Case]]:
    """Return an evaluation's label convention, and its cases sorted by name; see `scripts.evaluate` for the options.

    Raise InputError if a file is missing, or if the convention is unknown or not scored by `protocol` (None: any).
    """
    predicted = label_maps("predictions", predictions)
    path, images = Path(references).expanduser(), {}
    if path.is_file() != (dataset_dir is not None) or None not in (dataset_dir, label_convention):
        expected = "a datalist with --dataset_dir, or a folder, perhaps with --label_convention"
        raise InputError(f"--references={references}", expected=expected)
    if dataset_dir is not None:
        source = datalists.Datalist(path, dataset_dir)
        convention = source.content["label_convention"]
        if convention is None:
            raise InputError(path, "label_convention null", "the convention of the labels")
        entries = source.load(split, None, convention, must_exist=False, missing=())
        datalists.check_files([entry | {"image": [files_in(entry)[0]]} for entry in entries], path)
        labels = {entry["subject"]: Path(entry["label"]) for entry in entries}
        images = {entry["subject"]: images_of(entry, source.content["modalities"]) for entry in entries}
    else:
        default = protocol.conventions[0] if protocol and protocol.conventions else BINARY
        convention = canonical(str(label_convention or default))
        labels = label_maps("references", references)
    if protocol is not None:
        check_convention(protocol.name, convention)
    absent, extra = sorted(labels.keys() - predicted.keys()), sorted(predicted.keys() - labels.keys())
    if extra or (absent and (missing is None or len(absent) == len(labels))):
        problem = f"no prediction for {len(absent)} cases ({shortened(absent)}), no reference for {len(extra)}"
        expected = "one for each reference, or --missing=worst"
        raise InputError(f"--predictions={predictions}", f"{problem} ({shortened(extra)})", expected)
    for name, file in predicted.items():
        if file.resolve() == labels[name].resolve():
            raise InputError(f"--predictions={predictions}", f"{file.name} is the reference itself", "a prediction")
    cases = [Case(name, predicted.get(name), label, images.get(name, ())) for name, label in labels.items()]
    return convention, sorted(cases)


def label_maps(option: str, folder: str | Path) -> dict[str, Path]:
    """Return a folder's label maps by case, sorted; raise an InputError, naming `option`, for a bad name or no file."""
    files: dict[str, Path] = {}
    for file in sorted(existing_folder(folder, f"--{option}={folder}", "a folder of label maps").iterdir()):
        if name := stem_of(file.name):
            if file.is_dir() or name in files:  # ignored, the case might count as empty
                raise InputError(f"--{option}={folder}", f"{file.name}: a folder, or a second file of its case")
            files[name] = file
    if not files:
        raise InputError(f"--{option}={folder}", "no label map", "CASE.nii.gz (or .nii, .mgz) for each case")
    return files
