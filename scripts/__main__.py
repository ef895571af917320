"""List the commands, one line each: `python -m scripts`."""

import re
from pathlib import Path

from common.errors import aligned, show


def commands() -> dict[str, str]:
    """Return the title of each command, the first line of its module's docstring; no module is imported."""
    folder = Path(__file__).parent
    files = {file.stem: file for file in folder.glob("*.py") if file.stem != "__main__"}
    files |= {file.parent.name: file for file in folder.glob("*/__main__.py")}
    texts = {name: file.read_text(encoding="utf-8") for name, file in sorted(files.items())}
    titles = {name: re.split(r": `|\.?\n", text.removeprefix('"""'))[0] for name, text in texts.items()}
    return {name: title.removesuffix('."""') for name, title in titles.items() if "__main__" in texts[name]}


if __name__ == "__main__":
    show("python -m scripts.NAME --help describes a command:", *(f"  {row}" for row in aligned([*commands().items()])))
