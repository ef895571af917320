"""What the repository promises as such: differences, citation, the command of the continuous integration."""

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TAG = re.compile(r"\bDIFF-\d+\b")
TEXT = {".py", ".yaml", ".json", ".md", ".conf", ".txt"}


def mentioned() -> dict[str, list[str]]:
    """The tags in the sources, each with the files that mention it."""
    tags: dict[str, list[str]] = {}
    for folder in ("bundles", "common", "scripts"):
        for path in sorted((ROOT / folder).rglob("*")):  # does not follow the symlinks to common
            if path.is_file() and path.suffix in TEXT:
                for tag in set(TAG.findall(path.read_text())):
                    tags.setdefault(tag, []).append(str(path.relative_to(ROOT)))
    return tags


@pytest.fixture(scope="module")
def explained() -> list[str]:
    return re.findall(r"^## (DIFF-\d+): \S", (ROOT / "docs/differences.md").read_text(), flags=re.MULTILINE)


def test_each_difference_is_explained_once(explained):
    assert explained == [f"DIFF-{n}" for n in range(1, len(explained) + 1)]


def test_the_table_of_differences_is_complete(explained):
    rows = re.findall(r"^\| (DIFF-\d+)", (ROOT / "docs/differences.md").read_text(), flags=re.MULTILINE)
    assert rows == explained


def test_each_difference_says_what_why_and_where(explained):
    sections = re.split(r"^## (?=DIFF)", (ROOT / "docs/differences.md").read_text(), flags=re.MULTILINE)[1:]
    for tag, section in zip(explained, sections, strict=True):
        assert re.findall(r"^\* (\w+):", section, flags=re.MULTILINE) == ["Paper", "Here", "Why", "Where"], tag


def test_each_mentioned_difference_is_explained(explained):
    assert {tag: files for tag, files in mentioned().items() if tag not in explained} == {}


def test_each_explained_difference_is_mentioned_where_it_happens(explained):
    assert set(explained) - set(mentioned()) == set()


def test_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    assert citation["license"] == "Apache-2.0"
    assert f"## [{citation['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    (paper,) = citation["references"]
    assert paper["title"].startswith("BrainSegFounder")
    assert len(paper["authors"]) == 8
    assert paper["year"] == 2024


def test_continuous_integration_runs_the_public_commands():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    expected = ["make --jobs=4 install deploy nnunet tracking", "make lint", "make test", "make quickstart"]
    assert re.findall(r"^make .+$", script.read_text(), flags=re.MULTILINE) == expected
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    system, *commands = [step["run"] for step in job["steps"] if "run" in step]
    assert "apt-get install --yes --no-install-recommends orthanc " in system, "without it tests are skipped"
    assert commands == expected
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("name", ["audit", "ci", "torture"])
def test_actions_are_pinned_by_commit(name):
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])


def test_pre_commit_runs_the_linters_of_the_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)
    assert {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks} == {
        "ruff",
        "mypy",
        "yamllint",
        "codespell",
        "check-jsonschema",
    }
