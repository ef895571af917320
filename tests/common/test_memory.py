"""The peak memory of a run."""

import subprocess
import sys

import numpy as np

from tests.support import ROOT

PEAK = "from common.memory import peak_resident; print(peak_resident())"


def test_the_peak_of_a_process_is_not_that_of_its_parent():
    ballast = np.ones(2**27)  # 1 GiB
    result = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ballast.nbytes == 2**30
    assert float(result.stdout) < 0.5
