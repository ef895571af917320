"""The handler that draws pages; a page that cannot be drawn does not end the evaluation."""

import hashlib
import re
from importlib.metadata import version

import nibabel
import numpy as np
import pytest
from ignite.engine import Engine

from common.data.volumes import MADE_UP, write_volume
from common.inference.publishing import begin
from common.inference.reading import read
from common.metrics.protocols import protocol
from common.pages.evaluation import write_pages
from common.pages.handlers import EvaluationFiles
from tests.html_pages import text_of

LABELS = np.zeros((12, 12, 12), np.uint8)
LABELS[3:8, 4:9, 5:9] = 1


@pytest.fixture
def folder(tmp_path):
    nibabel.save(nibabel.Nifti1Image(LABELS, np.eye(4)), tmp_path / "r.nii")
    return tmp_path


def run(folder, label="r.nii", **options):
    """Evaluate the case of a folder."""
    case = {"subject": "p", "image": [str(folder / "r.nii")], "label": str(folder / label)}
    rules = protocol("atlas")
    scores = {"p": {"lesion": rules.measure(LABELS > 0, LABELS > 0, (1, 1, 1))}}
    engine = Engine(lambda *_: None)
    engine.state.metric_details, engine.state.key_metric_name = {"dice": scores}, "dice"
    nibabel.save(nibabel.Nifti1Image(LABELS, np.eye(4)), folder / "p.nii.gz")
    EvaluationFiles(begin(folder), rules, [case], str(folder), "atlas", "ours", ["T1"], **options).attach(engine)
    engine.run([0])


def write_page(folder, *slices):
    return write_pages(folder, read(folder), *slices)


def test_the_page_is_that_of_the_files_and_says_what_made_it(folder, capsys):
    weights = folder / "model.pt"
    weights.write_bytes(b"weights")
    run(folder, settings={"cohort": "hospital A", "checkpoint": str(weights)})
    page = (folder / "evaluation.html").read_bytes()
    digest = hashlib.sha256(b"weights").hexdigest()
    for html in (page.decode(), (folder / "slices/p.html").read_text()):
        text = text_of(html[html.index("About this page") :])
        for fact in ("not for diagnosis", "hospital A", f"model.pt (SHA-256 {digest})", f"MONAI {version('monai')}"):
            assert fact in text
        assert "made up" not in text_of(html)
    assert b"<h1>Evaluation of ours on hospital A</h1>" in page
    assert capsys.readouterr().err == ""
    assert write_page(folder).read_bytes() == page


def test_made_up_subjects_are_said_to_be_made_up(folder):
    write_volume(folder / "r.nii.gz", LABELS, np.eye(4), description=MADE_UP)
    run(folder, label="r.nii.gz")
    assert "The subjects are made up" in text_of((folder / "evaluation.html").read_text())
    assert "The subjects are made up" in text_of((folder / "slices/p.html").read_text())


def test_the_page_links_to_slices_of_the_cases_that_it_shows(folder):
    run(folder)
    assert [path.name for path in (folder / "slices").iterdir()] == ["p.html"]
    links = re.findall(r'href="(slices[^"]*)"', (folder / "evaluation.html").read_text())
    assert links == ["slices/p.html", "slices/p.html"]  # of the case, and of its row
    (folder / "slices/p.html").unlink()
    write_page(folder, "none")
    assert not list((folder / "slices").iterdir())
    assert "slices/" not in (folder / "evaluation.html").read_text()
