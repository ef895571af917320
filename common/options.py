"""The options of the configs, with their meanings and accepted values, and `read`, which checks them.

`OPTIONS` defines each option once; the configs hold the defaults. `read` checks and converts a run's values,
checkpoints and run.json hold `Options.record`, and `python -m scripts.options BUNDLE` prints the table.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .data.cleanup import cleanup_of
from .data.preparation import PREPARATION_CHECKS
from .data.regions import regions_of, with_sides
from .environment import prepare_process
from .errors import ArgumentError, choice, did_you_mean, within
from .locks import claim, release
from .memory import check_crops
from .metrics.protocols import CHALLENGES, PROTOCOLS, check_convention
from .resolver import resolver
from .ssl.weighting import task_name, task_weights
from .values import (
    ALIASES,
    AUTO,
    AXES,
    CLEANUP,
    COHORT,
    CONVENTION,
    DEVICE,
    FILE,
    FILES,
    FOLDER,
    LOSS_WEIGHTS,
    MODALITIES,
    NAMES,
    PATCH_SIZE,
    SPACING,
    TEXT,
    Kind,
    flags,
    integers,
    lengths,
    numbers,
    optional,
    or_auto,
    some_of,
    words,
)


@dataclass(frozen=True)
class Option:
    """An option of the configs: top-level key `name` in a config, `--name` on a command line.

    Attributes:
        name: Name of the option.
        kind: Type of the values, which checks and converts them.
        meaning: Description in the table of options.
        nullable: Whether null is a valid value.
        resumable: Whether a resumed run may change the option.
        recorded: Whether checkpoints, run.json and embeddings.npz hold the option.
    """

    name: str
    kind: Kind
    meaning: str
    nullable: bool = False
    resumable: bool = False
    recorded: bool = True

    @property
    def values(self) -> str:
        """Description of the accepted values, with the unit."""
        return f"{self.kind.values}, null" if self.nullable else self.kind.values

    def __call__(self, value: Any) -> Any:
        """Convert a value to its type, and null to None if `nullable`; raise `ArgumentError` if it is invalid."""
        return None if self.nullable and optional(value) is None else self.kind.parse(self.name, value)


_unrecorded = partial(Option, recorded=False)
_resumable = partial(Option, resumable=True)

# Parts of recipe_robust that `without` may leave out
PARTS = (
    *("crops", "rotation", "zoom", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma"),
    *("prior", "cross_entropy"),
)

_ALL = (
    # Data and folders
    _unrecorded("bundle_root", FOLDER, "the bundle"),
    _unrecorded("dataset_dir", FOLDER, "folder of the cohort or of new scans; the datalist's paths are relative to it"),
    _resumable("datalist", FILE, "subjects, files and splits in JSON", nullable=True),
    Option(
        "split", words("training, validation, testing, unlabelled, all"), "part of the datalist; all: every subject"
    ),
    _unrecorded("output_dir", FOLDER, "results: run.json, TensorBoard events, pictures, predictions"),
    _unrecorded("ckpt_dir", FOLDER, "model.pt (best on validation) and iteration-N.pt (to resume from)"),
    Option("checkpoint", FILES, "weights for prediction; several files form an ensemble"),
    _unrecorded("existing", words("refuse, skip, replace"), "action if results exist already"),
    _resumable("cohort", COHORT, "name of the data in run.json and in packages"),
    Option("modalities", MODALITIES, "modalities in channel order, as named in the datalist"),
    Option("label_convention", CONVENTION, "meaning of the label values"),
    Option(
        "normalization",
        words("brain, nonzero, fixed_range, none"),
        "intensities: z-scores by the voxels of the brain or by all non-zero voxels; fixed_range: -1000 to 1000 scaled "
        "to 0 to 1; none: as in the files (DIFF-9)",
    ),
    Option("orientation", words("RAS, LPS"), "direction of the axes of the network's input"),
    Option("resize", PATCH_SIZE, "size to which whole volumes are resized; null: not resized", nullable=True),
    Option("spacing", SPACING, "voxel size to which images are resampled; null: as in the files", nullable=True),
    _unrecorded("accept", some_of(*PREPARATION_CHECKS), "preparation checks that may fail"),
    # Network and training
    Option(
        "architecture",
        words("swin_unetr, swin_unetr_v2, segresnet, transbts, probe"),
        "the paper's network, a baseline (segresnet and transbts take patches in multiples of 8; DIFF-30), or a "
        "linear probe of the frozen encoder (DIFF-35)",
    ),
    Option(
        "model_size",
        words("tiny, small, base, micro, micro_tiny, micro_small, micro_base"),
        "network size (paper, Table 2, which calls base Big); micro sizes are for trials (DIFF-14)",
    ),
    Option(
        "merging",
        words("monai_1_4, monai_1_5"),
        "neighbours that the encoder's patch merging reads: as in MONAI up to 1.4 or since 1.5 (DIFF-38)",
    ),
    Option("patch_size", PATCH_SIZE, "size of a crop or window"),
    Option(
        "batch_size",
        or_auto(integers(1, unit="crops")),
        "crops per GPU and pass; auto: the largest number that fits and divides global_batch_size (DIFF-16)",
    ),
    Option(
        "global_batch_size",
        integers(1, unit="crops"),
        "crops per optimiser step over all GPUs, with gradient accumulation; null: one batch per GPU",
        nullable=True,
    ),
    Option("crops_per_volume", integers(1, unit="crops"), "crops per volume in a batch (DIFF-20)"),
    Option("learning_rate", numbers(1e-12, 1e3), "peak learning rate, after the warm-up"),
    Option("pretrained_lr_factor", numbers(1e-6, 1), "learning-rate factor for tensors from --pretrained (DIFF-34)"),
    Option(
        "frozen_iterations",
        integers(0, unit="iterations"),
        "initial iterations in which tensors from --pretrained stay fixed; their warm-up follows (DIFF-34)",
    ),
    Option("warmup_iterations", lengths(0), "linear warm-up of the learning rate"),
    Option(
        "max_grad_norm",
        numbers(1e-6, 1e6),
        "norm to which larger gradients are scaled down; null: no limit",
        nullable=True,
    ),
    Option(
        "average_decay",
        numbers(0, 0.99999),
        "decay per step of the weights' moving average, which is validated and saved; 0: no average",
    ),
    _resumable(
        "patience",
        integers(1, unit="validations"),
        "consecutive validations without a new best that end the training; null: no early stop",
        nullable=True,
    ),
    Option("without", some_of(*PARTS), "parts of recipe_robust to leave out"),
    _resumable("iterations", lengths(1), "training length; epochs are rounded up to a multiple of val_interval"),
    Option("val_interval", lengths(1), "interval between validations; epochs are rounded up to an iteration"),
    _resumable("save_interval", integers(1, unit="iterations"), "interval between saved iteration-N.pt"),
    _resumable("keep", integers(1), "number of iteration-N.pt to keep"),
    Option("mask_share", numbers(0.01, 0.99), "share of the blocks that the task `masked` hides (DIFF-33)"),
    Option("mask_edge", integers(1, unit="voxels"), "edge of the blocks that the task `masked` hides (DIFF-33)"),
    Option("gather_negatives", flags(), "take contrastive negatives from all GPUs (DIFF-20)"),
    Option("head_tokens", words("corner, mean"), "input tokens of the rotation and contrastive heads (DIFF-31)"),
    Option("loss_weights", LOSS_WEIGHTS, "weight of each proxy task in the loss, in the order of `tasks` or by name"),
    Option(
        "best_metric", Kind("total, or a proxy task", str, str), "held-out loss term that chooses model.pt (DIFF-26)"
    ),
    Option("normalize_crops", flags(), "compute z-scores per training crop, not per volume (DIFF-24)"),
    Option("crop_foreground", flags(), "crop volumes to the foreground first (DIFF-20)"),
    Option(
        "divisible_foreground",
        flags(),
        "pad the foreground or volume to multiples of the patch before crops are taken (DIFF-20, DIFF-24)",
    ),
    Option(
        "modality_dropout",
        numbers(0, 1),
        "probability that a training crop loses some modalities, to prepare for scans without them",
    ),
    # up to 99,999, because each process adds 100,000 times its rank to the seed
    Option("seed", integers(0, 99_999), "random seed"),
    _unrecorded("pretrained", FILE, "checkpoint with the initial weights of the training", nullable=True),
    Option(
        "modality_aliases",
        ALIASES,
        "source of filters for modalities that --pretrained lacks: {'T2': 'FLAIR'} starts T2 with FLAIR's filters",
        nullable=True,
    ),
    _unrecorded("resume", flags("auto"), "continue from the last iteration-N.pt; auto: if there is one"),
    _unrecorded(
        "resume_changes",
        some_of("subjects", "learning_rate"),
        "accepted differences from the resumed run: training subjects or learning rate",
    ),
    # Machine
    _unrecorded("device", DEVICE, "device of the network"),
    _resumable("num_workers", integers(0, 512), "processes that read volumes, per GPU"),
    _resumable(
        "cache_rate",
        numbers(0, 1),
        "share of the volumes kept in memory after the fixed transforms; ignored with a store",
    ),
    _unrecorded("store", FOLDER, "folder of python -m scripts.store, for faster reading of crops", nullable=True),
    Option(
        "amp",
        flags("auto", "bf16", "fp16"),
        "mixed precision; auto: true on a GPU, and for prediction on a CPU with bfloat16; true: bf16 if the GPU "
        "supports it (DIFF-21)",
    ),
    _resumable(
        "attention",
        words("auto, stored, recomputed, fused"),
        "attention scores for the backward pass: stored (as in MONAI), recomputed, or fused into one GPU kernel; "
        "auto: fused on a GPU, recomputed on a CPU",
    ),
    _resumable("compile", flags("auto"), "torch.compile of the network's blocks; auto: on a GPU with Triton"),
    _resumable("activation_checkpointing", flags(), "recompute the encoder's activations: less memory, more time"),
    # Inference and evaluation
    Option("window_weighting", words("gaussian, constant"), "voxel weights in overlapping windows (DIFF-25)"),
    Option("overlap", numbers(0, 0.99), "overlap of neighbouring windows, as a share of the patch"),
    _unrecorded(
        "window_batch_size",
        or_auto(integers(1, unit="windows")),
        "windows per pass, halved when GPU memory runs out; auto: 8 on a GPU, 2 on a CPU",
    ),
    _unrecorded(
        "stitch_device",
        or_auto(DEVICE),
        "device that stitches windows; cpu saves GPU memory; auto: the GPU if the volume fits",
    ),
    Option("flips", AXES, "axes of test-time mirroring, which averages the logits; checkpoints hold their default"),
    Option(
        "cleanup",
        CLEANUP,
        "cleanup of each region: minimum component size, largest component only, holes filled; none: off; "
        "python -m scripts.cleanup chooses a checkpoint's default (DIFF-37)",
        nullable=True,
    ),
    _unrecorded(
        "slices",
        words("none, chosen, all"),
        "cases with a page of all slices; chosen: those that evaluation.html shows",
    ),
    _unrecorded("probabilities", flags(), "also write each region's probabilities"),
    _unrecorded("levels", flags(), "also write a vector for each of the encoder's five levels"),
    Option("missing_modalities", NAMES, "modalities to treat as not acquired in every subject"),
    Option(
        "protocol",
        words(", ".join(PROTOCOLS)),
        "scoring protocol, explained by python -m scripts.evaluate protocols; null: that of the labels' challenge, "
        "otherwise lesions (Dice and lesion F1)",
        nullable=True,
    ),
    _unrecorded(
        "background",
        TEXT,
        "modality drawn behind the labels; null: the modality in which the labels have the highest contrast",
        nullable=True,
    ),
    Option("challenge", words(", ".join(CHALLENGES)), "challenge of the protocol; null: the first", nullable=True),
)
OPTIONS = {option.name: option for option in _ALL}
# Options that a training config may omit, with their defaults
TRAINING_DEFAULTS: dict[str, Any] = {
    "global_batch_size": None,
    "save_interval": 100,
    "keep": 2,
    "accept": [],
    "resume_changes": [],
    "patience": None,
    "cohort": "unnamed",
}
# Options -> value without effect, which a run without the option has
OFF: dict[str, Any] = {
    **dict.fromkeys(("average_decay", "frozen_iterations", "modality_dropout"), 0),
    **dict.fromkeys(("divisible_foreground", "gather_negatives", "normalize_crops"), False),
    **dict.fromkeys(("max_grad_norm", "modality_aliases", "spacing"), None),
    **{"flips": [], "missing_modalities": [], "without": [], "pretrained_lr_factor": 1, "merging": "monai_1_5"},
}
# Settings of a checkpoint that predictions may change
CHANGEABLE = ("overlap", "window_weighting", "flips", "cleanup")
# Config sections that checkpoints and run.json record
COMPONENTS = ("tasks", "loss", "optimizer", "lr_scheduler", "deterministic_transforms", "train::random_transforms")


class Options(SimpleNamespace):
    """The checked options of a run, as attributes."""

    def record(self, **facts: Any) -> dict[str, Any]:
        """Return the options that determine the result, plus `facts` about the run, for a checkpoint and run.json."""
        return {name: value for name, value in vars(self).items() if OPTIONS[name].recorded} | facts

    def of_results(self) -> dict[str, Any]:
        """Return the options that determine the results of inference, except `checkpoint`, `split` and `amp`."""
        excluded = ("checkpoint", "split", "amp")
        return {
            name: value for name, value in self.record().items() if not OPTIONS[name].resumable and name not in excluded
        }

    def make_folders(self) -> None:
        """Create and claim the run's output folders; see `common.locks.claim`."""
        has_events = bool({"ckpt_dir", "protocol"} & vars(self).keys())  # training or evaluation
        if has_events and re.search("[\udc80-\udcff]", self.output_dir):  # bytes that are not UTF-8
            raise ArgumentError("output_dir", self.output_dir, "not UTF-8; TensorBoard expects UTF-8")
        for name, folder in self._folders().items():
            if folder.startswith("~"):  # shells do not expand it after `=`, so a folder `~` would be created
                raise ArgumentError(name, folder, "`~` is not expanded after `=`; give the full path")
            check_apart(name, folder, vars(self).get("dataset_dir", os.devnull))
            claim(name, folder)

    def release_folders(self) -> None:
        """Release the folders that `make_folders` claimed."""
        for folder in reversed(self._folders().values()):
            release(folder)

    def _folders(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("ckpt_dir", "output_dir") if hasattr(self, name)}


def check_apart(name: str, folder: str | Path, dataset_dir: str) -> None:
    """Refuse an output folder that is also the folder of the scans."""
    if os.path.realpath(folder) == os.path.realpath(dataset_dir):
        raise ArgumentError(name, folder, "holds the scans", "another folder, or a subfolder")


def read(self_supervised: bool = False, trained: Mapping[str, Any] | None = None) -> Options:
    """Read and check the options of the calling config, before anything else is read or written.

    Afterwards `@name` is the checked, converted value everywhere in the config. An uncaught `InputError` ends the
    process with a one-line message.

    Args:
        self_supervised: Whether the network learns from two views of each crop.
        trained: Settings of the checkpoint's training (`common.weights.settings_of`).

    Raises:
        InputError: an option is misspelt or invalid, or conflicts with other options, the machine or the checkpoint.
    """
    prepare_process()
    config = resolver()
    defaults = TRAINING_DEFAULTS if "ckpt_dir" in config.items else {}
    names = [name for name in config.items if name in OPTIONS]
    _check_spelling(config, [*names, *defaults])
    if trained:
        check_stated(trained, config.get_resolved_content("checkpoint"))
    options = Options(**defaults | {name: OPTIONS[name](config.get_resolved_content(name)) for name in names})
    if vars(options).get("amp") == "auto":
        options.amp = automatic_amp(options.device, trains=hasattr(options, "ckpt_dir"))
    _check_together(options, self_supervised)
    check_flips(vars(options))
    _check_tasks(options, config.items["tasks"].get_config() if "tasks" in config.items else None)
    if {"patch_size", "modalities", "device"} <= vars(options).keys():
        least = {"batch_size": 1} if vars(options).get("batch_size") == AUTO else {}
        check_crops(vars(options) | least, views=2 if self_supervised else 1)
    check_trained(vars(options), trained or {})
    config.resolved_content.update(vars(options))
    return options


def check_plain(values: Mapping[str, Any], texts: Collection[str] = ()) -> Options:
    """Check and convert the options whose values are not config expressions; raise `ArgumentError` if one is invalid.

    Expressions and references are left out, except in the options in `texts`, which are never evaluated; so are GPUs,
    because PyTorch is slow to import. The options of a training config are also checked in combination.
    """
    options = Options()
    for name in values.keys() & OPTIONS.keys():
        if name in ("device", "stitch_device") and str(values[name]).startswith("cuda"):
            continue
        if name in texts or not str(values[name]).startswith(("$", "@", "%")):
            setattr(options, name, OPTIONS[name](values[name]))
    if "ckpt_dir" in values and {"patch_size", "modalities", "pretrained", "batch_size"} <= vars(options).keys():
        _check_together(options, self_supervised="loss_weights" in values)
    _check_tasks(options, values.get("tasks"))
    return options


def automatic_amp(device: Any, trains: bool = False) -> bool:
    """Return whether mixed precision is fast and safe: on a GPU, or for prediction on a CPU with bfloat16."""
    import torch  # imported here because it is slow

    return torch.device(device).type == "cuda" or (not trains and cpu_has_bfloat16())


def cpu_has_bfloat16() -> bool:
    """Return whether the processor computes in bfloat16; without these instructions, bfloat16 is slow."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def check_stated(trained: Mapping[str, Any], checkpoint: Any) -> None:
    """Refuse invalid settings in a checkpoint's metadata, which become the options' defaults."""
    with within(f"checkpoint {checkpoint}: metadata"):
        stated = {name: OPTIONS[name](value) for name, value in trained.items() if name in OPTIONS}
        _check_together(Options(**stated), self_supervised=False)


def _check_spelling(config: Any, names: Sequence[str]) -> None:
    """Refuse a key that resembles an option and has a plain value: MONAI's command silently adds misspelt options."""
    for name, item in config.items.items():
        value = item.get_config()
        if name in OPTIONS or "::" in name or isinstance(value, Mapping) or str(value).startswith(("$", "@")):
            continue
        if name == "recipe":
            raise ArgumentError(
                "recipe", value, f"only scripts.run has this option; add the overlay configs/recipe_{value}.yaml"
            )
        if hint := did_you_mean(name, names, "--", cutoff=0.85):
            raise ArgumentError(name, value, f"no such option{hint}")


def components() -> dict[str, Any]:
    """Return the tasks, loss, optimiser, schedule and transforms of the calling config, with option values filled in.

    References to objects stay text, because objects cannot be recorded. Empty outside a config.
    """
    config = resolver()
    return (
        {}
        if config is None
        else {id.split("::")[-1]: _component(config, id) for id in COMPONENTS if id in config.items}
    )


def _component(config: Any, id: str) -> Any:
    content = config.items[id].get_config()
    if isinstance(content, Mapping):
        return {str(key): _component(config, f"{id}::{key}") for key in content}
    if isinstance(content, list):
        return [_component(config, f"{id}::{index}") for index in range(len(content))]
    refers = config.match_refs_pattern(content) if isinstance(content, str) else {}
    return config.get_resolved_content(id) if refers and refers.keys() <= OPTIONS.keys() | {"options"} else content


def check_network(
    patch_size: Sequence[int],
    model_size: str | None = None,
    architecture: str = "swin_unetr",
    activation_checkpointing: bool = False,
) -> None:
    """Check that an architecture supports the other options; see `common.baselines.segmentation_network`."""
    is_swin = architecture in ("swin_unetr", "swin_unetr_v2")
    has_swin = is_swin or architecture == "probe"
    multiple = 32 if has_swin else 8
    if any(edge % multiple for edge in patch_size):
        raise ArgumentError(
            "patch_size",
            patch_size,
            expected=f"three multiples of {multiple}, the largest at least 64, such as [96,96,96]",
        )
    if not has_swin and model_size not in (None, "small", "micro"):
        raise ArgumentError("model_size", model_size, expected=f"one of small, micro with architecture={architecture}")
    if not is_swin and activation_checkpointing:
        raise ArgumentError("activation_checkpointing", True, expected=f"false with architecture={architecture}")


def _check_together(options: Options, self_supervised: bool) -> None:
    values = vars(options)
    names = ("patch_size", "model_size", "architecture", "activation_checkpointing")
    if "patch_size" in values:
        check_network(**{name: values[name] for name in names if name in values})
    if self_supervised and options.patch_size[0] != options.patch_size[1]:
        raise ArgumentError(
            "patch_size", options.patch_size, expected="equal x and y, because crops are rotated about z"
        )
    if values.get("mask_edge", 1) >= max(values.get("patch_size", [96])):
        raise ArgumentError(
            "mask_edge", options.mask_edge, f"crops of {options.patch_size} voxels are a single block", "a smaller edge"
        )
    batch_size = values.get("batch_size", AUTO)
    if self_supervised and batch_size != AUTO and batch_size < 2:
        raise ArgumentError(
            "batch_size", options.batch_size, expected="at least 2, because the contrastive task compares crops"
        )
    if batch_size != AUTO and batch_size % (crops := values.get("crops_per_volume", 1)):
        raise ArgumentError("batch_size", options.batch_size, expected=f"a multiple of crops_per_volume={crops}")
    if values.get("modality_dropout") and len(options.modalities) == 1:
        raise ArgumentError("modality_dropout", options.modality_dropout, "there is only one modality", "0")
    if (convention := values.get("label_convention")) is not None:
        _check_regions(options, convention)
    if values.get("background") is not None:
        choice("background", options.background, dict.fromkeys(options.modalities))
    if missing := values.get("missing_modalities"):
        _check_missing(missing, options.modalities)
    for name in ("pretrained_lr_factor", "frozen_iterations"):
        if values.get(name, OFF[name]) == OFF[name]:
            continue
        if options.pretrained is None:
            raise ArgumentError(name, values[name], "needs --pretrained, whose weights it protects")
        if values.get("architecture") == "probe":
            raise ArgumentError(name, values[name], "a probe's encoder is always frozen; leave the option out")
    if aliases := values.get("modality_aliases"):
        if options.pretrained is None:
            raise ArgumentError("modality_aliases", aliases, "needs --pretrained, which supplies the filters")
        if unknown_names := [modality for modality in aliases if modality not in options.modalities]:
            available = ", ".join(options.modalities)
            raise ArgumentError("modality_aliases", aliases, f"{unknown_names[0]} is not in modalities", available)


def _check_regions(options: Options, convention: str) -> None:
    """Check the options that depend on the regions."""
    values, regions = vars(options), _regions(convention)
    if values.get("protocol") is not None:
        check_convention(options.protocol, convention)
    if values.get("cleanup") and (unknown := cleanup_of(options.cleanup).keys() - {*regions}):
        raise ArgumentError("cleanup", options.cleanup, f"no region {min(unknown)}", f"some of {', '.join(regions)}")


def check_flips(options: Mapping[str, Any]) -> None:
    """Refuse to mirror regions that have sides; a checkpoint's own `flips` can be replaced by the option."""
    convention, flips = options.get("label_convention"), options.get("flips", [])
    if convention is not None and 0 in flips and (sided := with_sides(_regions(convention))):
        raise ArgumentError("flips", flips, f"{sided[0]} has a side", "axes from 1, 2")


def _check_tasks(options: Options, tasks: Any) -> None:
    """Check the options that depend on a config's proxy tasks, if the config lists the tasks' classes."""
    is_list = isinstance(tasks, list) and all(isinstance(task, Mapping) and "_disabled_" not in task for task in tasks)
    if is_list and {"best_metric", "loss_weights"} <= vars(options).keys():
        names = [task_name(str(task.get("_target_"))) for task in tasks]
        task_weights(names, options.loss_weights)
        choice("best_metric", options.best_metric, dict.fromkeys(["total", *names]))


def _check_missing(missing: Sequence[str], modalities: Sequence[str]) -> None:
    names = ", ".join(modalities)
    if unknown := [name for name in missing if name not in modalities]:
        raise ArgumentError("missing_modalities", missing, f"{unknown[0]} is not in modalities", f"some of {names}")
    if set(missing) == set(modalities):
        raise ArgumentError("missing_modalities", missing, f"leaves none of the modalities {names}")


def check_trained(options: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuse options, except those in `CHANGEABLE`, that contradict the settings of the checkpoint's training."""
    for name, stated in trained.items():
        value = stated if name in CHANGEABLE else options.get(name, stated)
        is_same = _regions(value) == _regions(stated) if name == "label_convention" else value == stated
        if not is_same:
            hint = "expected the same regions" if name == "label_convention" else "leave the option out"
            raise ArgumentError(name, value, f"{options['checkpoint']} was trained with {stated}; {hint}")


def _regions(convention: str) -> list[str]:
    """Return a convention's region names; label values may differ between training and scored labels."""
    return list(regions_of(convention))
