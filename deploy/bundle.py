"""Open a bundle: read its metadata, find its inference config and check its checkpoint."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import combining, normalize

from common import weights
from common.data.regions import Region, cards_of, colours, painting_order
from common.errors import InputError
from common.files import digest, read_json
from deploy.dicom.series.choice import MODALITIES
from scripts.cohorts import COHORTS, LIKE
from scripts.provenance import check_bundle, is_skull_stripped, model_name, space_of, trained_on
from scripts.run import typed, warn_of_program
from scripts.yaml_files import read_yaml

LONG_STRING = 64  # maximum number of characters of a DICOM name (LO)
RESERVED_OPTIONS = (  # set by the application
    *("bundle_root", "config_file", "dataset_dir", "datalist", "split", "output_dir"),
    *("modalities", "label_convention", "checkpoint"),
)


class Segment(NamedTuple):
    """A DICOM segment for one value of a label map; `code` is text such as `79654002 SCT Edema`, or "" if unknown."""

    value: int
    label: str  # up to 64 characters, DICOM's limit
    colour: str
    code: str


@dataclass(frozen=True)
class Bundle:
    """A bundle that is ready for inference.

    `name` is the name in metadata.json, except that it states the regions and training data of the checkpoint.
    """

    root: Path
    config: Path
    checkpoint: Path
    name: str
    version: str
    modalities: tuple[str, ...]  # in the order of the network's input channels
    cohort: str  # key of `COHORTS`, by the bundle's name in its inference config
    space: str  # key of `COHORTS` in whose space the training scans were prepared
    convention: str  # label convention of the label maps
    skull_stripped: bool  # whether the training scans have no skull
    checkpoint_sha256: str
    trained_on: str  # training data, in words
    spacing: tuple[float, float]  # smallest and largest voxel edge of the training scans, mm
    cleanup: str | None  # cleanup of regions that the checkpoint states, if any

    @property
    def segments(self) -> list[Segment]:
        """The segments in DICOM, numbered from 1."""
        return segments_of(self.convention)

    @property
    def reference(self) -> str:
        """The modality whose series gives the grid of the result, unless the user chooses."""
        usual = COHORTS[self.cohort].reference
        return usual if usual in self.modalities else self.modalities[0]


def open_bundle(folder: Path, checkpoint: Path | None = None) -> Bundle:
    """Open a bundle's folder; raise an InputError if the bundle is unsuitable or the checkpoint contains code.

    The default checkpoint is models/model.pt.
    """
    config = folder / "configs/inference.yaml"
    content = read_yaml(config, "the folder of a bundle")
    name, stated = content.get("bundle"), content.get("label_convention")
    if name not in LIKE:
        raise InputError(f"--bundle={folder}: expected one like {' or '.join(LIKE)}")
    fixed = stated if isinstance(stated, str) and not stated.startswith("$") else None  # by hand
    warn_of_program(config)
    metadata = read_json(folder / "configs" / "metadata.json")
    channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    cohort = LIKE[name]
    path = checkpoint or folder / "models" / "model.pt"
    record = weights.read(path).metadata  # refuses pickled code and the record of a different file
    if tasks := record.get("tasks"):
        raise InputError(f"checkpoint {path}: self-supervised ({', '.join(tasks)}); expected segmentation weights")
    check_bundle(record, path, name)
    modalities = tuple(record.get("modalities") or [channels[number] for number in sorted(channels, key=int)])
    if unknown := sorted({*modalities} - {*MODALITIES}):
        raise InputError(f"checkpoint {path}: modality {unknown[0]}; expected some of {', '.join(MODALITIES)}")
    space = space_of(record, cohort, path)
    is_stripped = is_skull_stripped(record)
    return Bundle(
        root=folder.resolve(),
        config=config.resolve(),
        checkpoint=path.resolve(),
        name=_ascii(model_name(metadata["name"], record)),
        version=_ascii(metadata["version"])[:LONG_STRING],
        modalities=modalities,
        cohort=cohort,
        space=space,
        convention=record.get("label_convention") or fixed or str(COHORTS[cohort].convention),
        skull_stripped=COHORTS[space].space.brain != "none" if is_stripped is None else is_stripped,
        checkpoint_sha256=digest(path),
        trained_on=_ascii(trained_on(record)),
        spacing=_spacing(record),
        cleanup=record.get("cleanup"),
    )


def _ascii(text: str) -> str:
    """Return text in ASCII, DICOM's default, without accents; characters that DICOM cannot hold become "?"."""
    letters = (letter for letter in normalize("NFKD", text) if not combining(letter))
    return re.sub(r"[^ -\[\]-~]", "?", "".join(letters))


def _spacing(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return the smallest and the largest voxel edge of the training scans, mm; if unknown, 1 mm, as in the cohorts.

    If training resampled the scans, these are the edges before, because the bundle resamples its input in the same way.
    """
    measured = record.get("measured")
    edges = [edge for side in measured["spacing"] for edge in side] if measured else record.get("spacing") or [1.0]
    return float(min(edges)), float(max(edges))


def split_options(text: str) -> list[str]:
    """Split `--bundle_options`, such as "--model_size=tiny --overlap=0.25", into a list of options.

    The last value of a repeated option counts. Raise an InputError for an option that the application sets itself.
    """
    options = shlex.split(str(text))
    if not all(re.match(r"--\w.*=", option) for option in options):
        raise InputError(f"--bundle_options={text}: expected options such as --overlap=0.25")
    if reserved := [name for name in RESERVED_OPTIONS if name in named(options)]:
        raise InputError(f"--bundle_options: --{reserved[0]} is set by the application; expected other options")
    return options


def named(options: Sequence[str]) -> dict[str, Any]:
    """Return options such as --overlap=0.25 by name, with parsed values."""
    texts = dict(option.removeprefix("--").split("=", 1) for option in options)
    return {name: typed(name, text) for name, text in texts.items()}


def segments_of(convention: str) -> list[Segment]:
    """Return the segments of a convention's label maps, sorted by label value: the regions outside their inner regions.

    Example:
        >>> [segment.label for segment in segments_of("whole=1+2,core=1:6574001 SCT Necrosis")]
        ['core', 'whole outside core']
    """
    regions, shades = cards_of(convention), colours(convention)
    names = [*regions]
    innermost = {value: names[channel] for channel, value in painting_order(convention)}
    return [
        Segment(value, (regions[name].part or _outside(name, regions))[:64], shades[name], regions[name].code)
        for value, name in sorted(innermost.items())
    ]


def _outside(name: str, regions: Mapping[str, Region]) -> str:
    """Return the name of the part of a region outside its inner regions, such as "WT outside TC"."""
    inside = {other: region.labels for other, region in regions.items() if region.labels < regions[name].labels}
    largest = [other for other, labels in inside.items() if not any(labels < third for third in inside.values())]
    return f"{name} outside {' and '.join(largest)}" if largest else name
