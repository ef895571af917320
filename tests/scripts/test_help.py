"""`--help` shows each word of the docstrings and imports nothing slow."""

import ast
import inspect
import re
import subprocess
import sys

import pytest
from fire import docstrings

from tests.support import ROOT

TEXTS = {
    path.relative_to(ROOT): path.read_text("utf-8") for f in ("scripts", "deploy") for path in (ROOT / f).rglob("*.py")
}
DOCUMENTED = {
    f"{path}: {node.name}": node
    for path, text in sorted(TEXTS.items())
    for node in ast.parse(text).body
    if isinstance(node, ast.FunctionDef) and "\nArgs:" in (ast.get_docstring(node) or "")
}
CLI = re.compile(r"^from common(\.cli)? import (cli|run|options_of)\b", re.MULTILINE)
COMMANDS = sorted(
    ".".join(path.with_suffix("").parts)
    for path, text in TEXTS.items()
    if path.parts[0] == "scripts" and CLI.search(text) and '__name__ == "__main__"' in text
)
SLOW = {"SimpleITK", "ignite", "matplotlib", "monai", "nibabel", "nilearn", "pandas", "scipy", "torch"}  # take seconds
IMPORT = f"""
import importlib, sys
slow = set()
for command in {COMMANDS}:
    importlib.import_module(command)
    if new := sys.modules.keys() & {SLOW} - slow:
        print(command, "imports", ", ".join(sorted(new)))
        slow |= new
"""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_word_of_an_arguments_description_is_lost(name):
    text = inspect.cleandoc(ast.get_docstring(DOCUMENTED[name]) or "")
    section = re.split(r"\n(?:Returns|Raises|Yields|Example):", text.partition("\nArgs:\n")[2])[0]
    arguments = docstrings.parse(text).args or []
    shown = " ".join(f"{argument.name}: {argument.description}" for argument in arguments)
    assert shown.split() == section.split()
    parameters = {node.arg for node in ast.walk(DOCUMENTED[name].args) if isinstance(node, ast.arg)}
    taken = {argument.name.lstrip("*") for argument in arguments} - parameters
    assert not taken, "a line that begins with `word:` ends the description before it"


def test_help_lists_only_what_the_command_takes():
    shown = subprocess.run(
        [sys.executable, "-m", "scripts.segment", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "accept=ACCEPT" in shown.stderr
    assert "FIRE" not in shown.stderr
    assert not re.search(r"^ *-\w, ", shown.stderr, re.MULTILINE), "short options are refused"


def test_help_waits_for_no_slow_import():
    """`--help` imports only the command's module; the test prints the first command that imports a slow package."""
    assert {"scripts.export.__main__", "scripts.prepare.__main__", "scripts.store"} <= set(COMMANDS)
    ended = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == ""
