"""The handlers that draw pages; a page that cannot be drawn does not end the evaluation or inference."""

import re
import sys

import ignite.distributed as idist
import nibabel
import numpy as np
import pytest
from ignite.engine import Engine

from common.errors import InputError
from common.inference import results
from common.inference.results import CaseFiles
from common.metrics.protocols import protocol
from common.pages.evaluation import write_page
from common.pages.handlers import EvaluationPage, SlicePages


def write(folder, prediction, reference):
    """The files of an evaluation of one case, and its label maps; returns the scores."""
    for name, labels in (("p", prediction), ("r", reference)):
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / f"{name}.nii")
    rules = protocol("atlas")
    scores = {"a": {"lesion": rules.measure(prediction > 0, reference > 0, (1, 1, 1))}}
    files = [CaseFiles("a", folder / "p.nii", folder / "r.nii", None)]
    results.write(folder, results.Details("ours", "atlas", rules, files, scores))
    return scores


LABELS = np.zeros((12, 12, 12), np.uint8)
LABELS[3:8, 4:9, 5:9] = 1


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, LABELS, LABELS)
    return tmp_path


def run(folder):
    """The number of epochs that an evaluation completes."""
    engine = Engine(lambda *_: None)
    EvaluationPage(str(folder)).attach(engine)
    engine.run([0])
    return engine.state.epoch


def test_the_page_is_that_of_the_files(folder, capsys, monkeypatch):
    with monkeypatch.context() as second:
        second.setattr(idist, "get_rank", lambda: 1)
        run(folder)
    assert not (folder / "evaluation.html").exists(), "one process draws"
    assert run(folder) == 1
    page = (folder / "evaluation.html").read_bytes()
    assert b"<h1>Evaluation of ours</h1>" in page
    assert capsys.readouterr().err == ""
    assert write_page(folder).read_bytes() == page


def test_a_page_that_cannot_be_drawn_is_a_warning(folder, capsys, monkeypatch):
    (folder / "r.nii").write_bytes(b"damaged")
    assert run(folder) == 1
    for name in [name for name in sys.modules if name.startswith("common.pages.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)  # scores need no package of the page
    assert run(folder) == 1
    damaged, lacking = capsys.readouterr().err.splitlines()
    assert damaged.startswith(f"warning: {folder}/evaluation.html was not drawn: {folder}/r.nii: ")
    assert lacking.startswith(f"warning: {folder}/evaluation.html was not drawn: ModuleNotFoundError: ")
    assert "jinja2" in lacking
    assert not (folder / "evaluation.html").exists()


def test_the_page_links_to_slices_of_the_cases_that_it_shows(folder):
    run(folder)
    assert [path.name for path in (folder / "slices").iterdir()] == ["a.html"]
    links = re.findall(r'href="(slices[^"]*)"', (folder / "evaluation.html").read_text())
    assert links == ["slices/a.html", "slices/a.html"]  # of the case, and of its row
    (folder / "slices/a.html").unlink()
    write_page(folder, "none")
    assert not list((folder / "slices").iterdir())
    assert "slices/" not in (folder / "evaluation.html").read_text()
    with pytest.raises(InputError, match="slices=some: expected one of none, chosen, all"):
        EvaluationPage(str(folder), "some")


def test_slices_stay_where_the_page_cannot_be_written(folder):
    run(folder)
    (folder / "evaluation.html").unlink()
    (folder / "evaluation.html").mkdir()
    with pytest.raises(InputError, match=r"expected a folder that evaluation\.html can be written to"):
        write_page(folder, "none")
    assert [path.name for path in (folder / "slices").iterdir()] == ["a.html"]


def infer(folder, cases, slices="all"):
    engine = Engine(lambda *_: ["output"])
    SlicePages(str(folder), cases, ["FLAIR", "T1"], "atlas", slices).attach(engine)
    engine.run([[{"subject": case["subject"]}] for case in cases])


def test_an_inference_writes_slices_of_each_subject(folder, capsys):
    image = np.random.default_rng(0).uniform(1, 2, (12, 12, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "t1.nii.gz")
    for subject in ("s1", "s2"):
        nibabel.save(nibabel.load(folder / "r.nii"), folder / f"{subject}.nii.gz")
    cases = [{"subject": subject, "image": [None, str(folder / "t1.nii.gz")]} for subject in ("s1", "s2", "lost")]
    infer(folder, cases, "none")
    assert not (folder / "slices").exists()
    infer(folder, cases)
    assert sorted(path.name for path in (folder / "slices").iterdir()) == ["s1.html", "s2.html"]
    html = (folder / "slices/s1.html").read_text()
    assert "<option>T1</option>" in html
    assert "Segmented without FLAIR." in html
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {folder}/slices/lost.html was not written: {folder}/lost.nii.gz: ")
    with pytest.raises(InputError, match="slices=chosen: expected one of none, all"):
        infer(folder, cases, "chosen")
