"""Read the description (dataset.json) of nnU-Net's raw data sets, version 2: imagesTr, labelsTr and imagesTs.

nnU-Net's documentation/dataset_format.md and region_based_training.md define the format.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.data.names import modality_of
from common.data.regions import declaration
from common.errors import InputError, within
from common.files import read_json
from scripts.layouts.listing import ImageFile
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import Naming

SCHEMA = {
    "type": "object",
    "required": ["channel_names", "labels"],
    "properties": {"channel_names": {"type": "object", "minProperties": 1}, "labels": {"type": "object"}},
}


def read_description(
    root: str, images: Sequence[ImageFile], naming: Naming, states_regions: bool
) -> tuple[dict[str, str], str | None]:
    """Return the pattern of each channel's files and of the label maps, and the regions if `states_regions`."""
    first = next((image for image in images if image.path.startswith("images")), None)
    if first and not re.search(r"_\d{4}$", first.stem):
        problem = f"files such as {first.path} hold all channels, as in the Medical Segmentation Decathlon"
        raise InputError(f"--root={root}", problem, "one for each channel (nnUNetv2_convert_MSD_dataset)")
    file = Path(root, "dataset.json")
    content = read_json(file, "nnU-Net's description of a data set of NIfTI files, version 2", SCHEMA)
    modalities = _modalities(content["channel_names"], naming, file)
    files = {modality: f"images{{part}}/{{subject}}_{channel:04d}" for channel, modality in enumerate(modalities)}
    with within(file):
        regions = _regions(content["labels"]) if states_regions else None
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


def _regions(labels: dict[str, Any]) -> str | None:
    """Return the regions in nnU-Net's dataset.json as a label convention; None if it has only background."""
    regions: dict[str, list[int]] = {}
    for name, value in labels.items():
        values = sorted({*(value if isinstance(value, list) else [value])})
        text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")  # region names are words
        text = (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
        if name == "ignore" or text in regions:
            raise InputError(f"labels: {name}={value}", "ignores voxels, or repeats a region", "--regions")
        if values != [0]:
            regions[text] = values
    return declaration(regions) if regions else None
