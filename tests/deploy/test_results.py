import pytest

from deploy.results import RESULT_FILES, prepare_output, publish_results
from tests.deploy.checks import refusal


@pytest.fixture
def results(tmp_path):
    """A folder with all result files, each with its name as content."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name in RESULT_FILES:
        (folder / name).write_text(name)
    return folder


def test_a_missing_output_folder_is_made(tmp_path):
    prepare_output(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


def test_an_output_folder_with_results_is_refused(results):
    assert refusal(prepare_output, results) == (
        "--output: contains segmentation.dcm; expected a folder without results"
    )


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    assert refusal(prepare_output, tmp_path / "out") == "--output: File exists; expected a writable folder"


def test_all_results_are_published(results, tmp_path):
    (tmp_path / "out").mkdir()
    publish_results(results, tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        name: name for name in RESULT_FILES
    }
    assert list(results.iterdir()) == []


def test_no_result_is_published_if_one_is_in_the_way(results, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("somebody else's")
    assert "now contains result.json" in refusal(publish_results, results, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]
    assert (tmp_path / "out/result.json").read_text() == "somebody else's"
