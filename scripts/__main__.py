"""List the commands, one line each: `python -m scripts`."""

import ast
import sys
from pathlib import Path

from common.errors import InputError, report_in_one_line, show

FOLDER = Path(__file__).parent


def commands() -> dict[str, str]:
    """Return the title of each command, the first line of its module's docstring; no module is imported."""
    sources = {file.stem: file for file in FOLDER.glob("*.py")} | {
        file.parent.name: file for file in FOLDER.glob("*/__main__.py")
    }
    texts = {name: file.read_text(encoding="utf-8") for name, file in sorted(sources.items()) if name != "__main__"}
    lines = {
        name: str(ast.get_docstring(ast.parse(text))).splitlines()[0]
        for name, text in texts.items()
        if '__name__ == "__main__"' in text
    }
    return {name: line.partition(": `")[0].removesuffix(".") for name, line in lines.items()}


def main() -> None:
    """Print the commands."""
    report_in_one_line()
    titles = commands()
    if extra := [argument for argument in sys.argv[1:] if argument not in ("-h", "--help")]:
        raise InputError(f"argument {extra[0]}", "no such command", "no argument, which lists all commands")
    width = max(map(len, titles))
    lines = (f"  {name:<{width}}  {title}" for name, title in titles.items())
    show("python -m scripts.NAME --help describes a command:", *lines)


if __name__ == "__main__":
    main()
