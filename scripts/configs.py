"""Build the configs of a run with options as data: MONAI evaluates text with $ and follows @, % and #."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import ROOT

BUNDLES = ROOT / "bundles"


def as_data(value: Any) -> Any:
    r"""Return an option's value for MONAI; text that MONAI would evaluate becomes an expression for the text.

    Example:
        >>> print(as_data("/data/$x #1"), as_data([64, 64]))
        $'/data/\x24x \x231' [64, 64]
    """
    if isinstance(value, Mapping):
        return {key: as_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(item) for item in value]
    return quoted(value) if value is None or (isinstance(value, str) and re.search("[$@%#]", value)) else value


def quoted(value: Any) -> str:
    """Return an expression of MONAI's for a value of Python's own types."""
    return "$" + re.sub("[$@%#]", lambda match: rf"\x{ord(match[0]):02x}", repr(value))


def read_config(files: Sequence[str | Path], options: Mapping[str, Any] | None = None) -> Any:
    """Build the `ConfigParser` of a run without starting it; later files override earlier files.

    The caller must resolve `imports` before other items.
    """
    from monai.bundle import ConfigParser  # imported here because it is slow

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update({name: as_data(value) for name, value in (options or {}).items()})
    return parser
