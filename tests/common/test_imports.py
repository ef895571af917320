"""What importing `common` does to the process: it silences warnings that nobody need act on."""

import subprocess
import sys

from common import SILENCED
from tests.support import ROOT

WARNED_OF = """
from monai.transforms import LoadImage
from torch.utils.data import DataLoader
LoadImage()
DataLoader([1], num_workers=9999)
"""


def complaints(code):
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in ended.stderr.splitlines() if "Warning" in line or "nvimgcodec" in line.lower()]


def test_warnings_are_silenced_that_would_be_raised_otherwise():
    """When the second half fails, a library no longer warns, and `common` need not silence it."""
    assert complaints(f"import common{WARNED_OF}") == []
    raised = "".join(complaints(WARNED_OF))
    assert [message for message in SILENCED if message not in raised] == []
