"""What importing `common` does to the process: it silences warnings that nobody need act on."""

import subprocess
import sys

import pytest

from common import SILENCED
from tests.support import ROOT

RAISED = {
    "NvImgCodecPydicomReader": "from monai.transforms import LoadImage; LoadImage()",
    "This DataLoader will create": "from torch.utils.data import DataLoader; DataLoader([1], num_workers=9999)",
}


def complaints(code):
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in ended.stderr.splitlines() if "Warning" in line or "nvimgcodec" in line.lower()]


def test_each_silenced_warning_is_tried():
    assert set(SILENCED) == set(RAISED)


@pytest.mark.parametrize("message", RAISED)
def test_a_warning_is_silenced(message):
    assert complaints(f"import common; {RAISED[message]}") == []


@pytest.mark.parametrize("message", RAISED)
def test_a_warning_is_still_raised(message):
    """When this fails, the library no longer warns, and `common` need not silence it."""
    assert message in "".join(complaints(RAISED[message]))
