"""The publication of results in the output folder, and the options of a job's inference."""

import pytest

from deploy.job import RESULT_FILES, prepare_output, publish
from tests.deploy.dicom.checks import refusal


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
