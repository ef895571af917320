"""The notebook of docs/tutorials, every cell but the installation, in a kernel of this environment."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import ROOT

TUTORIALS = ROOT / "docs/tutorials"


@pytest.mark.slow
def test_the_notebook_trains_a_model_and_shows_its_page(tmp_path):
    notebook = nbformat.read(TUTORIALS / "first_model.ipynb", as_version=4)
    nbformat.validate(notebook)
    by_tag = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    notebook.cells.remove(by_tag["install"])
    for tag, old, new in (
        ("places", 'Path("first_model").resolve()', f"Path({str(tmp_path)!r})"),
        (
            "length",
            '"iterations": 40, "val_interval": 20, "warmup_iterations": 8',
            '"iterations": 2, "val_interval": 2',
        ),
    ):
        assert old in by_tag[tag].source
        by_tag[tag].source = by_tag[tag].source.replace(old, new)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": TUTORIALS}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "".join(output.get("text", "") for output in outputs)
    assert "error: " not in shown, shown
    widgets = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(widgets) == 2
    assert (tmp_path / "first/evaluation/evaluation.html").is_file()
    assert (tmp_path / "prediction.nii.gz").is_file()
