"""Read the description (dataset.json) of nnU-Net's raw data sets, version 2: imagesTr, labelsTr and imagesTs.

nnU-Net's documentation/dataset_format.md and region_based_training.md define the format.
"""

import re
from pathlib import Path
from typing import Any

from common.data.modalities import modality_of
from common.data.regions import declaration
from common.errors import InputError, show, within
from common.files import read_json
from scripts.layouts.listing import Listing
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import Naming

_VALUE = {"type": "integer", "minimum": 0}
SCHEMA = {
    "type": "object",
    "required": ["channel_names", "labels"],
    "properties": {
        "channel_names": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": r"^\d+$"}},
        "labels": {"type": "object", "additionalProperties": _VALUE | {"type": ["integer", "array"], "items": _VALUE}},
    },
}


def read_description(listing: Listing, naming: Naming, states_regions: bool) -> tuple[dict[str, str], str | None]:
    """Return the pattern of each channel's files and of the label maps, and the regions if `states_regions`."""
    images = [image for image in listing.files if image.path.startswith("images")]
    if images and not any(re.search(r"_\d{4}$", image.stem) for image in images):
        problem = f"files such as {images[0].path} hold all channels, as in the Medical Segmentation Decathlon"
        raise InputError(f"--root={listing.root}", problem, "one for each channel (nnUNetv2_convert_MSD_dataset)")
    file = Path(listing.root, "dataset.json")
    content = read_json(file, "nnU-Net's description of a data set of NIfTI files, version 2", SCHEMA)
    modalities = enumerate(_modalities(content["channel_names"], naming, file))
    files = {modality: f"images{{part}}/{{subject}}_{channel:04d}" for channel, modality in modalities}
    regions = _convention(content["labels"], file) if states_regions else None
    return files | {LABEL: "labels{part}/{subject}"}, regions


def _modalities(channels: dict[str, Any], naming: Naming, file: Path) -> list[str]:
    """Return the modality of each channel, or "channel N" for channels that `--modalities` omits."""
    names = [str(channels[key]) for key in sorted(channels, key=int)]
    given = {words.lower(): modality for modality, words in naming.words.items()}
    modalities: list[str] = []
    for number, name in enumerate(names):
        usual = modality_of(name) or name
        modality = given.get(name.lower(), usual if naming.takes(usual) else f"channel {number}")
        if modality in modalities:
            problem = f"channels {names[modalities.index(modality)]} and {name} are both {modality}"
            raise InputError(file, problem, f"a choice by --modalities={modality}=NAME")
        modalities.append(modality)
    return modalities


def _convention(labels: dict[str, Any], file: Path) -> str | None:
    """Return the regions in nnU-Net's dataset.json as a label convention; None if it has only background."""
    regions: dict[str, list[int]] = {}
    for name, value in labels.items():
        values = sorted({*(value if isinstance(value, list) else [value])})
        if name == "ignore":
            raise InputError(file, f"labels: ignore={value}: training counts every voxel", "--regions")
        if values == [0]:
            continue
        text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
        plain = (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
        if plain in regions:
            raise InputError(file, f"labels: {plain} occurs twice")
        regions[plain] = values
        if plain != name:
            show(f"{file.name}: region {name} renamed to {plain}")
    with within(file):
        return declaration(regions) if regions else None
