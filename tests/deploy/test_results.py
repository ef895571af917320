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


def test_an_output_folder_is_made_and_refused_if_it_has_results(results, tmp_path):
    prepare_output(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    message = refusal(prepare_output, results)
    assert message == "--output: contains segmentation.dcm; expected a folder without results"


def test_all_results_are_published(results, tmp_path):
    (tmp_path / "out").mkdir()
    publish_results(results, tmp_path / "out")
    published = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert published == {name: name for name in RESULT_FILES}
    assert list(results.iterdir()) == []


def test_no_result_is_published_if_one_is_in_the_way(results, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("somebody else's")
    assert "now contains result.json" in refusal(publish_results, results, tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"result.json": "somebody else's"}
