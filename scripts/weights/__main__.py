"""Inspect and convert checkpoints: `python -m scripts.weights inspect|convert`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import cli, weights
from common.errors import InputError, show
from common.files import digest
from scripts.yaml_text import as_yaml

__all__ = ["convert", "inspect"]


def inspect(file: str) -> None:
    """Print a checkpoint's network, size and input channels, and the layout of the file.

    Args:
        file: a checkpoint of this project, of the paper's authors or of MONAI; nothing in it is unpickled.
    """
    from scripts.weights.description import describe  # here, as `--help` need not wait for it

    checkpoint = weights.read(file)
    found = describe(checkpoint.state, file)
    lines = _layout(checkpoint.layout) | found | {"modules": weights.by_module(checkpoint.state)}
    for name, value in ({"modalities": None} | checkpoint.metadata).items():
        agrees = name not in found or _text(value) == _text(found[name])
        lines[name] = value if agrees else f"{_text(found[name])}, although the file states {_text(value)}"
    components = lines.pop("components", {})
    show(*(f"{name:<18} {_text(value)}" for name, value in lines.items()))
    if components:
        show(*as_yaml(components).splitlines())


def _layout(layout: "weights.Layout") -> dict[str, str]:
    """The lines of `inspect` about the layout of a file."""
    return {
        "wrapper": layout.wrapper or "none",
        "beside it": ", ".join(layout.beside) or "nothing",
        "prefix": layout.prefix or "none",
        "encoder": layout.encoder or "no name of its own",
        "left out": ", ".join(layout.left_out) or "nothing",
        **({"other heads": ", ".join(layout.other_heads)} if layout.other_heads else {}),
    }


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, str | list | tuple) and not value:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def convert(
    file: str,
    output: str,
    modalities: str | Sequence[str] | None = None,
    patch_size: int | Sequence[int] | None = None,
    preprocessing: str | Sequence[str] | None = None,
) -> None:
    """Convert a checkpoint to this project's layout, which includes a description of the network and its training.

    Metadata in the file are kept; metadata that neither the file nor an option gives are recorded as unknown. A file
    that names its modalities states what it was trained with: they are not renamed, a training has `modality_aliases`.

    Args:
        file: a checkpoint of any layout that `inspect` reads.
        output: file to write; an existing file is not overwritten.
        modalities: names of the input channels in order, such as T1,FLAIR, if the file does not state them.
        patch_size: size of the training crops in voxels, such as 96,96,96, if the file does not state it.
        preprocessing: preprocessing of the training scans, in words, if the file does not state it.
    """
    from scripts.weights.description import describe  # here, as `--help` need not wait for it

    if weights.path_of("output", output).exists():
        raise InputError(f"--output={output}: exists already; expected a new file")
    checkpoint = weights.read(file)
    found = describe(checkpoint.state, file)
    given = {
        "modalities": _names(modalities),
        "patch_size": _patch(patch_size),
        "preprocessing": None if preprocessing is None else _text(preprocessing),
    }
    stated = {option: _agreed(option, value, checkpoint.metadata, file) for option, value in given.items()}
    _check_modalities(stated["modalities"], found["input_channels"], file)
    conversion = {
        "file": Path(file).name,
        "sha256": digest(file),
        "layout": asdict(checkpoint.layout),
        "versions": weights.versions(),
    }
    history = [*_conversions(checkpoint.metadata, file), conversion]
    metadata = {"versions": None} | checkpoint.metadata | found | stated | {"conversions": history}
    weights.write({"network": checkpoint.state, "metadata": metadata}, output)
    show(f"{output}: {found['network']}, {found['model_size']}, {', '.join(stated['modalities'])}")
    for head in checkpoint.layout.other_heads:
        show(f"left out: {head} (DIFF-29)")
    if checkpoint.layout.left_out:
        show(f"tensors left out, as SSLHead and SwinUNETR lack them: {', '.join(checkpoint.layout.left_out)}")


def _names(modalities: str | Sequence[str] | None) -> list[str] | None:
    if modalities is None:
        return None
    given = modalities.split(",") if isinstance(modalities, str) else modalities
    names = [str(name).strip() for name in given] if isinstance(given, list | tuple) else []
    if not names or not all(names):
        shown = ",".join(names) if names else modalities
        raise InputError(f"--modalities={shown}: expected names such as T1,FLAIR")
    return names


def _patch(size: int | Sequence[int] | None) -> list[int] | None:
    if size is None:
        return None
    edges: list[Any] = list(size) if isinstance(size, list | tuple) else [size] * 3
    if len(edges) != 3 or any(isinstance(edge, bool) or not isinstance(edge, int) or edge < 1 for edge in edges):
        raise InputError(f"--patch_size={size}: expected three lengths in voxels, such as 96,96,96")
    return edges


def _agreed(option: str, given: Any, metadata: Mapping[str, Any], file: str) -> Any:
    """The value of an option or of the file; None if neither has one."""
    own = metadata.get(option)
    if given is not None and own is not None and _text(given) != _text(own):
        remedy = _alias(given, own) if option == "modalities" else ""
        raise InputError(f"--{option}={_text(given)}: {file} states {_text(own)}; leave the option out{remedy}")
    return own if given is None else given


def _alias(wanted: Sequence[str], own: Sequence[str]) -> str:
    """How a training starts a modality from another one's filters, for whoever tries to rename a file's modalities."""
    if aliases := {new: old for new, old in zip(wanted, own, strict=False) if new not in own}:
        return f'; to start {", ".join(aliases)} from these filters, give the training --modality_aliases "{aliases}"'
    return ""


def _conversions(metadata: Mapping[str, Any], file: str) -> list[Any]:
    """The file's own history of conversions."""
    history = metadata.get("conversions", [])
    if not isinstance(history, list):
        raise InputError(f"{file}: metadata's conversions are {' '.join(repr(history).split()):.80}; expected a list")
    return history


def _check_modalities(modalities: list[str] | None, channels: int, file: str) -> None:
    if modalities is None:
        raise InputError(
            f"--modalities: missing; {file} has {channels} input channels and does not name them; "
            "expected their names in order, such as T1,FLAIR"
        )
    if len(modalities) != channels:
        raise InputError(f"--modalities={','.join(modalities)}: {file} has {channels} input channels")


if __name__ == "__main__":
    cli.run({"inspect": inspect, "convert": convert}, "weights")
