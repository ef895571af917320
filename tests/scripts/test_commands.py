"""`python -m scripts` and `make help` list all commands; the documents name only options that exist."""

import re
import runpy
import shlex
import sys

import pytest

from scripts import cli
from scripts.__main__ import commands
from tests.support import ROOT, execute, run_of

PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def test_every_command_that_the_documents_name_is_listed():
    named = {name for page in PAGES for name in re.findall(r"python -m scripts\.([a-z_]+)", page.read_text())}
    ended = execute([sys.executable, "-m", "scripts"])
    listed = dict(re.findall(r"^  (\w+) +(.+)$", ended.stdout, re.MULTILINE))
    assert ended.returncode == 0
    assert len(named) > 15
    assert named <= set(listed)
    assert listed == commands()


def documented(page) -> list[tuple[str, list[str]]]:
    """Return name and arguments of each `python -m scripts.NAME ...` in a page's code blocks."""
    commands = []
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    for block in (text for language, text in blocks if language in ("", "bash")):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.search(r"-m scripts\.(\w+)(.*)", line):
                words = shlex.split(re.sub(r" \[(--.*?)\]", r" \1", match[2]), comments=True)
                values = [re.sub("=N$", "=3", word.split("|")[0]) for word in words if word != "..."]
                commands.append((match[1], values))
    return commands


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if documented(page) and not page.name.startswith(("add-", "adapt-"))],
    ids=lambda page: page.stem,
)
def test_commands_of_a_page_are_accepted(page, monkeypatch):
    """The commands check their names and options, and then run nothing."""
    bound = cli.bound

    def bind(*arguments):
        bound(*arguments)
        raise StopIteration

    monkeypatch.setattr(cli, "bound", bind)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name, words in documented(page):
        if name == "run":
            run_of(words)
        else:
            monkeypatch.setattr(sys, "argv", [name, *words])
            with pytest.raises(StopIteration):
                runpy.run_module(f"scripts.{name}", run_name="__main__")
