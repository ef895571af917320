import sys

import pytest

pytest.importorskip("SimpleITK", reason="needs the environment of make deploy")

import numpy as np

from common.errors import InputError
from common.prepare.volumes import Volume
from deploy.geometry import write_nifti
from deploy.inference import read_label_map, run_command


def test_a_failure_is_reported_with_the_last_line(tmp_path):
    code = "import sys; print('first\\nerror: the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(InputError, match=r"^the bundle's inference ended with status 3: error: the reason$"):
        run_command([sys.executable, "-c", code], tmp_path, tmp_path)


def test_a_failed_case_is_reported_with_its_reason(tmp_path):
    lines = ["case: 0%|   | 0/1", "\rfailed: subject case: T1: zero everywhere", "1 of 1 cases failed"]
    code = f"import sys; print({chr(10).join(lines)!r}, file=sys.stderr); sys.exit(1)"
    expected = "^the bundle's inference ended with status 1: failed: subject case: T1: zero everywhere$"
    with pytest.raises(InputError, match=expected):
        run_command([sys.executable, "-c", code], tmp_path, tmp_path)


def test_messages_do_not_name_the_folder_of_temporary_files(tmp_path):
    work = tmp_path / "SENTINEL" / "work"
    code = f"import sys; sys.exit('error: {work}/case_T1.nii: broken')"
    with pytest.raises(InputError, match=r": error: case_T1\.nii: broken$"):
        run_command([sys.executable, "-c", code], tmp_path, work)


def test_a_label_map_on_another_grid_is_refused(tmp_path):
    volume = Volume(np.zeros((4, 5, 6), np.float32), np.eye(4))
    with pytest.raises(InputError, match="wrote no label map"):
        read_label_map(tmp_path / "case.nii", volume)
    write_nifti(volume, tmp_path / "case.nii")
    assert read_label_map(tmp_path / "case.nii", volume).dtype == np.uint8
    with pytest.raises(InputError, match="is not on the grid of its input"):
        read_label_map(tmp_path / "case.nii", Volume(volume.array, np.diag([1, 1, 2, 1])))
    with pytest.raises(InputError, match="is not on the grid of its input"):
        read_label_map(tmp_path / "case.nii", Volume(volume.array[1:], np.eye(4)))
