"""Open a bundle: read its metadata, find its inference config and check its checkpoint."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import combining, normalize

from common import weights
from common.data.cards import Cohort
from common.data.cohorts import COHORTS, LIKE
from common.data.regions import Segment, segments_of
from common.errors import InputError, input_error_message
from common.files import digest, read_json, read_yaml
from common.options import check_flips, check_stated
from deploy.dicom.series.choice import MODALITIES
from scripts.provenance import is_skull_stripped, model_name, space_of, trained_on
from scripts.run import typed, warn_of_program

RESERVED_OPTIONS = (  # set by the application
    "bundle_root",
    "config_file",
    "dataset_dir",
    "datalist",
    "split",
    "output_dir",
    "modalities",
    "label_convention",
    "checkpoint",
)


def _mapping(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a mapping with these required keys."""
    return {"type": "object", "required": [*properties], "properties": properties}


LINE = {"type": "string", "pattern": r"^[^\\\x00-\x1f]+$", "description": "a line of text"}
VERSION = LINE | {"maxLength": 64, "description": "a line of up to 64 characters"}  # DICOM's limit of SoftwareVersions
NUMBERS = {"pattern": "^[0-9]+$", "description": "the numbers of channels"}
NAMES = {"type": "object", "propertyNames": NUMBERS, "additionalProperties": {"type": "string"}}
CHANNELS = _mapping(channel_def=NAMES)
FORMATS = _mapping(inputs=_mapping(image=CHANNELS))
METADATA = _mapping(name=LINE, version=VERSION, network_data_format=FORMATS)
INFERENCE = _mapping(attached=_mapping(name={"enum": [*LIKE]}))


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
    def card(self) -> Cohort:
        """Description of the model's cohort in `COHORTS`, with its expected space."""
        return COHORTS[self.cohort]

    @property
    def segments(self) -> list[Segment]:
        """The segments in DICOM, numbered from 1."""
        return segments_of(self.convention)

    @property
    def reference(self) -> str:
        """The modality whose series gives the grid of the result, unless the user chooses."""
        return self.card.reference if self.card.reference in self.modalities else self.modalities[0]


def open_bundle(folder: Path, checkpoint: Path | None = None) -> Bundle:
    """Open a bundle's folder; raise an InputError if the bundle is unsuitable or the checkpoint contains code.

    The default checkpoint is models/model.pt. Archives are refused: unpacking an untrusted archive can write anywhere.
    """
    if folder.is_file():
        raise InputError(f"--bundle={folder}: a file; expected the bundle's folder, as archives are not unpacked")
    candidates = [folder / "configs" / f"inference.{suffix}" for suffix in ("yaml", "yml", "json")]
    config = next((path for path in candidates if path.is_file()), None)
    if config is None:
        raise InputError(f"--bundle={folder}: no configs/inference.yaml or .json; expected a bundle's folder")
    read = read_json if config.suffix == ".json" else read_yaml
    content = read(config, "the inference of brats_finetune or atlas_finetune", INFERENCE)
    name, stated = content["attached"]["name"], content.get("label_convention")
    fixed = stated if isinstance(stated, str) and not stated.startswith("$") else None  # as packages have it
    warn_of_program(config)
    metadata = read_json(folder / "configs" / "metadata.json", "metadata of brats_finetune or atlas_finetune", METADATA)
    formats = metadata["network_data_format"]
    cohort = LIKE[name]
    card = COHORTS[cohort]
    path = checkpoint or folder / "models" / "model.pt"
    weights.check_file(path)
    record = weights.read(path).metadata  # refuses pickled code and the record of a different file
    if tasks := record.get("tasks"):
        raise InputError(f"checkpoint {path}: self-supervised ({', '.join(tasks)}); expected segmentation weights")
    weights.check_bundle(record, path, name)
    check_stated(weights.settings_of(path), path)
    modalities = tuple(record.get("modalities") or _channels(formats["inputs"]["image"]))
    if unknown := sorted({*modalities} - {*MODALITIES}):
        raise InputError(f"checkpoint {path}: modality {unknown[0]}; expected some of {', '.join(MODALITIES)}")
    space = space_of(record, cohort, path)
    is_stripped = is_skull_stripped(record)
    return Bundle(
        root=folder.resolve(),
        config=config.resolve(),
        checkpoint=path.resolve(),
        name=_ascii(model_name(metadata["name"], record)),
        version=metadata["version"],
        modalities=modalities,
        cohort=cohort,
        space=space,
        convention=record.get("label_convention") or fixed or next(iter(card.conventions)),
        skull_stripped=COHORTS[space].space.brain != "none" if is_stripped is None else is_stripped,
        checkpoint_sha256=digest(path),
        trained_on=_ascii(trained_on(record)),
        spacing=_spacing(record),
        cleanup=record.get("cleanup"),
    )


def _ascii(text: str) -> str:
    """Return text in ASCII, DICOM's default: without accents, and with a question mark for each remaining character."""
    letters = (letter for letter in normalize("NFKD", text) if not combining(letter))
    return "".join(letters).encode("ascii", "replace").decode()


def _spacing(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return the smallest and the largest voxel edge of the training scans, mm; if unknown, 1 mm, as in the cohorts.

    If training resampled the scans, these are the edges before, because the bundle resamples its input in the same way.
    """
    measured = record.get("measured")
    edges = [edge for side in measured["spacing"] for edge in side] if measured else record.get("spacing") or [1.0]
    return float(min(edges)), float(max(edges))


def _channels(data_format: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for _, name in sorted(data_format["channel_def"].items(), key=lambda item: int(item[0])))


def split_options(text: str) -> list[str]:
    """Split `--bundle_options`, such as "--model_size=tiny --overlap=0.25", into a list of options.

    The last value of a repeated option counts. Raise an InputError for an option that the application sets itself.
    """
    try:
        options = shlex.split(str(text))
    except ValueError as error:
        raise InputError(f"--bundle_options={text}: {error}; expected options as on a command line") from error
    for option in options:
        if not re.match(r"--\w.*=", option):
            raise InputError(f"--bundle_options={text}: {option}: expected options such as --overlap=0.25")
    if reserved := [name for name in RESERVED_OPTIONS if name in named(options)]:
        raise InputError(f"--bundle_options: --{reserved[0]} is set by the application; expected other options")
    return options


def named(options: Sequence[str]) -> dict[str, Any]:
    """Return options such as --overlap=0.25 by name, with parsed values."""
    texts = dict(option.removeprefix("--").split("=", 1) for option in options)
    return {name: typed(name, text) for name, text in texts.items()}


def check_options(options: Sequence[str], bundle: Bundle) -> None:
    """Raise an InputError for an invalid value in `--bundle_options`; the bundle refuses unknown names."""
    try:
        check_flips({"label_convention": bundle.convention} | named(options))
    except InputError as error:
        raise InputError("--bundle_options", input_error_message(error)) from error
