"""Write datalists, and draw subsets of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.datalists import SPLITS, check
from common.data.regions import CONVENTIONS, cards_of
from common.errors import ArgumentError, InputError, show
from common.files import read_json, write_json


def output_file(output: str, *inputs: Path) -> Path:
    """Return the path of a new datalist; raise `InputError` if it would replace an input or a file that is not JSON."""
    target = Path(output).expanduser()
    if target.resolve() in [path.resolve() for path in inputs]:
        raise InputError(f"--output={output}: the same file as an input")
    if target.is_file():
        read_json(target, "a new file, or a datalist to replace")
    return target


def write(content: Mapping[str, Any], path: Path) -> None:
    """Check a datalist's content, as from `common.data.datalists.read`, and write the file atomically.

    Equal content gives equal bytes.
    """
    convention = content.get("label_convention")
    if isinstance(convention, str) and convention not in CONVENTIONS:
        regions = ("regions", mapping_of(convention))
        content = dict(regions if item[0] == "label_convention" else item for item in content.items())
    check(content, path)
    write_json(path, content)


def write_datalist(content: Mapping[str, Any], target: Path) -> None:
    """Write a datalist, and print the number of subjects in each split."""
    write(content, target)
    sizes = ", ".join(f"{len(content[split])} {split}" for split in SPLITS if split in content)
    show(f"{target}: {sizes}")


def mapping_of(convention: str) -> str | dict[str, Any]:
    """Convert a label convention to its form in a datalist: its name, or a mapping (see `regions.declaration`)."""
    if convention in CONVENTIONS:
        return convention
    mapping = {}
    for name, (labels, colour, code, _) in cards_of(convention).items():
        stated = {key: value for key, value in (("colour", colour), ("code", code)) if value}
        mapping[name] = {"labels": sorted(labels), **stated} if stated else sorted(labels)
    return mapping


def draw_subset(content: Mapping[str, Any], fraction: float, seed: int = 0, nested: bool = False) -> dict[str, Any]:
    """Return a datalist with a fraction of the training subjects, for learning curves; other splits are unchanged.

    Subjects are ranked by the SHA-256 of seed, fraction and name, so that every machine selects the same subjects, at
    least one. `nested` leaves the fraction out of the hash, so that a larger subset contains every smaller subset.

    Example:
        >>> entries = [{"subject": str(n), "image": [f"{n}.nii.gz"]} for n in range(40)]
        >>> small = draw_subset({"modalities": ["T1"], "training": entries}, 0.05)
        >>> len(small["training"]), small["subset"]
        (2, {'fraction': 0.05, 'seed': 0, 'nested': False, 'of': 40})
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise ArgumentError("fraction", fraction, expected="a number above 0, up to 1")
    if "subset" in content or not content.get("training"):
        raise InputError("--datalist: already a subset, or without training subjects; give the whole datalist")
    entries = content["training"]
    prefix = f"{seed}" if nested else f"{seed}/{float(fraction)!r}"
    ranked = sorted(entries, key=lambda it: hashlib.sha256(f"{prefix}/{it['subject']}".encode()).hexdigest())
    chosen = {entry["subject"] for entry in ranked[: max(1, round(fraction * len(entries)))]}
    record = {"fraction": fraction, "seed": seed, "nested": nested, "of": len(entries)}
    training = [entry for entry in entries if entry["subject"] in chosen]
    part = {**content, "subset": record, "training": training}
    return dict(sorted(part.items(), key=lambda item: item[0] in SPLITS))  # splits last
