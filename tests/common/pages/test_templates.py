"""What all pages share: the policy that lets a page load nothing and run only its own script."""

import re

import pytest

from common.pages.templates import render
from tests.html_pages import text_of
from tests.support import ROOT

BASE = ROOT / "common/pages/base.html.j2"
PAGES = [path for folder in ("common", "deploy", "scripts") for path in (ROOT / folder).rglob("*.j2")]


def test_each_page_has_the_head_of_the_base():
    whole = [path for path in PAGES if path.name.endswith(".html.j2") and path != BASE]
    assert len(whole) >= 4
    for page in whole:
        text = page.read_text(encoding="utf-8")
        assert '{% extends "base.html.j2" %}' in text, page
        assert "<head>" not in text, page
        assert "Content-Security-Policy" not in text, page


@pytest.mark.parametrize(
    ("content", "more"),
    [
        ({}, {"img-src": "data:"}),
        ({"shows_files": True}, {"img-src": "'self' file:"}),
        ({"script_hashes": ["a=", "b="]}, {"img-src": "data:", "script-src": "'sha256-a=' 'sha256-b='"}),
    ],
)
def test_the_policy_allows_no_more_than_a_page_needs(content, more):
    (policy,) = re.findall(
        r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">',
        render(BASE, made={}, **content),
    )
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    none = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert directives == none | {"style-src": "'unsafe-inline'"} | more


def test_tables_that_scroll_have_shadows_at_their_edges():
    (rule,) = re.findall(r"\n\.scroll, \.wide \{(.*?)\}", render(BASE, made={}), re.DOTALL)
    assert "overflow-x: auto" in rule
    gradients = re.findall(r"to (left|right), var\(--(paper|shadow)\).*?(local|scroll)[,;]", rule)
    assert sorted(gradients) == [
        (side, *kind) for side in ("left", "right") for kind in (("paper", "local"), ("shadow", "scroll"))
    ]


MADE = dict.fromkeys(("git_commit", "cohort", "made_up")) | {"versions": {}, "checkpoints": {}, "started": "2026"}


def test_a_command_breaks_between_its_options():
    """Not after a hyphen: `--` alone at the end of a line."""
    page = render(BASE, made=MADE | {"command": "python --a-b=<c>"})
    assert '<dd><span class="word">python</span> <span class="word">--a-b=&lt;c&gt;</span></dd>' in page


def test_a_name_that_is_not_utf_8_is_escaped():
    assert r"Dos\udce9 é" in text_of(render(BASE, made=MADE | {"command": "Dos\udce9 é"}))
