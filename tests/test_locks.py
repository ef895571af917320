"""The locks: what environments share has one version, and what `make locked` refuses."""

import os
import re
import shutil
import subprocess

from tests.support import ROOT

TRACKING = "tests/tracking/requirements.lock"
LOCKS = ("requirements.lock", "deploy/requirements.lock", "scripts/nnunet/requirements.lock", TRACKING)


def make(*words, place=ROOT):
    """Run make as a user does, also below another make."""
    apart = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *words], cwd=place, env=apart, capture_output=True, text=True, check=False)


def test_what_the_environments_of_tracking_and_of_the_bundles_share_has_one_version():
    """.venv-tracking sees the packages of .venv, and installs only the others."""
    texts = [(ROOT / lock).read_text() for lock in ("requirements.lock", TRACKING)]
    ours, theirs = (dict(re.findall(r"^(\S+?)==(\S+)", text, re.MULTILINE)) for text in texts)
    shared = ours.keys() & theirs.keys()
    assert {"numpy", "matplotlib", "protobuf"} <= shared
    assert [name for name in shared if ours[name] != theirs[name]] == []


def test_a_lock_without_what_the_requirements_declare_is_refused(tmp_path):
    for name in (*LOCKS, *(lock.replace(".lock", ".txt") for lock in LOCKS), "Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / "tests/tracking/requirements.txt").read_text()
    (tmp_path / "tests/tracking/requirements.txt").write_text(f"{text}\neinops==0.0.1\n")
    ended = make("locked", place=tmp_path)
    assert ended.returncode != 0
    assert f"{TRACKING}: lacks einops==0.0.1 " in ended.stdout + ended.stderr


def installations():
    """All `pip install` of the Makefile, the recipes of containers and the workflows, in one line each."""
    targets = ("install", "deploy", "nnunet", "tracking", "monailabel", "lock")
    texts = [make("--dry-run", "--always-make", *targets).stdout]
    for pattern in ("*/Dockerfile", "*/*.def", ".github/workflows/*.yml"):
        texts += [path.read_text() for path in ROOT.glob(pattern)]
    commands = re.split(r"&&|\n", "\n".join(texts).replace("\\\n", ""))
    return [" ".join(command.split()) for command in commands if re.search(r"pip\b.* install ", command)]


def test_hashes_of_all_that_is_installed_are_checked_and_nothing_is_fetched_to_build_it():
    checked = [command for command in installations() if "--require-hashes" in command]
    assert len(checked) == 4 * 3 + 2 + 4, "four environments in three steps, tracking, lock; three recipes, the audit"
    for command in checked:
        assert {"--no-deps", "--only-binary=:all:"} <= {*command.split()}
        assert "--no-binary" not in command or " --no-build-isolation " in command
        assert re.search(r" --requirement \S+\.lock\"?$", command)
    unchecked = {*installations()} - {*checked}
    torch = r"\"\$\(grep -o '\^torch==\[0-9\.\]\*' requirements\.lock\)\"$"  # for GPUs, in containers
    assert [command for command in unchecked if not re.search(rf" torchvision==[\d.]+$|{torch}", command)] == []
