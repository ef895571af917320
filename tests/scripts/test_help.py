"""`--help` shows whole sentences: python-fire's parser of docstrings loses none of their words."""

import ast
import inspect
import re

import pytest
from fire import docstrings

from tests.support import ROOT

DOCUMENTED = {
    f"{path.relative_to(ROOT)}: {node.name}": ast.get_docstring(node)
    for folder in ("scripts", "deploy")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and "\nArgs:" in (ast.get_docstring(node) or "")
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_word_of_an_arguments_description_is_lost(name):
    text = inspect.cleandoc(DOCUMENTED[name])
    section = re.split(r"\n(?:Returns|Raises|Yields|Example):", text.partition("\nArgs:\n")[2])[0]
    found = docstrings.parse(text).args or []
    shown = " ".join(f"{argument.name}: {argument.description}" for argument in found)
    assert shown.split() == section.split()
