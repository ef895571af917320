"""The locks: every package with hashes, and what `make locked` refuses."""

import os
import re
import shutil
import subprocess

import pytest

from tests.support import ROOT

TRACKING = "tests/tracking/requirements.lock"
LOCKS = ("requirements.lock", "deploy/requirements.lock", "scripts/nnunet/requirements.lock", TRACKING)


@pytest.fixture
def copy(tmp_path):
    """The files that `make locked` reads."""
    for name in (*LOCKS, *(lock.replace(".lock", ".txt") for lock in LOCKS), "Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def locked(folder):  # as if no `make test` were around it
    apart = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "locked"]
    return subprocess.run(command, cwd=folder, env=apart, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_hashes(lock):
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().rstrip())
    names = [entry.partition("==")[0] for entry in entries]
    assert len(set(names)) == len(names) >= 100
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry[:80]


def test_what_the_environments_of_tracking_and_of_the_bundles_share_has_one_version():
    """.venv-tracking sees the packages of .venv, and installs only the others."""
    texts = [(ROOT / lock).read_text() for lock in ("requirements.lock", TRACKING)]
    ours, theirs = (dict(re.findall(r"^(\S+?)==(\S+)", text, re.MULTILINE)) for text in texts)
    shared = ours.keys() & theirs.keys()
    assert {"numpy", "matplotlib", "protobuf"} <= shared
    assert [name for name in shared if ours[name] != theirs[name]] == []


def test_the_locks_agree_with_the_requirements(copy):
    ended = locked(copy)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("requirements", "old", "new", "message"),
    [
        ("requirements.txt", "torch==2.13.0", "torch==2.13.00", "requirements.lock: lacks torch==2.13.00 of "),
        ("tests/tracking/requirements.txt", "wandb==0.31.0", "wandb==0.31", f"{TRACKING}: lacks wandb==0.31 "),
    ],
)
def test_a_lock_without_what_the_requirements_declare_is_refused(copy, requirements, old, new, message):
    text = (copy / requirements).read_text()
    assert old in text
    (copy / requirements).write_text(text.replace(old, new, 1))
    ended = locked(copy)
    assert ended.returncode != 0
    assert message in ended.stdout + ended.stderr
