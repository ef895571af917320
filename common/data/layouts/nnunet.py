"""nnU-Net's raw data sets, versions 1 and 2: imagesTr, labelsTr, imagesTs and dataset.json.

nnU-Net's documentation/dataset_format.md and region_based_training.md define the format.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, InputError, show
from ...files import valid_json
from ..datalists import UNPRINTABLE
from ..modalities import modality_of
from ..regions import declaration
from .found import DataSet, files_in
from .names import LABEL, Naming, plain_name

LABELS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}
CASE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})", re.DOTALL)
ENDINGS = (".nii.gz", ".nii")
_VALUE = {"type": "integer", "minimum": 0}
_NAMES = {"type": "object", "minProperties": 1, "propertyNames": {"pattern": r"^\d+$"}}
SCHEMA = {
    "type": "object",
    "required": ["labels"],
    "anyOf": [{"required": ["channel_names"]}, {"required": ["modality"]}],
    "properties": {
        "channel_names": _NAMES | {"additionalProperties": {"type": "string", "minLength": 1}},
        "modality": _NAMES | {"additionalProperties": {"type": "string", "minLength": 1}},
        "labels": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "string"}, _VALUE, {"type": "array", "items": _VALUE, "minItems": 1}]
            },
        },
        "file_ending": {"type": "string"},
        "dataset": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": {"type": "array", "items": {"type": "string"}}, "label": {"type": "string"}},
            },
        },
    },
}


def is_nnunet(root: str) -> bool:
    """Whether the root is a raw data set of nnU-Net."""
    return Path(root, "imagesTr").is_dir() or Path(root, "dataset.json").is_file()


def read_nnunet(root: Path, naming: Naming, states_regions: bool) -> DataSet:
    """The cases of a raw data set; channels become modalities, and labels become regions.

    `states_regions` takes the regions from dataset.json. InputError: dataset.json is invalid or does not match the
    files.
    """
    file = root / "dataset.json"
    content = _read(file)
    modalities = _modalities(content, naming, file)
    data = DataSet(str(root), "nnU-Net raw", order=list(dict.fromkeys(filter(None, modalities))))
    if states_regions:
        data.convention = _convention(content, file)
    if "dataset" in content:
        _put_listed(data, content["dataset"], modalities, file)
    else:
        for images, labels in LABELS.items():
            if images == "imagesTr" or (root / images).is_dir():
                _put_folder(data, images, labels, modalities)
    return data


def _read(file: Path) -> dict[str, Any]:
    content = valid_json(file, "nnU-Net's description of the data set", SCHEMA)
    for text in [*content["labels"], *content.get("channel_names", content.get("modality")).values()]:
        if UNPRINTABLE.search(text):
            raise InputError(f"{file}: {json.dumps(text)[:80]}: expected text of one line in Unicode")
    ending = content.get("file_ending", ENDINGS[0])
    if ending not in ENDINGS:
        raise InputError(f"{file}: file_ending={ending}: expected {' or '.join(ENDINGS)}, NIfTI")
    return dict(content)


def _modalities(content: Mapping[str, Any], naming: Naming, file: Path) -> list[str | None]:
    """The modality of each channel; None for channels that `--modalities` leaves out."""
    channels = content.get("channel_names", content.get("modality"))
    names = [channels[key] for key in sorted(channels, key=int)]
    if sorted(map(int, channels)) != list(range(len(channels))):
        raise InputError(f"{file}: channels {', '.join(channels)}; expected 0 to {len(channels) - 1}")
    words = {text.lower(): modality for modality, text in naming.spelled.items()}
    if naming.spelled:
        found = [words.get(name.lower()) for name in names]
        for modality, text in naming.spelled.items():
            if modality not in found:
                given = f"--modalities={modality}={text}"
                raise InputError(f"{given}: no channel of this name in {file}; expected one of {', '.join(names)}")
    else:
        found = [modality_of(name) or name for name in names]
    for modality in filter(None, found):
        if found.count(modality) > 1:
            alike = " and ".join(name for name, each in zip(names, found, strict=True) if each == modality)
            raise InputError(
                f"{file}: channels {alike} are both {modality}; expected one, or --modalities={modality}=NAME"
            )
    return found


def _convention(content: Mapping[str, Any], file: Path) -> str:
    """The label convention from `labels`: name -> values in version 2, value -> name in version 1."""
    labels = content["labels"]
    if labels and all(isinstance(name, str) for name in labels.values()):
        if not all(re.fullmatch(r"\d+", value) for value in labels):
            raise InputError(f"{file}: labels {json.dumps(labels)[:80]}: expected values by name, or names by value")
        labels = {name: int(value) for value, name in labels.items()}
    regions: dict[str, list[int]] = {}
    for name, given in labels.items():
        values = given if isinstance(given, list) else [given]
        if name == "ignore":
            raise InputError(
                f"{file}: labels: ignore={given}: these networks learn from every voxel; expected none, or --regions"
            )
        if name == "background" or values == [0]:
            if values != [0]:
                raise InputError(f"{file}: labels: background={given}: expected 0")
            continue
        if not all(type(value) is int for value in values) or (plain := plain_name(name)) in regions:
            raise InputError(f"{file}: labels: {name}={given}: expected label values, and another name than the others")
        regions[plain] = sorted(set(values))
        if plain != name:
            show(f"{file.name}: the region {name} is called {plain} here")
    if not regions:
        raise InputError(f"{file}: labels: only background; expected a region")
    try:
        return declaration(regions)
    except ArgumentError as error:
        raise InputError(f"{file}: {error}") from error


def _put_folder(data: DataSet, images: str, labels: str, modalities: Sequence[str | None]) -> None:
    """The cases of imagesTr or imagesTs, with their labels."""
    before = set(data.subjects)
    bare: list[str] = []
    for path, stem in files_in(data.root, images):
        name = CASE.fullmatch(stem)
        if name is None:
            bare.append(path)
            continue
        if name["case"] in before:
            raise InputError(f"--root={data.root}: {name['case']} is in imagesTr and in {images}; expected it in one")
        channel = int(name["channel"])
        if channel >= len(modalities):
            known = f"channels 0000 to {len(modalities) - 1:04d}"
            raise InputError(f"--root={data.root}: {path}: not a channel of dataset.json; expected {known}")
        if (modality := modalities[channel]) is not None:
            data.put(name["case"], modality, [path])
    if bare and len(data.subjects) == len(before):
        raise InputError(
            f"--root={data.root}: {bare[0]} has no channel; expected a file for each, such as "
            f"{images}/CASE_0000.nii.gz (for the Decathlon's 4D files, nnUNetv2_convert_MSD_dataset)"
        )
    data.skipped += bare
    if (Path(data.root) / labels).is_dir():
        for path, stem in files_in(data.root, labels):
            data.put(stem, LABEL, [path])
    if images == "imagesTs":
        data.held_out |= data.subjects.keys() - before


def _put_listed(data: DataSet, cases: Mapping[str, Any], modalities: Sequence[str | None], file: Path) -> None:
    """The cases that dataset.json lists with their files."""
    for case, files in cases.items():
        if len(files["images"]) != len(modalities):
            raise InputError(f"{file}: dataset.{case}.images: expected {len(modalities)} files, one for each channel")
        for modality, path in zip(modalities, files["images"], strict=True):
            if modality is not None:
                data.put(case, modality, [_below(data.root, path, file)])
        if "label" in files:
            data.put(case, LABEL, [_below(data.root, files["label"], file)])


def _below(root: str, path: str, file: Path) -> str:
    """A path in dataset.json, relative to the root."""
    relative = os.path.relpath(os.path.join(root, path), root)  # noqa: PTH118
    if relative.startswith(".."):
        raise InputError(f"{file}: {path}: expected a file below {root}")
    return relative
