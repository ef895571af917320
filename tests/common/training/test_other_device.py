"""A step's forward pass and loss on another device than the host's: no host tensor slips in, and nothing waits."""

import json
import sys

import pytest

from tests.support import execute


@pytest.mark.slow
def test_a_step_on_another_device_is_that_on_the_cpu():
    ended = execute([sys.executable, "-W", "ignore", "-m", "tests.common.training.other_device"])
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert len(found) == 6
    for step in found:
        assert step["other"] == pytest.approx(step["cpu"], abs=1e-5), step
        assert step["waits"] == [], step
