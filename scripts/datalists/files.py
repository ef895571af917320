"""Write datalists."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.datalists import SPLITS, check
from common.data.regions import CONVENTIONS, cards_of
from common.errors import InputError, show
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
    """Check a datalist's content, as from `common.data.datalists.read`; write the file, and print the splits' sizes.

    Equal content gives equal bytes.
    """
    convention = content.get("label_convention")
    if isinstance(convention, str) and convention not in CONVENTIONS:
        regions = ("regions", mapping_of(convention))
        content = dict(regions if item[0] == "label_convention" else item for item in content.items())
    check(content, path)
    write_json(path, content)
    show(f"{path}: {', '.join(f'{len(content[split])} {split}' for split in SPLITS if split in content)}")


def mapping_of(convention: str) -> str | dict[str, Any]:
    """Convert a label convention to its form in a datalist: its name, or a mapping (see `regions.declaration`)."""
    if convention in CONVENTIONS:
        return convention
    mapping = {}
    for name, (labels, colour, code, _) in cards_of(convention).items():
        stated = {key: value for key, value in (("colour", colour), ("code", code)) if value}
        mapping[name] = {"labels": sorted(labels), **stated} if stated else sorted(labels)
    return mapping
