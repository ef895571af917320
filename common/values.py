"""The options of the configs: their names and kinds of values; the configs hold their defaults and meanings."""

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .data.preparation import PREPARATION_CHECKS
from .data.regions import CONVENTIONS, LARGEST, declaration
from .errors import ArgumentError
from .metrics.protocols import CHALLENGES, PROTOCOLS

AUTO = "auto"
CLEANUPS = "a smallest volume or `largest` for each region, such as WT=100mm3,ET=largest"
_CLEANUP = re.compile(r"([\w-]+)=(?:(\d{1,9}(?:\.\d{1,6})?)mm3|largest)")
PLAIN_TEXT = re.compile(r"\w[^$@%{}\[\]/\\\x00-\x1f]*")  # fits into file names, and no config evaluates it


class Kind(NamedTuple):
    """Type of an option's values: what it accepts, in words and as a function of the converted value."""

    values: str  # with the unit
    accepts: Callable[[Any], object]
    convert: Callable[[Any], Any] = lambda value: list(value) if isinstance(value, tuple) else value
    is_literal: bool = False  # whether text from a command line is parsed, such as a number; other text is the value

    def parse(self, name: str, value: Any) -> Any:
        """Convert an argument's value; raise `ArgumentError` if it is invalid."""
        try:
            converted = self.convert(value)
            is_accepted = self.accepts(converted)
        except ArgumentError:
            raise
        except (TypeError, ValueError):
            is_accepted = False
        if not is_accepted:
            raise ArgumentError(name, value, expected=self.values)
        return converted


def numbers(lowest: float, highest: float = math.inf, unit: str = "", kind: type = float) -> Kind:
    """Return the kind of numbers from `lowest` to `highest`, in `unit`; `kind` is float or int."""
    limits = f"from {lowest:g}" + (f" to {highest:g}" if math.isfinite(highest) else "")
    noun = "a whole number" if kind is int else "a number"

    def accepts(value: Any) -> bool:
        return not isinstance(value, bool) and lowest <= value <= highest and isinstance(value, int | kind)

    return Kind(f"{noun} {limits}{unit and f', {unit}'}", accepts, is_literal=True)


integers = partial(numbers, kind=int)


def three(values: str, number: Kind) -> Kind:
    """Return the kind of three numbers."""
    return Kind(values, lambda edges: len(edges) == 3 and all(map(number.accepts, edges)), list, is_literal=True)


def lengths(lowest: int) -> Kind:
    """Return the kind of training lengths: iterations, at least `lowest`, or text such as "5 epochs"."""
    epochs, iterations = re.compile(r"(?=.*[1-9])\d*\.?\d+ epochs"), integers(lowest)
    return Kind(
        f"a whole number of iterations from {lowest}, or text such as 2.5 epochs",
        lambda value: epochs.fullmatch(value) if isinstance(value, str) else iterations.accepts(value),
        is_literal=True,
    )


def words(values: str) -> Kind:
    """Return the kind that accepts the words in `values`, a list separated by commas."""
    return Kind(f"one of {values}", values.split(", ").__contains__)


def some_of(values: str) -> Kind:
    """Return the kind of lists of some, all or none of the words in `values`."""
    names = values.split(", ")
    expected = f"a list of some of {values}, such as [{names[0]}]"
    return Kind(expected, lambda value: isinstance(value, list) and {*value} <= {*names}, names_of)


def flags(*others: str) -> Kind:
    """Return the kind that accepts true, false (also as text, from a command line) and the words `others`."""
    choices = {"true": True, "false": False} | {word: word for word in others}
    accepts = lambda value: isinstance(value, bool) or value in others  # noqa: E731
    return Kind(f"one of {', '.join(choices)}", accepts, lambda value: choices.get(str(value).lower()))


def or_word(kind: Kind, word: str, meaning: Any) -> Kind:
    """Extend a kind by a word, which is converted to `meaning`."""

    def convert(value: Any) -> Any:
        return meaning if optional(value) in (word, meaning) else kind.convert(value)

    accepts = lambda value: value == meaning or kind.accepts(value)  # noqa: E731
    return Kind(f"{kind.values}, or {word}", accepts, convert, kind.is_literal)


or_null = partial(or_word, word="null", meaning=None)
or_auto = partial(or_word, word=AUTO, meaning=AUTO)


def optional(value: Any) -> Any:
    """Convert the texts null and none to None, and return other values; MONAI drops None on command lines."""
    return None if str(value).lower() in ("null", "none") else value


def names_of(value: Any) -> Any:
    """Return a list of names, typed as `['T1', FLAIR]` or `T1,FLAIR`, or as a sequence; return other values.

    Example:
        >>> names_of("['T1', FLAIR]"), names_of("1.10"), names_of(())
        (['T1', 'FLAIR'], ['1.10'], [])
    """
    if isinstance(value, str):
        inner = value.strip().removeprefix("[").removesuffix("]")
        return [name.strip(" '\"") for name in inner.split(",") if name.strip()]
    return list(value) if isinstance(value, tuple) else value


def _path(value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError
    return os.path.expanduser(str(value))  # noqa: PTH111, as a Path drops ./


def _paths(value: Any) -> Any:
    is_list = isinstance(value, list | tuple) or (str(value).startswith("[") and str(value).endswith("]"))
    return [_path(path) for path in names_of(value)] if is_list else _path(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(PLAIN_TEXT.fullmatch, value))


def _weights_of(value: Any) -> Any:
    """Return the weights of proxy tasks, a list or a mapping, as floats."""
    if isinstance(value, Mapping):
        return {task: float(weight) for task, weight in value.items()}
    return [float(weight) for weight in value]


def cleanup_of(text: str) -> dict[str, float]:
    """Parse a cleanup, such as `WT=100mm3,ET=largest`, into the smallest volume of a component in each region, mm3."""
    cleanup: dict[str, float] = {}
    for part in text.replace(" ", "").split(","):
        match = _CLEANUP.fullmatch(part)
        if match is None or match[1] in cleanup:
            raise ArgumentError("cleanup", part, expected=CLEANUPS)
        cleanup[match[1]] = float(match[2] or LARGEST)
    return cleanup


FOLDER = Kind("folder, such as ./runs", str, _path)
FILE = Kind("file, such as ./data.json", str, _path)
FILES = Kind("a file or a list of files", bool, _paths)
DEVICE = Kind("cpu, cuda or cuda:N", lambda value: re.match("cpu$|cuda", str(value)))
NAMES = Kind("a list of names, such as ['T1','FLAIR']", _are_names, names_of)
ALIASES = Kind("a mapping of names, such as {'T2': 'FLAIR'}", bool, dict, is_literal=True)
PATCH_SIZE = three("three multiples of 32, or of 8 for segresnet and transbts, up to 512 voxels", integers(32, 512))
SPACING = three("three numbers from 0.1 to 20, such as [1,1,1], mm", numbers(0.1, 20))
EDGES = three("three whole numbers, such as [96, 96, 96]", integers(1, 1e6))
LENGTHS = three("three numbers, such as [1.0, 1.0, 1.0]", numbers(0, 1e6))
TEXT = Kind("plain text", PLAIN_TEXT.fullmatch, str)
NAME = re.compile(r"\w[\w .,()'+:-]{0,99}")  # of a cohort; safe in YAML and HTML
COHORT = Kind("up to 100 letters, digits, spaces and . , ( ) ' + : -", NAME.fullmatch, str)
CONVENTION = Kind(
    f"{', '.join(CONVENTIONS)}, or regions such as core=1+3,whole=1+2+3", str, lambda value: declaration(str(value))
)
CLEANUP = Kind(CLEANUPS, cleanup_of, lambda value: str(value).replace(" ", ""))
LOSS_WEIGHTS = Kind("numbers, such as [1,1,1] or {'rotation': 0}", bool, _weights_of, is_literal=True)
AXES = Kind(
    "a list of different axes from 0, 1, 2, such as [0]",
    lambda axes: len({*axes} & {0, 1, 2}) == len(axes),
    is_literal=True,
)

# Options that checkpoints, run.json and embeddings.npz do not hold
UNRECORDED = {"bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "existing", "accept", "pretrained", "resume"}
UNRECORDED |= {"device", "store", "window_batch_size", "stitch_device", "probabilities"}
# Options that a resumed run may change
RESUMABLE = {"datalist", "cohort", "iterations", "save_interval", "keep", "num_workers", "cache_rate"}
RESUMABLE |= {"attention", "compile", "activation_checkpointing"}

# Parts of recipe_robust that `without` may leave out
PARTS = "crops, rotation, zoom, noise, blur, brightness, contrast, low_resolution, gamma, prior, cross_entropy"
FLAGS = ("gather_negatives", "normalize_crops", "crop_foreground", "divisible_foreground", "compile", "probabilities")

# Options of the configs, which hold their defaults and meanings
OPTIONS: dict[str, Kind] = {
    # Data and folders
    **dict.fromkeys(("bundle_root", "dataset_dir", "output_dir", "ckpt_dir"), FOLDER),
    **dict.fromkeys(("datalist", "pretrained"), or_null(FILE)),
    "store": or_null(FOLDER),
    "checkpoint": FILES,
    "split": words("training, validation, testing, unlabelled, all"),
    "existing": words("refuse, skip, replace"),
    "cohort": COHORT,
    **dict.fromkeys(("modalities", "missing_modalities"), NAMES),
    "modality_aliases": or_null(ALIASES),
    "label_convention": CONVENTION,
    "normalization": words("brain, nonzero, fixed_range, none"),
    "orientation": words("RAS, LPS"),
    "resize": or_null(PATCH_SIZE),
    "spacing": or_null(SPACING),
    "accept": some_of(", ".join(PREPARATION_CHECKS)),
    # Network and training
    "architecture": words("swin_unetr, swin_unetr_v2, segresnet, transbts, probe"),
    "model_size": words("tiny, small, base, micro, micro_tiny, micro_small, micro_base"),
    "merging": words("monai_1_4, monai_1_5"),
    "patch_size": PATCH_SIZE,
    **dict.fromkeys(("batch_size", "crops_per_volume"), integers(1, unit="crops")),
    "global_batch_size": or_null(integers(1, unit="crops")),
    "learning_rate": numbers(1e-12, 1e3),
    "pretrained_lr_factor": numbers(1e-6, 1),
    "max_grad_norm": or_null(numbers(1e-6, 1e6)),
    "average_decay": numbers(0, 0.99999),
    "without": some_of(PARTS),
    "warmup_iterations": lengths(0),
    **dict.fromkeys(("iterations", "val_interval"), lengths(1)),
    "save_interval": integers(1, unit="iterations"),
    "keep": integers(1),
    "mask_share": numbers(0.01, 0.99),
    "mask_edge": integers(1, unit="voxels"),
    "head_tokens": words("corner, mean"),
    "loss_weights": LOSS_WEIGHTS,
    "best_metric": TEXT,
    **dict.fromkeys(("modality_dropout", "cache_rate"), numbers(0, 1)),
    "seed": integers(0, 99_999),  # each process adds 100,000 times its rank
    "resume": flags("auto"),
    # Machine
    **dict.fromkeys(("device", "stitch_device"), DEVICE),
    "num_workers": integers(0, 512),
    "amp": flags("auto", "bf16", "fp16"),
    "attention": words("auto, stored, recomputed, fused"),
    **dict.fromkeys((*FLAGS, "activation_checkpointing"), flags()),
    # Inference and evaluation
    "window_weighting": words("gaussian, constant"),
    "overlap": numbers(0, 0.99),
    "window_batch_size": or_auto(integers(1, unit="windows")),
    "flips": AXES,
    "cleanup": or_null(CLEANUP),
    "protocol": or_null(words(", ".join(PROTOCOLS))),
    "challenge": or_null(words(", ".join(CHALLENGES))),
}
# Options -> value without effect, which a run without the option has
OFF: dict[str, Any] = {
    **dict.fromkeys(("average_decay", "frozen_iterations", "modality_dropout"), 0),
    **dict.fromkeys(("divisible_foreground", "gather_negatives", "normalize_crops"), False),
    **dict.fromkeys(("max_grad_norm", "modality_aliases", "spacing"), None),
    **{name: [] for name in ("flips", "missing_modalities", "without")},
    **{"pretrained_lr_factor": 1, "merging": "monai_1_5", "architecture": "swin_unetr"},
}
# Settings of a checkpoint that predictions may change
CHANGEABLE = ("overlap", "window_weighting", "flips", "cleanup")
# Config sections that checkpoints and run.json record
COMPONENTS = ("tasks", "loss", "optimizer", "lr_scheduler", "deterministic_transforms", "train::random_transforms")
# Keys that MONAI uses, also for its own option `tracking`
OF_MONAI = {"imports", "initialize", "run", "finalize", "_meta_"}
TRACKING = {"tracking", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
