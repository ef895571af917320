"""Checkpoint files of any known layout: read without running code from them, saved atomically."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, is_zipfile

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..errors import InputError, report_in_one_line, within
from ..files import atomic_write, digest, read_json
from ..values import AXES, CLEANUP, EDGES, LENGTHS, NAMES, TEXT, flags, numbers, optional

ENCODER = "swinViT."  # prefix of the encoder, the pretrained part
STEM = f"{ENCODER}patch_embed.proj.weight"  # the encoder's first layer; files with this name contain an encoder

# The known layouts: a state dict, at the top level or under one of WRAPPERS; names may share a prefix, such as module.
WRAPPERS = ("network", "state_dict", "model", "model_state_dict")  # ours; common; MONAI's; the public BraTS code's
# MONAI's model_swinvit.pt: an encoder without prefix, with older names, and a layer that MONAI's encoder lacks
ENCODER_PART = re.compile(r"(patch_embed|layers\d\w*|norm)(\.|$)")
FC = re.compile(r"\.mlp\.fc([12])\.")  # mlp.linear1, mlp.linear2
LEFT_OUT = re.compile(r"norm\.(weight|bias)$")

# Metadata that become options of configs; training runs from Python may use values that no option accepts
STATED = dict.fromkeys(("bundle", "architecture", "model_size", "merging", "label_convention", "normalization"), TEXT)
STATED |= {"modalities": NAMES, "tasks": NAMES, "patch_size": EDGES, "spacing": LENGTHS, "flips": AXES}
STATED |= {"orientation": TEXT, "crop_foreground": flags(), "resize": EDGES}
STATED |= {"overlap": numbers(0, 0.99), "window_weighting": TEXT, "cleanup": CLEANUP}
LARGEST = 1e9  # limit of weights and running variances: far above trained values; its square fits float32

# Classes in BrainSegFounder's ATLAS-finetune, a pickled network; no repository has the wrapper, ATLASPredictor
CLASSES = re.compile(
    r"__(mp_)?main__\.ATLASPredictor|(torch\.(nn\.modules|nn\.parallel|distributed)|monai\.networks)(\.\w+)+"
)
EXPECTED = "a complete file of torch.save or safetensors, of tensors alone (docs/how-to/use-the-papers-weights.md)"


class Layout(NamedTuple):
    """How a checkpoint file nests and names its tensors."""

    wrapper: str | None  # key of the tensors' dictionary; None at the top level
    prefix: str  # of all names
    encoder: str | None  # prefix of the encoder, after `prefix`; None without an encoder
    left_out: list[str]  # tensors that MONAI's networks and SSLHead lack


class Checkpoint(NamedTuple):
    """A checkpoint file's tensors by parameter name, its metadata (empty if not from this project), and its layout."""

    state: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    layout: Layout


class Shell:
    """Object of any class in `CLASSES`: it keeps its state as attributes, and has no code."""

    def __new__(cls, *_: Any) -> "Shell":
        return super().__new__(cls)


def load(path: str | Path, lazily: bool = False) -> Mapping[str, Any]:
    """Load the dictionary in a file of torch.save or safetensors; `lazily` reads torch.save's tensors on first use."""
    file = Path(path)
    is_archive = file.suffix != ".safetensors" and is_zipfile(file)  # torch.load decides by the suffix, too
    shells: list[Any] = []
    try:
        if is_archive:
            with ZipFile(file) as archive:
                if not lazily and (broken := archive.testzip()):  # torch.load checks no sums
                    raise InputError(f"damaged: the checksum of {broken} is wrong")
            classes = get_unsafe_globals_in_checkpoint(file)
            if any(name.endswith("ATLASPredictor") for name in classes):
                shells = [(Shell, name) for name in classes if CLASSES.fullmatch(name)]
        with safe_globals(shells):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=lazily and is_archive)
        if isinstance(content, Shell):
            content = dict(_tensors_of(content, ""))
    except Exception as error:  # torch.load's readers raise many exceptions
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"needs {needed[1]}, and unpickling can run any code" if needed else str(error).split(". ")[0][:120]
        raise InputError(f"checkpoint {path}", reason or type(error).__name__, EXPECTED) from error
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path}", f"of type {type(content).__name__}", "a dictionary of tensors")
    return content


def _tensors_of(module: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers of a shell and of the shells in it, by their names in a state dict."""
    for name, tensor in {**module._parameters, **module._buffers}.items():
        if tensor is not None:
            yield prefix + name, tensor
    for name, child in module._modules.items():
        yield from _tensors_of(child, f"{prefix}{name}.")


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint without running code from the file; rename its tensors as in SSLHead and SwinUNETR.

    It may have any of the layouts above: those of our files and of the paper's authors (different heads: DIFF-29).
    Metadata are in the file, or in the JSON beside a plain state dict.
    """
    content = load(path)
    with within(f"checkpoint {path}"):
        wrapper, tensors = _tensors(content)
        prefix, encoder = _prefix_and_encoder(tensors)
        parameters = {name: _parameter_name(name.removeprefix(prefix), encoder) for name in tensors}
        state = {parameter: tensors[name] for name, parameter in parameters.items() if parameter is not None}
        left_out = [name for name, parameter in parameters.items() if parameter is None]
        metadata = _metadata(content, path)
        if any(map(FC.search, tensors)):
            metadata.setdefault("merging", "monai_1_4")  # MONAI's model_swinvit.pt
        return Checkpoint(state, metadata, Layout(wrapper, prefix, encoder, left_out))


def settings_of(checkpoint: str | Path | Sequence[str]) -> dict[str, Any]:
    """Return the settings of a checkpoint's network and training images: the metadata listed in `STATED`.

    `checkpoint` is a file, or several files that must agree. Missing files, and files without metadata, state no
    settings, so that a config can be read before the weights exist; loading the weights reports missing files.
    """
    stated: dict[str, tuple[Path, Any]] = {}
    for file, metadata in _metadata_by_file(checkpoint).items():
        for name in filter(metadata.__contains__, STATED):
            first, value = stated.setdefault(name, (file, metadata[name]))
            if metadata[name] != value:
                problem = f"trained with {name}={metadata[name]}, but {first} with {value}"
                raise InputError(f"checkpoint {file}", f"{problem}; an ensemble needs equal settings")
    return {name: stated[name][1] for name in STATED if name in stated and stated[name][1] is not None}


def merging_of(pretrained: str | Path | None) -> str:
    """Return the patch merging (DIFF-38) of a training that starts from this checkpoint, or from scratch (None)."""
    stated = {} if optional(pretrained) is None else settings_of(str(pretrained))
    return stated.get("merging", "monai_1_5")


def measured_of(checkpoint: str | Path | Sequence[str]) -> list[dict[str, Any]]:
    """Return the measured ranges of the training scans (`common.data.preparation`), for checkpoints that state them.

    If training resampled the scans, `spacing` is the spacing after resampling.
    """
    ranges = []
    for metadata in _metadata_by_file(checkpoint).values():
        measured, spacing = metadata.get("measured"), metadata.get("spacing")
        if measured is not None:
            ranges.append(dict(measured) | ({"spacing": [spacing, spacing]} if spacing else {}))
    return ranges


def _metadata_by_file(checkpoint: str | Path | Sequence[str]) -> dict[Path, dict[str, Any]]:
    """Return the metadata in each file of the option `checkpoint`; empty for a missing file."""
    report_in_one_line()  # configs call this before `common.options.read_options`
    return {file: metadata_of(file) if file.exists() else {} for file in checkpoint_files(checkpoint)}


def checkpoint_files(checkpoint: str | Path | Sequence[str]) -> list[Path]:
    """Return the paths in the option `checkpoint`, a file or a list of files."""
    files = checkpoint if isinstance(checkpoint, list | tuple) else [checkpoint]
    return [Path(str(file)).expanduser() for file in files]


def metadata_of(checkpoint: str | Path) -> dict[str, Any]:
    """Read a checkpoint's metadata; empty if the file is not from this project."""
    content = load(checkpoint, lazily=True)
    with within(f"checkpoint {checkpoint}"):
        return _metadata(content, checkpoint)


def _tensors(content: Mapping[str, Any]) -> tuple[str | None, dict[str, torch.Tensor]]:
    """Return the key of the mapping with the tensors (None: the top level), and the tensors, which must be finite."""
    networks = {key: tensors for key in WRAPPERS if (tensors := _named(content.get(key)))}
    if len(networks) > 1:
        raise InputError(f"tensors under {' and '.join(networks)}; expected one network")
    wrapper, tensors = next(iter(networks.items()), (None, _named(content)))
    if not tensors:
        expected = f"a state dict, at the top level or under one of {', '.join(WRAPPERS)}"
        raise InputError("holds no named tensors", expected=expected)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not (tensor.abs() <= LARGEST).all():
            raise InputError(f"{name} has values above {LARGEST:g} in magnitude or not finite")
    return wrapper, tensors


def _named(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors in a mapping by name; empty for other content."""
    entries = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in entries if isinstance(name, str) and torch.is_tensor(value)}


def _prefix_and_encoder(names: Collection[str]) -> tuple[str, str | None]:
    """Return the prefix of all names, and the encoder's prefix after it (None without an encoder)."""
    stem = STEM.removeprefix(ENCODER)
    stems = [name.removesuffix(stem) for name in names if name.endswith(stem)]
    if len(stems) > 1:
        raise InputError(f"{len(stems)} encoders, {', '.join(stems)}; expected one")
    if not stems:
        return "", None
    encoder = ENCODER if stems[0].endswith(ENCODER) else ""
    return stems[0].removesuffix(encoder), encoder


def _parameter_name(name: str, encoder: str | None) -> str | None:
    """Return a tensor's name in SSLHead and SwinUNETR; None for tensors that both lack."""
    if encoder != "" or not ENCODER_PART.match(name):
        return name
    return None if LEFT_OUT.match(name) else ENCODER + FC.sub(r".mlp.linear\1.", name)


def _metadata(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return a file's metadata, with `STATED` entries converted; empty if the file is not from this project."""
    is_plain = content and all(isinstance(value, torch.Tensor) for value in content.values())
    metadata = dict(read_record(path) if is_plain else content.get("metadata") or {})
    with within("metadata"):
        for name, kind in STATED.items():
            if metadata.get(name) is not None:
                metadata[name] = kind.parse(name, metadata[name])
    return metadata


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Save a checkpoint atomically; see `common.files.atomic_write`."""
    archive = BytesIO()  # torch.save to a file would hide the OSError of a full disk
    torch.save(dict(content), archive)
    with atomic_write(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


def read_record(path: str | Path) -> dict[str, Any]:
    """Read the metadata beside a plain state dict; empty without JSON, `InputError` if it is another file's."""
    file = Path(path).with_suffix(".json")
    record = dict(read_json(file)) if file.exists() else {}
    if record and record.pop("sha256", None) != digest(path):
        raise InputError(f"checkpoint {path}", f"its SHA-256 is not in {file}", "its own JSON, or none")
    return record
