"""`--help` shows whole sentences, of which python-fire's parser loses no word, and waits for no slow import."""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import pytest
from fire import docstrings
from fire.helptext import HelpText

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
SLOW = {"SimpleITK", "ignite", "matplotlib", "monai", "nibabel", "nilearn", "pandas", "scipy", "torch"}  # seconds
IMPORT = f"""
import importlib, sys
found = set()
for command in {COMMANDS}:
    importlib.import_module(command)
    if new := sys.modules.keys() & {SLOW} - found:
        print(command, "imports", ", ".join(sorted(new)))
        found |= new
"""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_word_of_an_arguments_description_is_lost(name):
    text = inspect.cleandoc(ast.get_docstring(DOCUMENTED[name]) or "")
    section = re.split(r"\n(?:Returns|Raises|Yields|Example):", text.partition("\nArgs:\n")[2])[0]
    found = docstrings.parse(text).args or []
    shown = " ".join(f"{argument.name}: {argument.description}" for argument in found)
    assert shown.split() == section.split()
    known = {node.arg for node in ast.walk(DOCUMENTED[name].args) if isinstance(node, ast.arg)}
    taken = {argument.name.lstrip("*") for argument in found} - known
    assert not taken, "a line that begins with `word:` ends the description before it"


def functions_of(command):
    """The functions that a command's module gives to `cli.run`."""
    module = importlib.import_module(command)
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    given = [node for call in calls if ast.unparse(call.func) in ("cli.run", "run") for node in ast.walk(call)]
    values = [getattr(module, node.id, None) for node in given if isinstance(node, ast.Name)]
    of_groups = [function for value in values if isinstance(value, dict) for function in value.values()]
    return dict.fromkeys([*of_groups, *filter(inspect.isfunction, values)])


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "scripts.run"])  # it has help of its own
def test_help_has_every_sentence_of_a_commands_description(command):
    functions = functions_of(command)
    assert functions
    for function in functions:
        shown = " ".join(HelpText(function).split())
        described = re.split(r"\n\n?(?:Args|Returns|Raises|Example):\n", inspect.getdoc(function))[0]
        for paragraph in described.split("\n\n"):
            assert " ".join(paragraph.split()) in shown, function.__name__


def test_help_waits_for_no_slow_import():
    """A command's module is all that `--help` imports; the first command that imports a package is named."""
    assert {"scripts.export.__main__", "scripts.prepare.__main__", "scripts.store"} <= set(COMMANDS)
    ended = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == ""
