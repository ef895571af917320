"""Lock files: versions shared by environments, hashes, and the check `make locked`."""

import os
import re
import subprocess

import yaml

from tests.support import ROOT

TRACKING = "tests/tracking/requirements.lock"


def make(*words, place=ROOT):
    """Run make as a user does, also if make runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *words], cwd=place, env=environment, capture_output=True, text=True, check=False)


def locks():
    """Return all lock files of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.lock"], cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(listed.stdout.split())


def test_what_the_environments_of_tracking_and_of_the_bundles_share_has_one_version():
    """.venv-tracking sees the packages of .venv, and installs only the others."""
    texts = [(ROOT / lock).read_text() for lock in ("requirements.lock", TRACKING)]
    ours, theirs = (dict(re.findall(r"^(\S+?)==(\S+)", text, re.MULTILINE)) for text in texts)
    shared = ours.keys() & theirs.keys()
    assert {"numpy", "matplotlib", "protobuf"} <= shared
    assert [name for name in shared if ours[name] != theirs[name]] == []


def installations():
    """Return each `pip install` command of the Makefile, the container recipes and the workflows as a line."""
    targets = ("install", "deploy", "tracking", "lock")
    texts = [make("--dry-run", "--always-make", *targets).stdout]
    for pattern in ("*/Dockerfile", "*/*.def", ".github/workflows/*.yml"):
        texts += [path.read_text() for path in ROOT.glob(pattern)]
    commands = re.split(r"&&|\n", "\n".join(texts).replace("\\\n", ""))
    return [" ".join(command.split()) for command in commands if re.search(r"pip\b.* install ", command)]


def test_hashes_of_all_that_is_installed_are_checked_and_nothing_is_fetched_to_build_it():
    checked = [command for command in installations() if "--require-hashes" in command]
    assert len(checked) == 2 * 2 + 2 + 4, "two environments in two steps, tracking, lock; three recipes, the audit"
    for command in checked:
        assert {"--no-deps", "--only-binary=:all:"} <= {*command.split()}
        assert re.search(r" --requirement \S+\.lock\"?$", command)
    unchecked = {*installations()} - {*checked}
    torch = r"\"\$\(grep -o '\^torch==\[0-9\.\]\*' requirements\.lock\)\"$"  # for GPUs, in containers
    assert [command for command in unchecked if not re.search(torch, command)] == []


def test_each_lock_pins_versions_and_hashes_for_linux_and_the_cpu():
    for lock in locks():
        entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
        pattern = r"[\w.-]+==[\w.+]+( \\\n    --hash=sha256:[0-9a-f]{64})+"
        assert [entry for entry in entries if not re.fullmatch(pattern, entry)] == [], lock
        assert not [entry for entry in entries if re.match("pywin|pyobjc|win32|nvidia-|triton==", entry)], lock
        assert all("+cpu" in entry for entry in entries if entry.startswith("torch=="))


def test_recipes_actions_and_the_audit():
    recipes = [path.read_text() for pattern in ("*/Dockerfile", "*/*.def") for path in ROOT.glob(pattern)]
    bases = [base for text in recipes for base in re.findall(r"^F(?:ROM|rom:) *(\S+)", text, re.MULTILINE)]
    assert [re.search(r"@sha256:[0-9a-f]{64}$", base) is not None for base in bases] == [True] * 3
    workflows = {path.stem: path.read_text() for path in ROOT.glob(".github/workflows/*.yml")}
    uses = [action for text in workflows.values() for action in re.findall(r"uses: (\S+)", text)]
    assert [action for action in uses if not re.search("@[0-9a-f]{40}$", action)] == []
    audit = yaml.safe_load(workflows["audit"])
    job = audit["jobs"]["audit"]
    assert audit[True].keys() == {"push", "schedule"}, "YAML reads `on` as True"
    assert sorted(job["strategy"]["matrix"]["lock"]) == locks()
    assert job["continue-on-error"] == "${{ github.event_name == 'push' }}"
    assert "pip-audit --strict " in job["steps"][-1]["run"]
