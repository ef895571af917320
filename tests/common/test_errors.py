"""Bad input ends a process with one line and status 2, also from a DataLoader's worker and below MONAI's wrappers."""

import subprocess
import sys

import pytest

from tests.support import ROOT

PROCESS = """
from torch.utils.data import DataLoader
from common.errors import InputError, report_in_one_line

class Scans:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise {error}

if __name__ == "__main__":
    report_in_one_line()
    try:
        next(iter(DataLoader(Scans(), num_workers={workers})))
    except Exception as error:
        raise RuntimeError("an engine's run\\nof many lines") from error
"""


def run(error, workers):
    code = PROCESS.format(error=error, workers=workers)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_input_is_one_line(workers):
    ended = run('InputError("subject P1", "a.nii.gz: label 3")', workers)
    assert (ended.returncode, ended.stderr) == (2, "error: subject P1: a.nii.gz: label 3\n")


def test_a_bug_is_a_traceback():
    ended = run('KeyError("mine")', 0)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "KeyError: 'mine'" in ended.stderr


def test_a_full_disk_is_one_line():
    ended = run('OSError(28, "full", "a.nii.gz")', 0)
    assert (ended.returncode, ended.stderr) == (2, "error: a.nii.gz: full\n")
