"""Read raw data sets of nnU-Net, version 2: imagesTr, labelsTr, imagesTs and dataset.json.

nnU-Net's documentation/dataset_format.md and region_based_training.md define the format.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError, show, within
from ...files import read_json
from ..modalities import modality_of
from ..regions import declaration
from .files import FileLayout
from .listing import Listing
from .names import LABEL, Naming, plain_name
from .subjects import DataSet

CHANNEL = re.compile(r"imagesT[rs]/.+_\d{4}")
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
            "additionalProperties": _VALUE | {"type": ["integer", "array"], "items": _VALUE, "minItems": 1},
        },
        "file_ending": {"enum": [".nii.gz", ".nii"]},
    },
}


def is_nnunet(listing: Listing) -> bool:
    """Whether a folder is a raw data set of nnU-Net."""
    return "imagesTr" in listing.folders or Path(listing.root, "dataset.json").is_file()


def _description(file: Path) -> dict[str, Any]:
    return dict(read_json(file, "nnU-Net's description of a data set of NIfTI files, version 2", SCHEMA))


def read_nnunet(listing: Listing, naming: Naming) -> DataSet:
    """Find the cases of a raw data set of nnU-Net; channels become modalities."""
    file = Path(listing.root, "dataset.json")
    images = [file for file in listing.files if file.path.startswith("images")]
    if images and not any(CHANNEL.fullmatch(file.bare) for file in images):
        raise InputError(
            f"--root={listing.root}: files such as {images[0].path} hold all channels, as in the "
            "Medical Segmentation Decathlon; expected a file for each channel, as nnUNetv2_convert_MSD_dataset writes"
        )
    modalities = _modalities(_description(file)["channel_names"], naming, file)
    templates = {modality: f"images{{part}}/{{case}}_{channel:04d}" for channel, modality in enumerate(modalities)}
    fields = {"part": "Tr|Ts", "case": "[^/]+"}
    layout = FileLayout("nnU-Net raw", {**templates, LABEL: "labels{part}/{case}"}, "{case}", fields)
    data = layout.read(listing)
    test_files = {file.path for file in listing.files if file.folders in (["imagesTs"], ["labelsTs"])}
    data.held_out = {name for name, case in data.subjects.items() if not test_files.isdisjoint(case.files.values())}
    return data


def _modalities(channels: Mapping[str, str], naming: Naming, file: Path) -> list[str]:
    """Return the modality of each channel, or "channel N" for channels that `--modalities` omits."""
    names = [channels[key] for key in sorted(channels, key=int)]
    words = {text.lower(): modality for modality, text in naming.spelled.items()}
    usual = {name: modality_of(name) or name for name in names}
    modalities = [
        words.get(name.lower(), usual[name] if naming.takes(usual[name]) else f"channel {number}")
        for number, name in enumerate(names)
    ]
    for modality in modalities:
        if modalities.count(modality) > 1:
            alike = " and ".join(name for name, kind in zip(names, modalities, strict=True) if kind == modality)
            raise InputError(
                f"{file}: channels {alike} are both {modality}; choose one by --modalities={modality}=NAME"
            )
    return modalities


def convention_in(root: Path) -> str | None:
    """Return the regions in nnU-Net's dataset.json as a label convention; None if it has only background."""
    file = root / "dataset.json"
    regions: dict[str, list[int]] = {}
    for name, labels in _description(file)["labels"].items():
        values = labels if isinstance(labels, list) else [labels]
        if name == "ignore":
            raise InputError(
                f"{file}: labels: ignore={labels}: not supported, as training counts every voxel; give --regions"
            )
        if values == [0]:
            continue
        if (plain := plain_name(name)) in regions:
            raise InputError(f"{file}: labels: {name}={labels}: {plain} occurs twice")
        regions[plain] = sorted(set(values))
        if plain != name:
            show(f"{file.name}: region {name} renamed to {plain}")
    with within(file):
        return declaration(regions) if regions else None
