"""Each difference from the paper is explained."""

import re

from tests.support import ROOT

TAG = re.compile(r"\bDIFF-\d+\b")
TEXT = {".py", ".yaml", ".json", ".md", ".conf", ".txt"}


def test_each_difference_is_explained_once_and_mentioned_where_it_happens():
    page = (ROOT / "docs/differences.md").read_text()
    explained = re.findall(r"^## (DIFF-\d+): \S", page, re.MULTILINE)
    assert explained == [f"DIFF-{n}" for n in range(1, len(explained) + 1)]
    assert re.findall(r"^\| (DIFF-\d+)", page, re.MULTILINE) == explained
    for section in re.split(r"^## (?=DIFF)", page, flags=re.MULTILINE)[1:]:
        assert re.findall(r"^\* (\w+):", section, re.MULTILINE) == ["Paper", "Here", "Why", "Where"], section[:9]
    mentioned = {
        tag
        for folder in ("bundles", "common", "scripts")
        for path in (ROOT / folder).rglob("*")  # does not follow the symlinks to common
        if path.is_file() and path.suffix in TEXT
        for tag in TAG.findall(path.read_text())
    }
    assert mentioned == set(explained)
