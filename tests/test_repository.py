"""Each difference from the paper is explained; links and file names in the documents exist."""

import re

import pytest

from tests.support import ROOT

TEXT = {".py", ".yaml", ".json", ".md", ".conf", ".txt"}


def test_each_difference_is_explained_once_and_mentioned_where_it_happens():
    page = (ROOT / "docs/differences.md").read_text()
    explained = re.findall(r"^### (DIFF-\d+): \S", page, re.MULTILINE)
    mentioned = {
        tag
        for folder in ("bundles", "common", "scripts", "studies")
        for path in (ROOT / folder).rglob("*")  # does not follow the symlinks to common
        if path.is_file() and path.suffix in TEXT
        for tag in re.findall(r"\bDIFF-\d+\b", path.read_text())
    }
    assert mentioned == {*explained}
    assert len(mentioned) == len(explained)


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    lines = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", lines, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower()).replace(" ", "-") for title in titles
    }


PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("bundles/*/docs/README.md"),
    ROOT / "deploy/README.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files_and_headings(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" not in link:
            file = (page.parent / target) if target else page
            assert file.exists(), link
            assert not anchor or anchor in anchors(file.read_text()), link
    for path in re.findall(r"`((?:common|deploy|scripts|studies|tests)/[\w./-]+)`", text):
        assert page.name == "CHANGELOG.md" or (ROOT / path).exists() or "BUNDLE" in path, path
