"""Read data sets in BIDS, and the description (dataset.json) of nnU-Net's raw folders, version 2.

In BIDS, file names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w` or `dseg` (discrete
segmentation). nnU-Net's documentation/dataset_format.md and region_based_training.md define its format.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.names import SUFFIX, in_folders, modality_of
from common.data.regions import declaration
from common.errors import InputError, shortened, show, within
from common.files import read_json
from scripts.layouts.names import ANATOMY, LABEL, NOT_SEGMENTED, name_of
from scripts.layouts.patterns import Identity, Naming, compile_pattern

FOLDERS = {"above": "(?:raw_?data/)?", "subject": "sub-[^/_]+", "session": "(?:ses-[^/]+/)?", "name": "(?:_[^/]+)?"}
RAW = compile_pattern("{above}{subject}/{session}{type}{subject}{name}", FOLDERS | {"type": "(?:(?:anat|dwi|swi)/)?"})
DERIVED = compile_pattern("derivatives/{above}{subject}/{session}**/{subject}{name}", FOLDERS | {"above": "(?:.+?/)??"})
LESION = re.compile("^l$|lesion|tumou?r|stroke|infarct|wmh|metasta")  # in words that mark lesion maps
# Words that mark masks of anatomy
TISSUE = NOT_SEGMENTED | {"aseg", "aparcaseg", "bg", "b", "st", "nb", "cgm", "sgm", "bs"}
PARTS = re.compile("_part-(?:phase|real|imag)_")  # parts of complex images; only the magnitude is used
AGENT = re.compile("_ce-(?!no|pre|without|0)")
SCHEMA = {
    "type": "object",
    "required": ["channel_names", "labels"],
    "properties": {"channel_names": {"type": "object", "minProperties": 1}, "labels": {"type": "object"}},
}


def is_bids(images: Sequence[str]) -> bool:
    """Whether images are those of a BIDS data set, in sub-*/[ses-*/]anat, dwi or swi."""
    return any((match := RAW.fullmatch(SUFFIX.sub("", image))) and match["type"] for image in images)


def read_bids(root: Path, images: Sequence[str], naming: Naming) -> list[tuple[str, Identity]]:
    """Identify the images and label maps of a BIDS data set; each session is a subject.

    Without `--label`, label maps are lesion maps or, without any, maps that name no content.
    """
    scans, lesions, others = [], [], []
    for image in images:
        path = SUFFIX.sub("", image)
        raw = RAW.fullmatch(path)
        match, kind = raw or DERIVED.fullmatch(path), _kind(path, naming)
        if match is None or kind is None or (kind != LABEL and not raw):
            continue
        name = path.rpartition("/")[2]
        session = match["session"].rstrip("/") or "".join(re.findall("_(ses-[^_]+)", name))
        subject = "_".join(filter(None, [match["subject"], session]))
        found = (image, Identity(kind, {subject: subject}))
        *entities, suffix = name.lower().split("_")
        words = {part.rpartition("-")[2] for part in entities if re.match("label-|desc-|seg-|[^-]+$", part)} | {suffix}
        if kind != LABEL:
            is_series = kind == "DWI" and (root / f"{path}.bval").exists()
            scans += [] if is_series else [found]
        elif LABEL in naming.words or any(map(LESION.search, words)):
            lesions.append(found)
        elif TISSUE.isdisjoint(words):
            others.append(found)
    labels = lesions or others
    if labels:
        titles = {re.sub("^derivatives/|(?:sub|ses)-[^/_]+[/_]|anat/|[.].*", "", image) for image, _ in labels}
        show(f"labels: {shortened(sorted(titles), most=3)}")
    return scans + labels


def _kind(path: str, naming: Naming) -> str | None:
    """Return the kind of a file: by the user's words, else by the name; None if it is not wanted."""
    if stated := naming.stated(path):
        return stated.kind
    *folders, name = path.split("/")
    kind = in_folders(name_of(name)[1], folders)
    if kind in (None, ANATOMY) or not naming.takes(kind) or PARTS.search(name):
        return None
    is_usual = kind == LABEL or kind.startswith("T1") or not AGENT.search(name)
    return kind if is_usual else None


def read_nnunet(
    root: Path, images: Sequence[str], naming: Naming, states_regions: bool
) -> tuple[dict[str, str], str | None]:
    """Return the pattern of each channel's files and of the label maps, and the regions if `states_regions`.

    A channel that `--modalities` omits is called "channel N".
    """
    first = next((image for image in images if image.startswith("images")), "")
    if first and not re.search(r"_\d{4}$", SUFFIX.sub("", first)):
        problem = f"files such as {first} hold all channels, as in the Medical Segmentation Decathlon"
        raise InputError(f"--root={root}", problem, "one for each channel (nnUNetv2_convert_MSD_dataset)")
    file = root / "dataset.json"
    content = read_json(file, "nnU-Net's description of a data set of NIfTI files, version 2", SCHEMA)
    channels, files = content["channel_names"], dict[str, str]()
    given = {words.lower(): modality for modality, words in naming.words.items()}
    for number, key in enumerate(sorted(channels, key=int)):
        name = str(channels[key])
        usual = modality_of(name) or name
        modality = given.get(name.lower(), usual if naming.takes(usual) else f"channel {number}")
        if modality in files:
            raise InputError(file, f"several channels are {modality}", f"a choice by --modalities={modality}=NAME")
        files[modality] = f"images{{part}}/{{subject}}_{number:04d}"
    with within(file):
        regions = _regions(content["labels"]) if states_regions else None
    return files | {LABEL: "labels{part}/{subject}"}, regions


def _regions(labels: Mapping[str, Any]) -> str | None:
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
