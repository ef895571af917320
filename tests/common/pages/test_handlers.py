"""The handler that draws the page of an evaluation; a page that cannot be drawn does not end the evaluation."""

import sys

import ignite.distributed as idist
import nibabel
import numpy as np
import pytest
from ignite.engine import Engine

from common.inference import results
from common.inference.results import CaseFiles
from common.metrics.protocols import protocol
from common.pages.evaluation import write_page
from common.pages.handlers import EvaluationPage


@pytest.fixture
def folder(tmp_path):
    """The files of an evaluation of one case, and its label maps."""
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:8, 4:9, 5:9] = 1
    for name in ("p", "r"):
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / f"{name}.nii")
    rules = protocol("atlas")
    scores = {"a": {"lesion": rules.measure(labels > 0, labels > 0, (1, 1, 1))}}
    files = [CaseFiles("a", tmp_path / "p.nii", tmp_path / "r.nii", None)]
    results.write(tmp_path, scores, rules, files, "atlas", "ours")
    return tmp_path


def run(folder):
    """The number of epochs that an evaluation completes."""
    engine = Engine(lambda *_: None)
    EvaluationPage(str(folder)).attach(engine)
    engine.run([0])
    return engine.state.epoch


def test_the_page_is_that_of_the_files(folder, capsys):
    assert run(folder) == 1
    page = (folder / "evaluation.html").read_bytes()
    assert b"<h1>Evaluation of ours</h1>" in page
    assert capsys.readouterr().err == ""
    assert write_page(folder).read_bytes() == page


def test_a_page_that_cannot_be_drawn_is_a_warning(folder, capsys):
    (folder / "r.nii").write_bytes(b"damaged")
    assert run(folder) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {folder}/evaluation.html was not drawn: {folder}/r.nii: ")
    assert not (folder / "evaluation.html").exists()


def test_scores_need_no_package_of_the_page(folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("common.pages.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run(folder) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {folder}/evaluation.html was not drawn: ModuleNotFoundError: ")
    assert "jinja2" in line


def test_one_process_draws(folder, monkeypatch):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    run(folder)
    assert not (folder / "evaluation.html").exists()
