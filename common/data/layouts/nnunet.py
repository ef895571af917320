"""nnU-Net's raw data sets, version 2: imagesTr, labelsTr, imagesTs and dataset.json.

nnU-Net's documentation/dataset_format.md and region_based_training.md define the format.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError, show, within
from ...files import valid_json
from ..modalities import modality_of
from ..regions import declaration
from .files import FileLayout
from .listing import Listing
from .names import LABEL, Naming, plain_name
from .subjects import DataSet

CHANNEL = re.compile(r"imagesT[rs]/.+_(\d{4})")
_VALUE = {"type": "integer", "minimum": 0}
SCHEMA = {
    "type": "object",
    "required": ["channel_names", "labels"],
    "properties": {
        "channel_names": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"^\d+$"},
            "additionalProperties": {"type": "string", "minLength": 1},
        },
        "labels": {
            "type": "object",
            "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1}]},
        },
        "file_ending": {"enum": [".nii.gz", ".nii", ".nrrd"]},
    },
}


def is_nnunet(listing: Listing) -> bool:
    """Whether the root is a raw data set of nnU-Net."""
    return "imagesTr" in listing.folders or Path(listing.root, "dataset.json").is_file()


def _description(file: Path) -> dict[str, Any]:
    """The content of dataset.json."""
    return dict(valid_json(file, "nnU-Net's description of a data set of NIfTI files, version 2", SCHEMA))


def read_nnunet(listing: Listing, naming: Naming) -> DataSet:
    """The cases of a raw data set; channels become modalities."""
    file = Path(listing.root, "dataset.json")
    channels = {file.path: CHANNEL.fullmatch(file.bare) for file in listing.files if file.path.startswith("images")}
    if channels and not any(channels.values()):
        raise InputError(
            f"--root={listing.root}: {next(iter(channels))} and the others have all channels in one file, as in the "
            "Medical Segmentation Decathlon; expected python -m scripts.datalists decathlon "
            f"--root={listing.root} first"
        )
    modalities = _modalities(_description(file)["channel_names"], naming, file)
    for path, channel in channels.items():
        if channel is not None and int(channel[1]) >= len(modalities):
            known = f"channels 0000 to {len(modalities) - 1:04d}"
            raise InputError(f"--root={listing.root}: {path}: not a channel of dataset.json; expected {known}")
    images = {modality: f"images{{part}}/{{case}}_{channel:04d}" for channel, modality in enumerate(modalities)}
    fields = {"part": "Tr|Ts", "case": "[^/]+"}
    layout = FileLayout("nnU-Net raw", {**images, LABEL: "labels{part}/{case}"}, "{case}", fields)
    data = layout.read(listing)
    of_test = {file.path for file in listing.files if file.folders in (["imagesTs"], ["labelsTs"])}
    data.held_out = {name for name, case in data.subjects.items() if not of_test.isdisjoint(case.files.values())}
    return data


def _modalities(channels: Mapping[str, str], naming: Naming, file: Path) -> list[str]:
    """The modality of each channel; its number for channels that `--modalities` leaves out."""
    names = [channels[key] for key in sorted(channels, key=int)]
    if sorted(map(int, channels)) != list(range(len(channels))):
        raise InputError(f"{file}: channels {', '.join(channels)}; expected 0 to {len(channels) - 1}")
    words = {text.lower(): modality for modality, text in naming.spelled.items()}
    usual = {name: modality_of(name) or name for name in names}
    found = [
        words.get(name.lower(), usual[name] if naming.takes(usual[name]) else f"channel {number}")
        for number, name in enumerate(names)
    ]
    for modality, text in naming.spelled.items():
        if modality not in found:
            given = f"--modalities={modality}={text}"
            raise InputError(f"{given}: no channel of this name in {file}; expected one of {', '.join(names)}")
    for modality in found:
        if found.count(modality) > 1:
            alike = " and ".join(name for name, each in zip(names, found, strict=True) if each == modality)
            raise InputError(
                f"{file}: channels {alike} are both {modality}; choose one by --modalities={modality}=NAME"
            )
    return found


def regions_in(root: Path) -> str | None:
    """The label convention of a raw data set, from `labels` in dataset.json; None if it states none."""
    file = root / "dataset.json"
    regions: dict[str, list[int]] = {}
    for name, given in _description(file)["labels"].items():
        values = given if isinstance(given, list) else [given]
        if name == "ignore":
            raise InputError(
                f"{file}: labels: ignore={given}: not supported, as training counts every voxel; give --regions"
            )
        if values == [0]:
            continue
        if (plain := plain_name(name)) in regions:
            raise InputError(f"{file}: labels: {name}={given}: {plain} occurs twice")
        regions[plain] = sorted(set(values))
        if plain != name:
            show(f"{file.name}: the region {name} is called {plain} here")
    with within(file):
        return declaration(regions) if regions else None
