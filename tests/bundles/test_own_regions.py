"""Regions of one's own, from a datalist to what is trained, measured, drawn and written back."""

import json
import shutil
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.support import ROOT, TINY, execute

pytestmark = pytest.mark.slow
OWN = {"whole": [2, 4, 7], "necrosis": {"labels": 7, "colour": "#d1495b"}, "oedema": [2]}
TEXT = "whole=2+4+7,necrosis=7:d1495b,oedema=2"
SIZE = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0", "--modalities=['T1','FLAIR']"]


@pytest.fixture(scope="module")
def own(cohorts, tmp_path_factory):
    """The BraTS cohort with label 7 for 1, and its datalist, which declares regions."""
    folder = tmp_path_factory.mktemp("own")
    content = json.loads((cohorts / "brats.json").read_text())
    content["regions"] = OWN
    del content["label_convention"]
    (folder / "own.json").write_text(json.dumps(content))
    shutil.copytree(cohorts / "brats", folder / "data")
    for split in ("training", "validation", "testing"):
        for entry in content[split]:
            file = folder / "data" / entry["label"]
            mask = nib.load(file)
            labels = np.asarray(mask.dataobj).astype(np.uint8)
            labels[labels == 1] = 7
            nib.save(nib.Nifti1Image(labels, mask.affine), file)
    return folder


def run(config, own, *options, status=0):
    command = [sys.executable, "-m", "monai.bundle", "run", f"--config_file=configs/{config}.yaml"]
    places = [f"--dataset_dir={own / 'data'}", f"--datalist={own / 'own.json'}"]
    result = execute([*command, *places, *options], ROOT / "bundles" / "brats_finetune")
    assert result.returncode == status, result.stdout + result.stderr
    return result


def test_regions_of_ones_own_are_trained_measured_drawn_and_written_back(own, tmp_path):
    models = tmp_path / "models"
    run("train", own, *TINY, SIZE[-1], f"--output_dir={tmp_path / 'train'}", f"--ckpt_dir={models}")
    saved = torch.load(models / "model.pt", weights_only=True)
    assert saved["metadata"]["label_convention"] == TEXT
    assert saved["network"]["out.conv.conv.weight"].shape[0] == 3
    # Predictions that have every region: the last layer reads nothing, and its biases say yes, no, yes
    saved["network"]["out.conv.conv.weight"].zero_()
    saved["network"]["out.conv.conv.bias"][:] = torch.tensor([1.0, -1.0, 1.0])
    torch.save(saved, models / "model.pt")

    evaluated = tmp_path / "evaluation"
    given = [*SIZE, f"--checkpoint={models / 'model.pt'}"]
    run("evaluate", own, *given, f"--output_dir={evaluated}")
    summary = json.loads((evaluated / "summary.json").read_text())
    assert list(summary["regions"]) == ["whole", "necrosis", "oedema"]
    assert json.loads((evaluated / "cases.json").read_text())["label_convention"] == TEXT
    (prediction,) = (evaluated / "predictions").glob("*.nii.gz")
    labels = np.asarray(nib.load(prediction).dataobj)
    assert set(np.unique(labels)) <= {0, 2}
    assert (labels == 2).any()

    scored = tmp_path / "scored"
    files = [f"--predictions={prediction.parent}", f"--references={own / 'own.json'}", f"--dataset_dir={own / 'data'}"]
    result = execute([sys.executable, "-m", "scripts.evaluate", *files, "--protocol=brats", f"--output={scored}"])
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((scored / "summary.json").read_text())["regions"] == summary["regions"]
    assert "necrosis" in (scored / "evaluation.html").read_text()

    written = tmp_path / "predictions"
    run("inference", own, *given, f"--label_convention={TEXT}", f"--output_dir={written}")
    assert np.array_equal(np.asarray(nib.load(written / prediction.name).dataobj), labels)
    rows = [line.split(",")[1] for line in (written / "volumes.csv").read_text().splitlines()[1:]]
    assert rows == ["whole", "necrosis", "oedema"]


def test_another_convention_than_the_datalists_is_refused(own, tmp_path):
    places = [f"--output_dir={tmp_path / 'train'}", f"--ckpt_dir={tmp_path / 'models'}"]
    result = run("train", own, *TINY, *places, "--label_convention=brats2021", status=2)
    (line,) = result.stderr.strip().splitlines()[-1:]
    assert line.endswith(f"--label_convention=brats2021: the labels of {own / 'own.json'} follow {TEXT}")
