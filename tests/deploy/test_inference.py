import sys
from types import SimpleNamespace

import numpy as np
import pytest

from common.data.volumes import write_volume
from common.errors import InputError
from common.prepare.volumes import Volume
from deploy.inference import read_label_map, run_command
from deploy.operators import Infer
from tests.deploy.dicom.checks import refusal


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["case: 0%|   | 0/1", "\rfailed: subject case: T1: zero everywhere", "1 of 1 cases failed"],
            "failed: subject case: T1: zero everywhere",
        ),
        (["error: WORK/case_T1.nii: broken"], "error: case_T1.nii: broken"),  # the folder may name the patient
        (["  File ...", "NameError: nope", "RuntimeError: Failed:", " set '_mode_=debug'"], "NameError: nope"),
        ([], "no message"),
    ],
)
def test_a_failure_is_reported_with_its_reason(lines, reason, tmp_path):
    work = tmp_path / "SENTINEL/work"
    text = "\n".join(lines).replace("WORK", str(work))
    code = f"import sys; print({text!r}, file=sys.stderr); sys.exit(3)"
    message = refusal(run_command, [sys.executable, "-c", code], tmp_path, work)
    assert message == f"the bundle's inference ended with status 3: {reason}"


def test_a_failure_says_where_the_options_that_it_names_belong(monkeypatch):
    def fail(*_):
        raise InputError("--accept='[air]' goes on regardless")

    monkeypatch.setattr("deploy.operators.infer", fail)
    job = SimpleNamespace(bundle=None, work=None, options=["--amp"], force=False)
    received = SimpleNamespace(receive=lambda _: SimpleNamespace(aligned={}))
    message = refusal(Infer.compute, SimpleNamespace(fragment=SimpleNamespace(job=job)), received, None, None)
    text = "--accept='[air]' goes on regardless; options of the bundle go into --bundle_options; changed here: --amp"
    assert message == text


def test_an_inference_that_a_signal_ends_is_reported(tmp_path):
    code = "import os, sys; print('case: 0%|', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    message = refusal(run_command, [sys.executable, "-c", code], tmp_path, tmp_path)
    assert message == "the bundle's inference was ended by SIGKILL, probably for lack of memory"


def test_a_label_map_on_another_grid_is_refused(tmp_path):
    volume, path = Volume(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "case.nii.gz"
    assert "wrote no label map" in refusal(read_label_map, path, volume)
    write_volume(path, volume.array, volume.affine)
    assert read_label_map(path, volume).dtype == np.uint8
    for other in (Volume(volume.array, np.diag([1, 1, 2, 1])), Volume(volume.array[1:], np.eye(4))):
        assert "is not on the grid of its input" in refusal(read_label_map, path, other)
