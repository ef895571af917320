"""Find each case's files: prediction, reference and images."""

from collections.abc import Mapping
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

from common.data import datalists
from common.data.layouts.listing import label_maps
from common.data.modalities import first_image, images_of
from common.data.regions import canonical
from common.errors import InputError, shortened
from common.files import expand_home
from common.metrics.cards import Protocol
from common.metrics.protocols import check_convention

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
    """Return an evaluation's label convention, and its cases sorted by name.

    Files that are no label maps are ignored. A datalist also gives images and the label convention, so
    `label_convention` is only for folders. Raise InputError if a file is missing or ambiguous, or if the convention is
    missing, unknown or not scored by `protocol` (None: any). With `missing="worst"`, some predictions may be missing,
    but not all.
    """
    predicted = label_maps("predictions", predictions)
    path, images = expand_home(references, f"--references={references}"), {}
    if path.is_file():
        if dataset_dir is None or label_convention is not None:
            problem = f"a datalist needs --dataset_dir, and states the label_convention ({label_convention})"
            raise InputError(f"--references={references}", problem)
        source = datalists.Datalist(path, dataset_dir)
        convention = source.content["label_convention"]
        if convention is None:
            raise InputError(path, "label_convention null", "the convention of the labels")
        entries = source.load(split, None, convention, must_exist=False, missing=())
        datalists.check_files([entry | {"image": [first_image(entry)]} for entry in entries], path)
        labels = {entry["subject"]: Path(entry["label"]) for entry in entries}
        images = {entry["subject"]: images_of(entry, source.content["modalities"]) for entry in entries}
    else:
        default = protocol.conventions[0] if protocol and protocol.conventions else BINARY
        convention = canonical(str(label_convention or default))
        labels = label_maps("references", references)
    if protocol is not None:
        check_convention(protocol.name, convention)
    _check_names(predicted, labels, predictions, missing)
    for name, file in predicted.items():
        if realpath(file) == realpath(labels[name]):
            raise InputError(f"--predictions={predictions}", f"{file.name} is the reference itself", "a prediction")
    cases = [Case(name, predicted.get(name), label, images.get(name, ())) for name, label in labels.items()]
    return convention, sorted(cases)


def _check_names(
    predicted: Mapping[str, Path], labels: Mapping[str, Path], predictions: str, missing: str | None
) -> None:
    absent, extra = sorted(labels.keys() - predicted.keys()), sorted(predicted.keys() - labels.keys())
    problems = []
    if absent and (missing is None or len(absent) == len(labels)):
        problems.append(f"no prediction for {len(absent)} of {len(labels)} cases: {shortened(absent)}")
    if extra:
        problems.append(f"no reference for {len(extra)} of {len(predicted)} predictions: {shortened(extra)}")
    if problems:
        raise InputError(
            f"--predictions={predictions}", "; ".join(problems), "one for each reference, or --missing=worst"
        )
