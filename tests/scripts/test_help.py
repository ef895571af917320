"""`--help` shows the docstrings."""

import ast
import inspect
import re
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_parameter_is_described_and_nothing_else(name):
    section = inspect.cleandoc(ast.get_docstring(DOCUMENTED[name]) or "").partition("\nArgs:\n")[2]
    described = re.findall(r"^    (\w+): ", re.split(r"^\w", section, flags=re.MULTILINE)[0], re.MULTILINE)
    parameters = [node.arg for node in ast.walk(DOCUMENTED[name].args) if isinstance(node, ast.arg)]
    assert sorted(described) == sorted(parameters)


def test_help_lists_only_what_the_command_takes():
    shown = subprocess.run(
        [sys.executable, "-m", "scripts.segment", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    usage = "usage: python -m scripts.segment --scans=SCANS --bundle=BUNDLE --output=OUTPUT [--OPTION=VALUE ...]"
    assert lines[0] == usage
    assert "    --device=cpu: cpu or cuda." in lines
    assert "    --jobs=1: number of subjects prepared at a time." in lines
