"""Each difference from the paper is explained."""

import re

from tests.support import ROOT

TEXT = {".py", ".yaml", ".json", ".md", ".conf", ".txt"}


def test_each_difference_is_explained_once_and_mentioned_where_it_happens():
    page = (ROOT / "docs/differences.md").read_text()
    explained = re.findall(r"^## (DIFF-\d+): \S", page, re.MULTILINE)
    mentioned = {
        tag
        for folder in ("bundles", "common", "scripts")
        for path in (ROOT / folder).rglob("*")  # does not follow the symlinks to common
        if path.is_file() and path.suffix in TEXT
        for tag in re.findall(r"\bDIFF-\d+\b", path.read_text())
    }
    assert mentioned == {*explained}
    assert len(mentioned) == len(explained)
