"""`python -m scripts` and `make help` list what there is."""

import re
import sys

from scripts.__main__ import commands
from tests.support import ROOT, execute


def test_every_command_that_the_documents_name_is_listed():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"python -m scripts\.([a-z_]+)", page.read_text())}
    ended = execute([sys.executable, "-m", "scripts"])
    listed = dict(re.findall(r"^  (\w+) +(.+)$", ended.stdout, re.MULTILINE))
    assert ended.returncode == 0
    assert len(named) > 15
    assert named <= set(listed)
    assert listed == commands()
    assert listed["weights"] == "Inspect and convert checkpoints"


def test_make_help_has_a_line_for_every_target():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text().replace("\\\n", ""), re.MULTILINE)
    ended = execute(["make", "help"])
    assert ended.returncode == 0, ended.stderr
    assert sorted(re.findall(r"^  ([\w-]+) +\S", ended.stdout, re.MULTILINE)) == sorted(phony[1].split())
