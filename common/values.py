"""The options of the configs: names, kinds of values and meanings; the configs hold the defaults."""

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .data.preparation import PREPARATION_CHECKS
from .data.regions import CLEANUPS, CONVENTIONS, cleanup_of, cleanup_text, declaration
from .errors import ArgumentError
from .metrics.protocols import CHALLENGES, PROTOCOLS

AUTO = "auto"
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
CLEANUP = Kind(CLEANUPS, PLAIN_TEXT.fullmatch, lambda value: cleanup_text(cleanup_of(str(value))))
LOSS_WEIGHTS = Kind("numbers, such as [1,1,1] or {'rotation': 0}", bool, _weights_of, is_literal=True)
AXES = Kind(
    "a list of different axes from 0, 1, 2, such as [0]",
    lambda axes: len({*axes} & {0, 1, 2}) == len(axes),
    is_literal=True,
)

# Options that checkpoints, run.json and embeddings.npz do not hold
UNRECORDED = {"bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "existing", "accept", "pretrained", "resume"}
UNRECORDED |= {"device", "store", "window_batch_size", "stitch_device", "probabilities", "levels"}
# Options that a resumed run may change
RESUMABLE = {"datalist", "cohort", "iterations", "save_interval", "keep", "num_workers", "cache_rate"}
RESUMABLE |= {"attention", "compile", "activation_checkpointing"}


class Option(NamedTuple):
    """An option of the configs: top-level key `name` in a config, `--name` on a command line."""

    name: str
    kind: Kind
    meaning: str

    def __call__(self, value: Any) -> Any:
        """Convert a value to its type; raise `ArgumentError` if it is invalid."""
        return self.kind.parse(self.name, value)


# Parts of recipe_robust that `without` may leave out
PARTS = "crops, rotation, zoom, noise, blur, brightness, contrast, low_resolution, gamma, prior, cross_entropy"

_ALL = (
    # Data and folders
    Option("bundle_root", FOLDER, "the bundle"),
    Option("dataset_dir", FOLDER, "folder of the scans, to which the datalist's paths are relative"),
    Option("datalist", or_null(FILE), "subjects, files and splits in JSON"),
    Option("split", words("training, validation, testing, unlabelled, all"), "part of the datalist"),
    Option("output_dir", FOLDER, "results: run.json, TensorBoard events, pictures, predictions"),
    Option("ckpt_dir", FOLDER, "model.pt (best on validation) and iteration-N.pt (to resume from)"),
    Option("checkpoint", FILES, "weights for prediction; several files form an ensemble"),
    Option("existing", words("refuse, skip, replace"), "action if results exist already"),
    Option("cohort", COHORT, "name of the data in run.json and in packages"),
    Option("modalities", NAMES, "modalities in channel order, as named in the datalist"),
    Option("label_convention", CONVENTION, "meaning of the label values"),
    Option("normalization", words("brain, nonzero, fixed_range, none"), "voxels that the z-score counts (DIFF-9)"),
    Option("orientation", words("RAS, LPS"), "direction of the axes of the network's input"),
    Option("resize", or_null(PATCH_SIZE), "size to which whole volumes are resized; null: not resized"),
    Option("spacing", or_null(SPACING), "voxel size to which images are resampled; null: as in the files"),
    Option("accept", some_of(", ".join(PREPARATION_CHECKS)), "preparation checks that may fail"),
    # Network and training
    Option("architecture", words("swin_unetr, swin_unetr_v2, segresnet, transbts, probe"), "network (DIFF-30, 35)"),
    Option("model_size", words("tiny, small, base, micro, micro_tiny, micro_small, micro_base"), "size (DIFF-14)"),
    Option("merging", words("monai_1_4, monai_1_5"), "patch merging as in MONAI up to 1.4 or since 1.5 (DIFF-38)"),
    Option("patch_size", PATCH_SIZE, "size of a crop or window"),
    Option("batch_size", integers(1, unit="crops"), "per GPU and pass (DIFF-16)"),
    Option("global_batch_size", or_null(integers(1, unit="crops")), "per optimiser step; null: one batch per GPU"),
    Option("crops_per_volume", integers(1, unit="crops"), "crops per volume in a batch (DIFF-20)"),
    Option("learning_rate", numbers(1e-12, 1e3), "peak learning rate, after the warm-up"),
    Option("pretrained_lr_factor", numbers(1e-6, 1), "learning-rate factor for tensors from --pretrained (DIFF-34)"),
    Option("warmup_iterations", lengths(0), "linear warm-up of the learning rate"),
    Option("max_grad_norm", or_null(numbers(1e-6, 1e6)), "norm to which larger gradients are scaled; null: no limit"),
    Option("average_decay", numbers(0, 0.99999), "decay per step of the validated average of the weights; 0: none"),
    Option("without", some_of(PARTS), "parts of recipe_robust to leave out"),
    Option("iterations", lengths(1), "training length; epochs are rounded up to a multiple of val_interval"),
    Option("val_interval", lengths(1), "interval between validations; epochs are rounded up to an iteration"),
    Option("save_interval", integers(1, unit="iterations"), "interval between saved iteration-N.pt"),
    Option("keep", integers(1), "number of iteration-N.pt to keep"),
    Option("mask_share", numbers(0.01, 0.99), "share of the blocks that the task `masked` hides (DIFF-33)"),
    Option("mask_edge", integers(1, unit="voxels"), "edge of the blocks that the task `masked` hides (DIFF-33)"),
    Option("gather_negatives", flags(), "take contrastive negatives from all GPUs (DIFF-20)"),
    Option("head_tokens", words("corner, mean"), "input tokens of the rotation and contrastive heads (DIFF-31)"),
    Option("loss_weights", LOSS_WEIGHTS, "weight of each proxy task in the loss, in the order of `tasks` or by name"),
    Option("best_metric", TEXT, "held-out loss term that chooses model.pt (DIFF-26)"),
    Option("normalize_crops", flags(), "compute z-scores per training crop, not per volume (DIFF-24)"),
    Option("crop_foreground", flags(), "crop volumes to the foreground first (DIFF-20)"),
    Option("divisible_foreground", flags(), "pad volumes to multiples of the patch before cropping (DIFF-20, DIFF-24)"),
    Option("modality_dropout", numbers(0, 1), "probability that a training crop loses some modalities"),
    Option("seed", integers(0, 99_999), "random seed"),  # each process adds 100,000 times its rank
    Option("pretrained", or_null(FILE), "checkpoint with the initial weights of the training"),
    Option("modality_aliases", or_null(ALIASES), "modality whose filters start one that --pretrained lacks"),
    Option("resume", flags("auto"), "continue from the last iteration-N.pt; auto: if there is one"),
    # Machine
    Option("device", DEVICE, "device of the network"),
    Option("num_workers", integers(0, 512), "processes that read volumes, per GPU"),
    Option("cache_rate", numbers(0, 1), "share of the volumes kept in memory after the fixed transforms"),
    Option("store", or_null(FOLDER), "folder of python -m scripts.store, for faster reading of crops"),
    Option("amp", flags("auto", "bf16", "fp16"), "mixed precision; auto: on a GPU, or to predict in bf16 (DIFF-21)"),
    Option("attention", words("auto, stored, recomputed, fused"), "scores for the backward pass; auto: fused on a GPU"),
    Option("compile", flags(), "torch.compile of the network's blocks"),
    Option("activation_checkpointing", flags(), "recompute the encoder's activations: less memory, more time"),
    # Inference and evaluation
    Option("window_weighting", words("gaussian, constant"), "voxel weights in overlapping windows (DIFF-25)"),
    Option("overlap", numbers(0, 0.99), "overlap of neighbouring windows, as a share of the patch"),
    Option("window_batch_size", or_auto(integers(1, unit="windows")), "windows per pass; auto: 8 on a GPU, else 2"),
    Option("stitch_device", DEVICE, "device that stitches windows; cpu: for volumes too large for the GPU"),
    Option("flips", AXES, "axes of test-time mirroring, which averages the logits; checkpoints hold their default"),
    Option("cleanup", or_null(CLEANUP), "cleanup of each region; none: off (DIFF-37)"),
    Option("probabilities", flags(), "also write each region's probabilities"),
    Option("levels", flags(), "also write a vector for each of the encoder's five levels"),
    Option("missing_modalities", NAMES, "modalities to treat as not acquired in every subject"),
    Option("protocol", or_null(words(", ".join(PROTOCOLS))), "scoring protocol; null: of the labels, else lesions"),
    Option("challenge", or_null(words(", ".join(CHALLENGES))), "challenge of the protocol; null: the first"),
)
OPTIONS = {option.name: option for option in _ALL}
# Options -> value without effect, which a run without the option has
OFF: dict[str, Any] = {
    **dict.fromkeys(("average_decay", "modality_dropout"), 0),
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
