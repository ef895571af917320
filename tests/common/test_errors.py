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


INPUT = 'InputError("subject P1", "a.nii.gz: label 3")'


@pytest.mark.parametrize(
    ("error", "workers", "status", "last"),
    [
        (INPUT, 0, 2, "error: subject P1: a.nii.gz: label 3"),
        (INPUT, 2, 2, "error: subject P1: a.nii.gz: label 3"),
        ('OSError(28, "full", "a.nii.gz")', 0, 2, "error: a.nii.gz: full"),
        ('KeyError("mine")', 0, 1, "RuntimeError: an engine's run\nof many lines"),
    ],
)
def test_bad_input_is_one_line_and_a_bug_a_traceback(error, workers, status, last):
    code = PROCESS.format(error=error, workers=workers)
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == status
    assert ended.stderr.endswith(f"{last}\n")
    assert ended.stderr.startswith("Traceback" if status == 1 else last)
