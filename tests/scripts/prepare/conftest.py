"""Two moved subjects of the embedded cohort at 4 mm, and what the command makes of them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.prepare.trial import TRUTH, make_raw
from tests.support import execute


def prepare(*arguments, **environment):
    return execute([sys.executable, "-m", "scripts.prepare", *arguments], **environment)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """One subject like UK Biobank's and a copy of it that lacks its FLAIR, prepared by the command."""
    folder = tmp_path_factory.mktemp("prepare")
    subject = make_raw("ukb", 0, folder, seed=4, spacing=4.0)
    (folder / "raw/lacking").mkdir()
    (folder / "raw/lacking/scan_T1w.nii.gz").write_bytes((folder / f"raw/{subject}/{subject}_T1.nii.gz").read_bytes())
    options = ["--like=ukb", f"--root={folder / 'raw'}", f"--output={folder / 'out'}", "--spacing=4"]
    result = prepare(*options)
    with np.load(folder / TRUTH / f"{subject}.npz") as truth:
        known = dict(truth)
    return SimpleNamespace(folder=folder, subject=subject, truth=known, options=options, result=result)


@pytest.fixture(scope="session")
def run_prepare():
    return prepare
