"""Training, evaluation and inference on subjects that lack a modality, as a user runs them."""

import json
import shutil

import pytest
import torch

from tests.bundles.workflows import STEP, workflow

pytestmark = pytest.mark.slow
BUNDLE = "brats_finetune"


def test_a_network_trained_with_missing_modalities_predicts_without_them(cohorts, tmp_path, capsys):
    """A training subject lacks T2, a validation subject FLAIR and T2; testing subjects are complete."""

    def missing():
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]

    content = json.loads((cohorts / "brats.json").read_text())
    content["training"][0]["image"][3] = None
    content["validation"][0]["image"][0] = content["validation"][0]["image"][3] = None
    subject, datalist = content["validation"][0]["subject"], str(tmp_path / "list.json")
    (tmp_path / "list.json").write_text(json.dumps(content))
    workflow(BUNDLE, "train", cohorts, tmp_path, datalist=datalist, **STEP).run()
    assert missing() == ["missing: T2 in 1 of 3 training subjects; replaced by zeros"]
    model = tmp_path / "models/model.pt"
    metadata = torch.load(model, weights_only=True)["metadata"]
    assert (metadata["missing_modalities"], metadata["modality_dropout"]) == (["T2"], 0.0)

    evaluation, given = tmp_path / "evaluation", {"checkpoint": str(model)}
    workflow(BUNDLE, "evaluate", cohorts, evaluation, **given, missing_modalities=["T2"]).run()
    assert missing() == ["missing: T2 in 1 of 1 subjects; results differ from those with all modalities"]
    (case,) = json.loads((evaluation / "cases.json").read_text())["cases"].values()
    assert case["missing_modalities"] == ["T2"]
    assert json.loads((evaluation / "run.json").read_text())["config"]["missing_modalities"] == ["T2"]

    scans = shutil.copytree(cohorts / "brats" / subject, tmp_path / "scans")
    next(scans.glob("*_t2.nii.gz")).unlink()
    given |= {"dataset_dir": str(scans), "datalist": "null"}
    workflow(BUNDLE, "inference", cohorts, tmp_path / "predictions", **given).run()
    (line,) = missing()
    assert line.startswith("missing: T2 in 1 of 1 subjects")
    assert (tmp_path / f"predictions/{subject}.nii.gz").is_file()
