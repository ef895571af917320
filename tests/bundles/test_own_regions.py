"""Regions of one's own, from a datalist to what is trained, measured, drawn and written back."""

import json
import shutil
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from common.errors import input_error_message
from tests.bundles.workflows import STEP, workflow
from tests.support import execute

pytestmark = pytest.mark.slow
OWN = {"whole": [2, 4, 7], "necrosis": {"labels": 7, "colour": "#d1495b"}, "oedema": [2]}
TEXT = "whole=2+4+7,necrosis=7:d1495b,oedema=2"
BUNDLE = "brats_finetune"


@pytest.fixture
def own(cohorts, tmp_path):
    """The BraTS cohort with label 7 for 1, and its datalist, which declares regions: options of a run."""
    content = json.loads((cohorts / "brats.json").read_text())
    content["regions"] = OWN
    del content["label_convention"]
    (tmp_path / "own.json").write_text(json.dumps(content))
    shutil.copytree(cohorts / "brats", tmp_path / "data")
    for file in (tmp_path / "data").rglob("*_seg.nii.gz"):
        mask = nib.load(file)
        labels = np.asarray(mask.dataobj).astype(np.uint8)
        labels[labels == 1] = 7
        nib.save(nib.Nifti1Image(labels, mask.affine), file)
    return {"dataset_dir": str(tmp_path / "data"), "datalist": str(tmp_path / "own.json")}


def test_regions_of_ones_own_are_trained_measured_drawn_and_written_back(own, cohorts, tmp_path):
    options = STEP | own | {"modalities": ["T1", "FLAIR"]}
    with pytest.raises(RuntimeError) as error:
        workflow(BUNDLE, "train", cohorts, tmp_path / "refused", **options, label_convention="brats2021")
    line = f"--label_convention=brats2021: the labels of {own['datalist']} follow {TEXT}"
    assert input_error_message(error.value) == line

    workflow(BUNDLE, "train", cohorts, tmp_path, **options).run()
    model = tmp_path / "models/model.pt"
    saved = torch.load(model, weights_only=True)
    assert saved["metadata"]["label_convention"] == TEXT
    assert saved["network"]["out.conv.conv.weight"].shape[0] == 3
    # Predictions that have every region: the last layer reads nothing, and its biases say yes, no, yes
    saved["network"]["out.conv.conv.weight"].zero_()
    saved["network"]["out.conv.conv.bias"][:] = torch.tensor([1.0, -1.0, 1.0])
    torch.save(saved, model)

    evaluated, scored, written = (tmp_path / name for name in ("evaluated", "scored", "written"))
    given = {"checkpoint": str(model), "overlap": 0}
    workflow(BUNDLE, "evaluate", cohorts, evaluated, **own, **given).run()
    summary = json.loads((evaluated / "summary.json").read_text())
    assert list(summary["regions"]) == ["whole", "necrosis", "oedema"]
    assert json.loads((evaluated / "cases.json").read_text())["label_convention"] == TEXT
    (prediction,) = (evaluated / "predictions").glob("*.nii.gz")
    labels = np.asarray(nib.load(prediction).dataobj)
    assert set(np.unique(labels)) <= {0, 2}
    assert (labels == 2).any()

    files = [f"--predictions={prediction.parent}", f"--references={own['datalist']}", f"--output={scored}"]
    files += [f"--dataset_dir={own['dataset_dir']}", "--protocol=brats"]
    result = execute([sys.executable, "-m", "scripts.evaluate", *files])
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((scored / "summary.json").read_text())["regions"] == summary["regions"]
    assert "necrosis" in (scored / "evaluation.html").read_text()

    workflow(BUNDLE, "inference", cohorts, written, **own, **given, label_convention=TEXT).run()
    assert np.array_equal(np.asarray(nib.load(written / prediction.name).dataobj), labels)
    rows = [line.split(",")[1] for line in (written / "volumes.csv").read_text().splitlines()[1:]]
    assert rows == ["whole", "necrosis", "oedema"]
