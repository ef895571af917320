"""Training, evaluation and inference on subjects that lack a modality, as a user runs them."""

import json
import shutil

import pytest
import torch

from tests.support import TINY

pytestmark = pytest.mark.slow

BUNDLE = "brats_finetune"
SIZE = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]


def lines_of(result, start):
    assert result.returncode == 0, result.stdout + result.stderr
    return [line for line in result.stdout.splitlines() if line.startswith(start)]


@pytest.fixture
def datalist(cohorts, tmp_path):
    """One subject for training lacks T2, one for validation FLAIR and T2, and none for testing any."""
    content = json.loads((cohorts / "brats.json").read_text())
    content["training"][0]["image"][3] = None
    content["validation"][0]["image"][0] = content["validation"][0]["image"][3] = None
    (tmp_path / "list.json").write_text(json.dumps(content))
    return f"--datalist={tmp_path / 'list.json'}"


def test_a_network_does_without_what_it_has_learnt_to_do_without(run_bundle, cohorts, datalist, tmp_path):
    trained = run_bundle(BUNDLE, *TINY, datalist)
    expected = "missing: T2 in 1 of 3 training subjects; zeros take their place"
    assert lines_of(trained, "missing") == [expected]
    model = tmp_path / BUNDLE / "models/model.pt"
    metadata = torch.load(model, weights_only=True)["metadata"]
    assert (metadata["missing_modalities"], metadata["modality_dropout"]) == (["T2"], 0.0)

    checkpoint, evaluate = f"--checkpoint={model}", {"config": "configs/evaluate.yaml"}
    evaluated = run_bundle(BUNDLE, *SIZE, checkpoint, "--missing_modalities=[T2]", **evaluate)
    expected = "missing: T2 in 1 of 1 subjects; figures differ from those with all modalities"
    assert lines_of(evaluated, "missing") == [expected]
    (case,) = json.loads((tmp_path / BUNDLE / "cases.json").read_text())["cases"].values()
    assert case["missing_modalities"] == ["T2"]
    assert json.loads((tmp_path / BUNDLE / "run.json").read_text())["config"]["missing_modalities"] == ["T2"]

    refused = run_bundle(BUNDLE, *SIZE, checkpoint, datalist, "--split=validation", **evaluate)
    subject = json.loads((tmp_path / "list.json").read_text())["validation"][0]["subject"]
    assert refused.returncode == 2
    assert refused.stderr.rstrip().splitlines()[-1] == (
        f"error: subject {subject} lacks FLAIR, which {model} was never trained without; expected complete subjects, "
        "or a checkpoint trained with modality_dropout above 0"
    )

    scans = shutil.copytree(cohorts / "brats" / subject, tmp_path / "scans")
    next(scans.glob("*_t2.nii.gz")).unlink()
    places = [f"--dataset_dir={scans}", "--datalist=null", f"--output_dir={tmp_path / 'predictions'}"]
    inferred = run_bundle(BUNDLE, *SIZE, checkpoint, *places, config="configs/inference.yaml")
    assert len(lines_of(inferred, "missing: T2 in 1 of 1 subjects")) == 1
    assert (tmp_path / f"predictions/{subject}.nii.gz").is_file()
