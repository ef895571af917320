"""The publication of results in the output folder, and the options of a job's inference."""

import numpy as np
import pydicom
import pytest

from common.data.preparation import PREPARATION_CHECKS
from deploy.job import RESULT_FILES, Job, prepare_output, publish
from deploy.operators import inference_options, write_dicom
from tests.deploy.dicom.checks import refusal
from tests.deploy.dicom.dicom_study import Study, write_modality
from tests.support import disk_of


@pytest.fixture
def results(tmp_path):
    """A folder with all result files, each with its name as content."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name in RESULT_FILES:
        (folder / name).write_text(name)
    return folder


def test_all_results_reach_a_new_folder(results, tmp_path):
    prepare_output(tmp_path / "a/b")
    publish(results, tmp_path / "a/b")
    assert {path.name: path.read_text() for path in (tmp_path / "a/b").iterdir()} == {n: n for n in RESULT_FILES}
    message = refusal(prepare_output, tmp_path / "a/b")
    assert message == "--output: contains measurements.dcm; expected a folder without results"
    assert refusal(prepare_output, tmp_path / "a/b/result.json") == "--output: a file; expected a writable folder"


def test_no_result_is_published_if_one_is_in_the_way(results, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("somebody else's")
    assert "now contains result.json" in refusal(publish, results, tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"result.json": "somebody else's"}


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path):
    write_modality(tmp_path / "in", np.ones((64, 64, 8)), np.eye(4), Study(), 2, "T1")
    image = pydicom.dcmread(next((tmp_path / "in").iterdir()))
    with disk_of(1000):
        message = refusal(write_dicom, image, tmp_path / "out/summary.dcm")
    assert message == f"{tmp_path}/out/summary.dcm: cannot be written: File too large"
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "force", "accepted"),
    [
        ([], False, ["--accept=[spacing,alignment]"]),
        (["--accept=[skull]"], False, ["--accept=[skull]"]),
        (["--accept=[skull]"], True, ["--accept=[skull]", f"--accept=[{','.join(PREPARATION_CHECKS)}]"]),
    ],
)
def test_checks_of_the_application_do_not_stop_the_inference(tumours, tmp_path, options, force, accepted):
    """The README promises that spacing never stops a study; the check of the bundle itself would."""
    assert inference_options(Job(tumours, {}, {}, "T1ce", tmp_path, tmp_path, options, force)) == accepted
