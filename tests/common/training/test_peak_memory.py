"""Peak memory of a process."""

import subprocess
import sys

from tests.support import ROOT


def test_peak_memory_excludes_the_parent():
    child = "from common.training.records import peak_resident; print(peak_resident())"
    parent = f"import subprocess, sys; block = b'x' * 2**31; subprocess.run([sys.executable, '-c', {child!r}])"
    result = subprocess.run([sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 < float(result.stdout) < 1.5  # GiB
