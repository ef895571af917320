"""What importing `common` does to the process."""

import subprocess
import sys

from tests.support import ROOT

LOAD = "from monai.transforms import LoadImage; LoadImage()"


def complaints(code):
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in ended.stderr.splitlines() if "nvimgcodec" in line.lower()]


def test_monai_says_nothing_of_a_decoder_that_no_bundle_needs():
    assert complaints(f"import common; {LOAD}") == []


def test_monai_still_complains_by_itself():
    """When this fails, MONAI no longer does, and `common` need not silence it."""
    assert complaints(LOAD)
