"""Lock files: versions shared by environments, and hashes."""

import re
import subprocess

from tests.support import ROOT

TRACKING = "tests/tracking/requirements.lock"


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


def test_each_lock_pins_versions_and_hashes_for_linux_and_the_cpu():
    for lock in locks():
        entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
        pattern = r"[\w.-]+==[\w.+]+( \\\n    --hash=sha256:[0-9a-f]{64})+"
        assert [entry for entry in entries if not re.fullmatch(pattern, entry)] == [], lock
        assert not [entry for entry in entries if re.match("pywin|pyobjc|win32|nvidia-|triton==", entry)], lock
        assert all("+cpu" in entry for entry in entries if entry.startswith("torch=="))
