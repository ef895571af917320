"""Check the options of a run, which `common.values.OPTIONS` defines."""

import ast
import atexit
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

from .data.regions import regions_of, with_sides
from .environment import prepare_process
from .errors import ArgumentError, did_you_mean
from .files import claimed
from .metrics.protocols import check_convention
from .values import CHANGEABLE, COMPONENTS, OF_MONAI, OPTIONS, RESUMABLE, TRACKING, UNRECORDED, cleanup_of

_CLAIMS = ExitStack()  # output folders of this process's run
atexit.register(_CLAIMS.close)


class Options(SimpleNamespace):
    """The checked options of a run, as attributes."""

    def record(self, **facts: Any) -> dict[str, Any]:
        """Return the options that determine the result, plus `facts` about the run, for a checkpoint and run.json."""
        return {name: value for name, value in vars(self).items() if name not in UNRECORDED} | facts

    def of_results(self) -> dict[str, Any]:
        """Return the options that determine the results of inference, except `checkpoint`, `split` and `amp`."""
        excluded = ("checkpoint", "split", "amp")
        return {name: value for name, value in self.record().items() if name not in RESUMABLE and name not in excluded}

    def make_folders(self) -> None:
        """Create and claim the run's output folders; see `common.files.claimed`."""
        for name in sorted(vars(self).keys() & {"ckpt_dir", "output_dir"}):
            folder = vars(self)[name]
            if os.path.realpath(folder) == os.path.realpath(vars(self).get("dataset_dir", os.devnull)):
                raise ArgumentError(name, folder, "holds the scans", "another folder, or a subfolder")
            _CLAIMS.enter_context(claimed(name, folder))

    def release_folders(self) -> None:
        """Release the folders that `make_folders` claimed."""
        _CLAIMS.close()


def read_options(self_supervised: bool = False, trained: Mapping[str, Any] | None = None) -> Options:
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
    content = config.get_item("").get_config()
    check_used(content)
    values = {name: config.get_resolved_content(name) for name in content if name in OPTIONS}
    options = Options(**{name: OPTIONS[name].parse(name, value) for name, value in values.items()})
    if vars(options).get("amp") == "auto":
        options.amp = automatic_amp(options.device, trains=hasattr(options, "ckpt_dir"))
    _check_together(vars(options), self_supervised)
    check_trained(vars(options), trained or {})
    config.resolved_content.update(vars(options))
    return options


def resolver() -> Any:
    """Return the `monai.bundle.ReferenceResolver` that evaluates the calling component; None outside a config.

    This is the only function that looks at the call stack: MONAI 1.6.1 hands a component nothing but its arguments, and
    `python -m monai.bundle run` takes no workflow class from a config.
    """
    from monai.bundle import ReferenceResolver  # imported here because it is slow

    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), ReferenceResolver):
            return caller
        frame = frame.f_back
    return None


def check_used(config: Mapping[str, Any]) -> None:
    """Refuse a value that nothing in a config uses: MONAI adds a misspelt option or overlay's key without a word.

    The keys of a component are its arguments. Components and expressions may be unused, as they may be run by their id,
    and so may a config's own options, those above `options`: MONAI adds further keys below.
    """
    references = {f"{name}::" for text in _expressions_in(config) for name in re.findall(r"@(\w+(?:::\w+)*)", text)}
    known = (OPTIONS.keys() & {*takewhile("options".__ne__, config)}) | OF_MONAI | TRACKING
    for key, value in _keys_in({name: value for name, value in config.items() if name not in known}):
        is_data = "_target_" not in str(value) and not any(_expressions_in(value))
        if is_data and not any(f"{key}::".startswith(name) or name.startswith(f"{key}::") for name in references):
            hint = did_you_mean(key, {*config, *known} - {key}, "--")
            raise ArgumentError(key, value, f"no such option{hint}")
    if not str(config.get("max_epochs", "$")).startswith("$"):
        raise ArgumentError("max_epochs", config["max_epochs"], expected="--iterations='N epochs'")


def _expressions_in(content: Any) -> Iterator[str]:
    """Yield the expressions and references in nested mappings and lists, but not those of `as_data`."""
    if isinstance(content, str) and content.startswith(("$", "@")):
        try:
            ast.literal_eval(content.removeprefix("$"))
        except (ValueError, SyntaxError):
            yield content
    elif isinstance(content, Mapping | list):
        for value in content.values() if isinstance(content, Mapping) else content:
            yield from _expressions_in(value)


def _keys_in(config: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the MONAI ids of keys, such as train::sampler, and their values; sections are replaced by their keys."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value and "_target_" not in value:
            yield from _keys_in(value, f"{section}{key}::")
        else:
            yield f"{section}{key}", value


def automatic_amp(device: Any, trains: bool = False) -> bool:
    """Return whether mixed precision is fast and safe: on a GPU, or for prediction on a CPU with bfloat16."""
    import torch  # imported here because it is slow

    if torch.device(device).type == "cuda":
        return True
    capabilities = torch.cpu.get_capabilities()  # without these instructions, bfloat16 is slow
    return not trains and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def components() -> dict[str, Any]:
    """Return the tasks, loss, optimiser, schedule and transforms of the calling config, with option values filled in.

    References to objects stay text, because objects cannot be recorded. Empty outside a config.
    """
    config = resolver()
    if config is None:
        return {}
    content = {id: config.get_item(id) for id in COMPONENTS}
    return {id.split("::")[-1]: _component(config, id) for id, item in content.items() if item is not None}


def _component(config: Any, id: str) -> Any:
    content = config.get_item(id).get_config()
    if isinstance(content, Mapping):
        return {str(key): _component(config, f"{id}::{key}") for key in content}
    if isinstance(content, list):
        return [_component(config, f"{id}::{index}") for index in range(len(content))]
    refers = config.match_refs_pattern(content) if isinstance(content, str) else {}
    return config.get_resolved_content(id) if refers and refers.keys() <= OPTIONS.keys() | {"options"} else content


def _check_together(options: Mapping[str, Any], self_supervised: bool) -> None:
    """Refuse options that contradict each other or would have no effect."""
    get, modalities = options.get, options.get("modalities", [])
    multiple, longest = (8, 32) if get("architecture") in ("segresnet", "transbts") else (32, 64)
    edges, crops = get("patch_size", [96, 96, 96]), get("crops_per_volume", 1)
    batch_size = get("batch_size", 2 * crops)
    missing, aliases = get("missing_modalities", []), get("modality_aliases") or {}
    from_scratch, on_cpu = get("pretrained") is None, str(get("device")) == "cpu"
    is_slower = get("pretrained_lr_factor", 1) != 1
    problems = [
        ("modalities", get("modalities") == [], "expected at least one name"),
        ("patch_size", any(edge % multiple for edge in edges), f"expected multiples of {multiple}"),
        ("patch_size", max(edges) < longest, f"expected an edge of {longest} or more"),
        ("amp", on_cpu and "ckpt_dir" in options and get("amp"), "needs a GPU in training"),
        ("patch_size", self_supervised and edges[0] != edges[1], "x and y differ, but crops are rotated about z"),
        ("batch_size", self_supervised and batch_size < 2, "the contrastive task needs at least 2 crops"),
        ("batch_size", batch_size % crops != 0, f"not a multiple of crops_per_volume={crops}"),
        ("modality_dropout", get("modality_dropout", 0) > 0 and len(modalities) == 1, "there is only one modality"),
        ("missing_modalities", not {*missing} <= {*modalities}, f"expected some of {', '.join(modalities)}"),
        ("missing_modalities", missing and {*missing} == {*modalities}, "leaves no modality"),
        ("modality_aliases", aliases and from_scratch, "needs --pretrained, which supplies the filters"),
        ("modality_aliases", not aliases.keys() <= {*modalities}, f"expected keys among {', '.join(modalities)}"),
        ("pretrained_lr_factor", is_slower and from_scratch, "needs --pretrained, whose weights it protects"),
        ("pretrained_lr_factor", is_slower and get("architecture") == "probe", "a probe's encoder is always frozen"),
    ]
    if (convention := get("label_convention")) is not None:
        if get("protocol") is not None:
            check_convention(options["protocol"], convention)
        regions = list(regions_of(convention))
        cleaned = cleanup_of(options["cleanup"]).keys() if get("cleanup") else {*()}
        sided = with_sides(regions) if 0 in get("flips", []) else []
        problems += [
            ("cleanup", not cleaned <= {*regions}, f"expected some of {', '.join(regions)}"),
            ("flips", len(sided) > 0, f"{', '.join(sided)}: regions with a side; expected axes from 1, 2"),
        ]
    for name, is_wrong, problem in problems:
        if is_wrong:
            raise ArgumentError(name, options[name], problem)


def check_trained(options: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Refuse options, except those in `CHANGEABLE`, that contradict the settings of the checkpoint's training."""
    for name, stated in trained.items():
        value = options.get(name, stated)
        is_same = name in CHANGEABLE or value == stated
        if name == "label_convention":  # label values may differ between training and scored labels
            is_same = list(regions_of(value)) == list(regions_of(stated))
        if not is_same:
            raise ArgumentError(name, value, f"{options['checkpoint']} was trained with {stated}")
