"""What all pages share: the policy that lets a page load nothing and run only its own script."""

import re

import pytest

from common.pages.templates import render
from tests.support import ROOT

PAGES = [path for folder in ("common", "deploy", "scripts") for path in (ROOT / folder).rglob("*.j2")]
WHOLE = [path for path in PAGES if "<html" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_page_has_the_policy_before_what_it_governs(page):
    head = page.read_text(encoding="utf-8").partition("<head>")[2]
    assert head.startswith('\n<meta charset="utf-8">\n{% include "policy.j2" %}\n')
    assert "Content-Security-Policy" not in head


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
        render(ROOT / "common/pages/policy.j2", **content),
    )
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    none = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert directives == none | {"style-src": "'unsafe-inline'"} | more
