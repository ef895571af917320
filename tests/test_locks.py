"""The locks: what environments share has one version, and what `make locked` refuses."""

import os
import re
import shutil
import subprocess

from tests.support import ROOT

TRACKING = "tests/tracking/requirements.lock"
LOCKS = ("requirements.lock", "deploy/requirements.lock", "scripts/nnunet/requirements.lock", TRACKING)


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
    apart = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    ended = subprocess.run(["make", "locked"], cwd=tmp_path, env=apart, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert f"{TRACKING}: lacks einops==0.0.1 " in ended.stdout + ended.stderr
