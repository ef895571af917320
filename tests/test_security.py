"""Each statement of SECURITY.md is quoted by the test that checks it, and each quotation is in SECURITY.md.

A test's docstring quotes it: SECURITY.md: "the words".
"""

import ast
import re

import pytest

from tests.support import ROOT

QUOTATION = re.compile(r'SECURITY\.md: "([^"]+)"')


def plain(text: str) -> str:
    """Return text without links, emphasis and line breaks."""
    return " ".join(re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text).replace("*", "").split())


def quotations() -> list[str]:
    """Return all quotations of SECURITY.md in docstrings of tests."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    tests = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [plain(words) for test in tests for words in QUOTATION.findall(ast.get_docstring(test) or "")]


def promises() -> list[str]:
    """Return the bullets and table rows of SECURITY.md."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^(?:- .+(?:\n  .+)*|\| .+)$", text, re.MULTILINE)
    return [plain(block) for block in blocks if "how it is handled" not in block]


@pytest.mark.parametrize("promise", promises())
def test_tests_quote_each_statement(promise):
    for words in sorted(quotations(), key=len, reverse=True):
        promise = promise.replace(words, "QUOTED")
    assert [part for part in re.split(r"(?<=[.;]) ", promise) if "QUOTED" not in part] == []


@pytest.mark.parametrize("words", sorted({*quotations()}))
def test_quotations_are_in_the_text(words):
    assert any(words in promise for promise in promises())
