"""The notebook of docs/tutorials, every cell but the installation, in a kernel of this environment."""

import pytest

from tests.support import ROOT

nbformat = pytest.importorskip("nbformat", reason="make tracking")
nbclient = pytest.importorskip("nbclient", reason="make tracking")
TUTORIALS = ROOT / "docs/tutorials"
LENGTH = '"iterations": {}, "val_interval": {}, "warmup_iterations": {}'


@pytest.mark.slow
def test_the_notebook_trains_a_model_and_shows_its_page(tmp_path):
    notebook = nbformat.read(TUTORIALS / "first_model.ipynb", as_version=4)
    nbformat.validate(notebook)
    tagged = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    notebook.cells.remove(tagged["install"])
    changes = [("places", 'Path("first_model").resolve()', f"Path({str(tmp_path)!r})")]
    changes += [("length", LENGTH.format(40, 20, 8), LENGTH.format(2, 2, 0))]
    for tag, old, new in changes:
        assert old in tagged[tag].source
        tagged[tag].source = tagged[tag].source.replace(old, new)
    places = {"metadata": {"path": TUTORIALS}}
    nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources=places, allow_errors=True
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "".join(output.get("text", "") for output in outputs)
    assert "error: " not in shown, shown
    assert "error" not in [output["output_type"] for output in outputs], shown
    widgets = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(widgets) == 2
    assert (tmp_path / "first/evaluation/evaluation.html").is_file()
    assert (tmp_path / "prediction.nii.gz").is_file()
