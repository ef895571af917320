"""An evaluation's scores appear whatever the drawing of its pages raises."""

import nibabel
import numpy as np
import pytest

from common.inference import results
from common.inference.results import CaseFiles, Details
from common.metrics import protocol
from common.metrics.statistics import describe
from common.pages import evaluation
from common.pages.results import write

MASK = np.ones((3, 3, 3), bool)
SCORES = ["cases.json", "lesions.csv", "metrics.csv", "summary.json"]


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(28, "No space left on device"), ImportError("x"), RuntimeError("a\nb")]
)
def test_a_page_that_cannot_be_drawn_is_a_warning(tmp_path, capsys, monkeypatch, error):
    rules = protocol("dice")

    def fail(*_):
        assert sorted(path.name for path in tmp_path.iterdir()) == SCORES, "scores come first"
        raise error

    monkeypatch.setattr(evaluation, "write_pages", fail)
    files = [CaseFiles("p", tmp_path / "p.nii", tmp_path / "r.nii")]
    details = Details("x", "atlas", rules, files, {"p": {"lesion": rules.measure(MASK, MASK, (1, 1, 1))}})
    assert write(tmp_path, details)[3].split() == ["lesion", "dice", "1", "1"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path}/evaluation.html was not drawn: {type(error).__name__}: ")


def test_page_and_summary_share_their_statistics(tmp_path, capsys, monkeypatch):
    """The bootstrap intervals take most of the time."""
    described = []
    monkeypatch.setattr(results, "describe", lambda values: described.append(values) or describe(values))
    file = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.pad(MASK, 1).astype(np.uint8), np.eye(4)), file)
    rules = protocol("dice")
    scores = {"p": {"lesion": rules.measure(MASK, MASK, (1, 1, 1))}}
    write(tmp_path, Details("x", "atlas", rules, [CaseFiles("p", file, file)], scores))
    assert capsys.readouterr().err == ""
    assert (tmp_path / "evaluation.html").exists()
    assert len(described) == 2, "dice and dice_present"
