"""Read bundle configs, and hand options to MONAI as data: it evaluates text with $ and follows @, % and #."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import ROOT
from .errors import show
from .values import FILES, OPTIONS, TRACKING, TRAINING_DEFAULTS

BUNDLES = ROOT / "bundles"


def bundles_with(file: str) -> list[str]:
    """Return the names of the bundles that have this file in configs/."""
    return sorted(path.parents[1].name for path in BUNDLES.glob(f"*/configs/{file}"))


def warn_of_program(path: str | Path) -> None:
    """Warn that a config from outside this repository can run any code."""
    if not Path(os.path.realpath(path)).is_relative_to(BUNDLES) and os.environ.get("RANK", "0") == "0":
        show(f"warning: {path}: its expressions run as a program; it is not from bundles/; see SECURITY.md", error=True)


def typed(name: str, text: Any) -> Any:
    """Parse an option's text: text options stay as typed, others are parsed as MONAI's command does.

    Example:
        >>> typed("output_dir", "2026_11_27"), typed("patch_size", "64,64,64"), typed("loss::gamma", "1e-1")
        ('2026_11_27', (64, 64, 64), 0.1)
    """
    from fire.parser import DefaultParseValue  # imported here so that configs do not need it

    option = OPTIONS.get(name)
    if option is not None and option.kind is FILES:  # configs read the files' settings before they check options
        return FILES.convert(text)
    is_text = name in TRACKING or (option is not None and option.kind.is_text)
    return text if is_text or not isinstance(text, str) else DefaultParseValue(text)


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


def argument(word: str) -> str:
    """Rewrite `--option=text` so that MONAI's own command takes the same value as our commands.

    Example:
        >>> argument("--output_dir=2026_11_27"), argument("--amp")
        ("--output_dir=$'2026_11_27'", '--amp')
    """
    option, equals, text = word.partition("=")
    return f"{option}={quoted(typed(option.removeprefix('--'), text))}" if equals else option


def read(files: Sequence[str | Path], options: Mapping[str, Any] | None = None) -> Any:
    """Build the `ConfigParser` of a run without starting it; later files override earlier files.

    A training config gets the `TRAINING_DEFAULTS` that it lacks. The caller must resolve `imports` before other items.
    """
    from monai.bundle import ConfigParser  # imported here because it is slow

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    if "ckpt_dir" in parser:
        parser.update({name: value for name, value in TRAINING_DEFAULTS.items() if name not in parser})
    parser.update({name: as_data(value) for name, value in (options or {}).items()})
    return parser
