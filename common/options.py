"""The options of the bundles' configs: what each means, the values it accepts, and `read`.

`OPTIONS` is the one definition of each option. A config gives it a default; `read` checks and converts the value that a
run has, which may come from a command line as text; `check_command_line` refuses options that no config has; a
checkpoint and run.json keep what `Options.record` returns; `python -m scripts.options BUNDLE` prints the table.
"""

import ast
import difflib
import errno
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from common.cli import options_of
from common.errors import ArgumentError, InputError, check_number, choice, report_in_one_line

__all__ = [
    "OPTIONS",
    "Option",
    "Options",
    "check_command_line",
    "check_device",
    "check_folder",
    "flag",
    "optional",
    "read",
]
# Values, by kind: each checks the value of an option and returns it in its own type


def flag(name: str, value: Any, *words: str) -> Any:
    """True, false, or one of some words; a command line passes all of them as text.

    Raises:
        ArgumentError: the value is none of these.
    """
    known: dict[str, Any] = {"true": True, "false": False} | {word: word for word in words}
    if str(value).lower() not in known:
        *others, last = known
        raise ArgumentError(f"{name}={value}: expected {', '.join(others)} or {last}")
    return known[str(value).lower()]


def optional(value: Any) -> Any:
    """None for null or none, which a command line passes as text because MONAI drops None there."""
    return None if str(value).lower() in ("null", "none") else value


def check_device(name: str, device: Any) -> Any:
    """Check that PyTorch can use a device.

    Raises:
        ArgumentError: the device is unavailable.
    """
    import torch  # here because it is slow to import

    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ArgumentError(f"{name}={device}: expected cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"{name}={device}: no CUDA device here; expected cpu")
    return device


def check_folder(name: str, folder: Any) -> str:
    """A folder that can be written to; it is made where it is missing.

    Raises:
        InputError: it cannot be made or written to, or is not a path.
    """
    path = _path(name, folder)
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ArgumentError(f"{name}={folder}: {error.strerror}; expected a folder that can be written") from error
    return path


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ArgumentError(f"{name}={value}: expected a path; prefix numbers and lists with ./")
    return str(value)


def _paths(name: str, value: Any) -> str | list[str]:
    return [_path(name, each) for each in value] if isinstance(value, list | tuple) else _path(name, value)


def _modalities(name: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        raise ArgumentError(f"{name}={value}: expected a list such as \"['T1','FLAIR']\"")
    return list(value)


def _aliases(name: str, value: Any) -> dict[str, str]:
    given = value
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):
            given = ast.literal_eval(value)
    is_mapping = isinstance(given, Mapping) and len(given) > 0
    if not is_mapping or not all(isinstance(each, str) and each for pair in given.items() for each in pair):
        raise ArgumentError(f"{name}={value}: expected names by names, such as \"{{'T2': 'FLAIR'}}\"")
    return dict(given)


def _patch(name: str, value: Any) -> list[int]:
    fits = isinstance(value, list | tuple) and len(value) == 3 and all(type(edge) is int for edge in value)
    if not fits or any(edge < 64 or edge % 32 for edge in value):
        raise ArgumentError(f"{name}={value}: expected three multiples of 32, each at least 64, such as [96,96,96]")
    return list(value)


def _axes(name: str, value: Any) -> list[int]:
    is_list = isinstance(value, list | tuple) and all(type(axis) is int and 0 <= axis <= 2 for axis in value)
    if not is_list or len(set(value)) < len(value):
        raise ArgumentError(f"{name}={value}: expected a list of the axes 0, 1, 2, each once at most, such as [0]")
    return list(value)


class Kind(NamedTuple):
    """A kind of values: how one is checked and converted, and a description of the accepted values."""

    parse: Callable[[str, Any], Any]
    values: str


def _number(lowest: float, highest: float = math.inf, unit: str = "", kind: type = float) -> Kind:
    def parse(name: str, value: Any) -> Any:
        check_number(name, value, kind, lowest, highest)
        return value

    limits = f"from {lowest:g} to {highest:g}" if math.isfinite(highest) else f"from {lowest:g}"
    return Kind(parse, f"{'integer' if kind is int else 'number'} {limits}{unit and f', {unit}'}")


def _integer(lowest: int, highest: float = math.inf, unit: str = "") -> Kind:
    return _number(lowest, highest, unit, int)


def _length(lowest: int) -> Kind:
    """Iterations, or as text epochs of the training split, which `common.training.plan` turns into iterations."""

    def parse(name: str, value: Any) -> Any:
        if match := re.fullmatch(r"(\d*\.?\d+) ?epochs?", str(value)):
            if float(match[1]):
                return f"{match[1]} epochs"
        elif type(value) is int and value >= lowest:
            return value
        expected = f"a whole number of iterations from {lowest}, or text such as 5 epochs"
        raise ArgumentError(f"{name}={value}: expected {expected}")

    return Kind(parse, f"integer from {lowest}, iterations; or text such as 5 epochs")


def _flag(*words: str) -> Kind:
    return Kind(lambda name, value: flag(name, value, *words), ", ".join(["true", "false", *words]))


def _word(values: str) -> Kind:
    """One of some words, separated by commas."""
    words = dict.fromkeys(values.split(", "))

    def parse(name: str, value: Any) -> Any:
        choice(name, value, words)
        return value

    return Kind(parse, values)


FOLDER, FILE = Kind(_path, "folder"), Kind(_path, "file")
DEVICE = Kind(check_device, "cpu, cuda, cuda:N")


# The options


@dataclass(frozen=True)
class Option:
    """One option of the configs.

    Attributes:
        name: the top-level key in a config, and `--name` on a command line.
        kind: the values that it accepts.
        meaning: one line.
        nullable: whether it accepts null.
        resumable: whether a resumed run may change it.
        recorded: whether a checkpoint, run.json and embeddings.npz keep it.
    """

    name: str
    kind: Kind
    meaning: str
    nullable: bool = False
    resumable: bool = False
    recorded: bool = True

    @property
    def values(self) -> str:
        """What it accepts, in words, with the unit."""
        return f"{self.kind.values}, null" if self.nullable else self.kind.values

    def __call__(self, value: Any) -> Any:
        """The value in its own type; None for null where that is accepted.

        Raises:
            ArgumentError: the option does not accept the value.
        """
        return None if self.nullable and optional(value) is None else self.kind.parse(self.name, value)


def _unrecorded(name: str, kind: Kind, meaning: str, nullable: bool = False) -> Option:
    """An option that a checkpoint does not keep."""
    return Option(name, kind, meaning, nullable, recorded=False)


def _resumable(name: str, kind: Kind, meaning: str, nullable: bool = False) -> Option:
    """An option that a resumed run may change."""
    return Option(name, kind, meaning, nullable, resumable=True)


_ALL = (
    # Data and places
    _unrecorded("bundle_root", FOLDER, "the bundle"),
    _unrecorded("dataset_dir", FOLDER, "the cohort, where a datalist's paths start; for inference, the scans"),
    _resumable("datalist", FILE, "subjects, files and splits in JSON", nullable=True),
    Option("split", _word("training, validation, testing, unlabelled"), "part of the datalist"),
    _unrecorded("output_dir", FOLDER, "results: run.json, TensorBoard events, pictures, predictions"),
    _unrecorded("ckpt_dir", FOLDER, "model.pt (best on validation) and iteration-N.pt (to resume from)"),
    Option("checkpoint", Kind(_paths, "file, or list of files"), "weights to predict with; several are an ensemble"),
    _unrecorded("existing", _word("refuse, skip, replace"), "what happens to results that exist already"),
    _resumable("cohort", Kind(lambda _, value: str(value), "text"), "name of the data in run.json"),
    Option("modalities", Kind(_modalities, "list of names"), "channel order, by the datalist's names"),
    Option("label_convention", _word("brats2021, brats2023, atlas"), "meaning of the label values"),
    _unrecorded("output_convention", _word("brats2021, brats2023, atlas"), "label values of the label maps"),
    Option(
        "normalization", _word("brain, nonzero"), "voxels whose mean and standard deviation scale an image (DIFF-9)"
    ),
    # Network and training
    Option("model_size", _word("tiny, small, base, micro"), "paper, Table 2; micro is for trials (DIFF-14)"),
    Option("patch_size", Kind(_patch, "three multiples of 32 from 64, voxels"), "edges of a crop or window"),
    Option("recipe", _word("text, table, code"), "values of the paper's text, of its Table 3, or of its public code"),
    Option("batch_size", _integer(1, unit="crops"), "crops that a GPU takes at a time (DIFF-16)"),
    Option(
        "global_batch_size",
        _integer(1, unit="crops"),
        "crops of an optimiser step over all GPUs, by accumulation; null: one batch of each GPU",
        nullable=True,
    ),
    Option("crops_per_volume", _integer(1, unit="crops"), "crops of each volume that is read, for one batch (DIFF-20)"),
    Option("learning_rate", _number(1e-12, 1e3), "peak, after the warm-up"),
    Option("warmup_iterations", _length(0), "linear warm-up, then cosine decay"),
    _resumable("iterations", _length(1), "length of the training; epochs are rounded up to a multiple of val_interval"),
    Option("val_interval", _length(1), "from one validation to the next; epochs are rounded up to an iteration"),
    _resumable("save_interval", _integer(1, unit="iterations"), "from one iteration-N.pt to the next"),
    _resumable("keep", _integer(1), "how many iteration-N.pt are kept"),
    Option("gather_negatives", _flag(), "take contrastive negatives from all GPUs (DIFF-20)"),
    Option("best_metric", _word("total, reconstruction"), "held-out loss term that chooses model.pt (DIFF-26)"),
    Option("normalize_crops", _flag(), "z-score of each training crop instead of its volume (DIFF-24)"),
    Option("divisible_foreground", _flag(), "pad the foreground to multiples of the patch before the crop (DIFF-24)"),
    Option("max_grad_norm", _number(1e-12), "L2 norm that gradients are clipped to", nullable=True),
    # 99,999, because each process adds 100,000 times its rank
    Option("seed", _integer(0, 99_999), "seed of every random number"),
    _unrecorded("pretrained", FILE, "checkpoint whose weights the training starts from", nullable=True),
    Option("new_channel_init", _word("fan_out, fan_in"), "Kaiming fan for modalities that pretrained lacks (DIFF-11)"),
    Option(
        "modality_aliases",
        Kind(_aliases, "names by names"),
        "{'T2': 'FLAIR'}: T2, which pretrained lacks, takes its FLAIR's filters",
        nullable=True,
    ),
    _unrecorded("resume", _flag("auto"), "continue from the last iteration-N.pt; auto: if there is one"),
    # Machine
    _unrecorded("device", DEVICE, "where the network runs"),
    _resumable("num_workers", _integer(0), "processes that read volumes, for each GPU"),
    _resumable("cache_rate", _number(0, 1), "share of the volumes kept in memory after the fixed transforms"),
    Option("amp", _flag("bf16", "fp16"), "mixed precision; true: bf16 where the GPU has it (DIFF-21)"),
    _resumable("compile", _flag(), "torch.compile; needs a C++ compiler and minutes"),
    _resumable("activation_checkpointing", _flag(), "recompute the encoder's activations: less memory, more time"),
    # Inference and evaluation
    Option("window_weighting", _word("gaussian, constant"), "weight of the voxels of overlapping windows (DIFF-25)"),
    Option("overlap", _number(0, 0.99), "overlap of neighbouring windows, as a share of the patch"),
    _unrecorded("window_batch_size", _integer(1, unit="windows"), "windows that the network takes at a time"),
    _unrecorded("stitch_device", DEVICE, "where windows are put together; cpu keeps volumes out of the GPU's memory"),
    _unrecorded(
        "flips", Kind(_axes, "list of 0, 1, 2"), "axes to mirror along; the logits of all mirror images are averaged"
    ),
    _unrecorded("probabilities", _flag(), "write each region's probabilities, too"),
    _unrecorded("least_overlap", _number(0, 1), "Dice of two modalities' brains below which a case is refused; 0: any"),
    _unrecorded("levels", _flag(), "a vector for each of the encoder's five levels"),
    _unrecorded("pictures", _integer(0, unit="subjects"), "how many subjects are drawn"),
    Option("protocol", _word("atlas, isles, brats, dice"), "how lesions are scored"),
    Option("challenge", _word("GLI, MET, MEN, SSA, PED"), "BraTS challenge; null: GLI", nullable=True),
)
OPTIONS = {option.name: option for option in _ALL}


class Options(SimpleNamespace):
    """The options of a run by name, each in its own type."""

    def record(self, **facts: Any) -> dict[str, Any]:
        """What a checkpoint and run.json keep: the options that made the result, and further facts of the run."""
        return {name: value for name, value in vars(self).items() if OPTIONS[name].recorded} | facts

    def make_folders(self) -> None:
        """Make the folders that the run writes to.

        Raises:
            ArgumentError: one cannot be written to.
        """
        for name in ("output_dir", "ckpt_dir"):
            if hasattr(self, name):
                check_folder(name, getattr(self, name))


def read(self_supervised: bool = False) -> Options:
    """Read and check the options of the config that calls this, before anything else is read or written.

    Uncaught `InputError`s end the process in one line from now on, and options that the config lacks are refused.

    Args:
        self_supervised: whether the network learns from two views of each crop.

    Raises:
        InputError: an option is unknown, has a value that it cannot have, or does not fit another one.
    """
    report_in_one_line()
    check_command_line(sys.argv)
    resolver = _resolver()
    found = {name: resolver.get_resolved_content(name) for name in resolver.items if name in OPTIONS}
    options = Options(**{name: OPTIONS[name](value) for name, value in found.items()})
    _check_together(options, self_supervised)
    return options


def _resolver() -> Any:
    """The resolver of the config whose expression is being evaluated.

    MONAI hands an expression only the values that it names. Naming each option here again would be a second list of
    them, so the resolver is taken from the call stack.
    """
    from monai.bundle import ReferenceResolver

    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ReferenceResolver):
            return found
        frame = frame.f_back
    raise RuntimeError("common.options.read: called outside of a config")


def _check_together(options: Options, self_supervised: bool) -> None:
    values = vars(options)
    if self_supervised and options.patch_size[0] != options.patch_size[1]:
        raise ArgumentError(
            f"patch_size={options.patch_size}: expected equal x and y, because crops are turned about z"
        )
    if self_supervised and values.get("batch_size", 2) < 2:
        raise ArgumentError(
            f"batch_size={options.batch_size}: expected at least 2, because views are told apart in a batch"
        )
    if (crops := values.get("crops_per_volume", 1)) > 1 and options.batch_size % crops:
        raise ArgumentError(f"batch_size={options.batch_size}: expected a multiple of crops_per_volume={crops}")
    if aliases := values.get("modality_aliases"):
        if options.pretrained is None:
            raise ArgumentError(f"modality_aliases={aliases}: expected pretrained, the checkpoint with these filters")
        if others := [modality for modality in aliases if modality not in options.modalities]:
            known = ", ".join(options.modalities)
            raise ArgumentError(f"modality_aliases={aliases}: {others[0]} is not in modalities; expected {known}")


def check_command_line(argv: Sequence[str]) -> None:
    """Refuse options of `python -m monai.bundle run` that none of its config files has.

    Args:
        argv: the command line in the form of `sys.argv`; commands other than `monai.bundle run` are ignored.

    Raises:
        InputError: an option is neither one of `monai.bundle.run` nor a key of the configs.
    """
    if len(argv) < 2 or not argv[0].endswith("bundle/__main__.py") or argv[1] != "run":
        return
    from monai.bundle import ConfigParser, run  # here because they are slow to import

    _, given = options_of(argv[2:])
    if "args_file" in given:
        given = ConfigParser.load_config_file(given["args_file"]) | given
    files = _as_list(given.get("config_file", []))
    parser = ConfigParser()
    parser.read_config(files)
    known = set(inspect.signature(run).parameters) | {"workflow_type", "help"}
    for name, value in given.items():
        if name in ("epochs", "max_epochs"):
            raise InputError(f"--{name}={value}: no such option; did you mean --iterations='{value} epochs'?")
        if name in known or name in parser:
            continue
        keys = sorted(key for key in parser.config if key != "_meta_")
        near = difflib.get_close_matches(name, [*keys, *known], n=1)
        options = [key for key in OPTIONS if key in keys] or keys
        hint = f"did you mean --{near[0]}?" if near else f"expected one of {', '.join(options)}"
        raise InputError(f"--{name}={value}: no such option in {', '.join(map(str, files))}; {hint}")


def _as_list(value: str | Sequence[str]) -> list[str]:
    if isinstance(value, str) and value.startswith("["):
        value = ast.literal_eval(value)
    return [value] if isinstance(value, str | Path) else list(value)
