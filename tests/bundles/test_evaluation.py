"""Training, evaluation and the command line give the same scores."""

import csv
import json
import shutil
import sys

import nibabel
import numpy as np
import pytest
from monai.data import MetaTensor

from common import weights
from common.data import LabelToRegionsd, NestRegionsd, RegionsToLabeld
from tests.support import COHORT_OF, execute

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("bundle", "protocol"), [("brats_finetune", "brats"), ("atlas_finetune", "atlas")])
def test_training_evaluation_and_command_line_agree(run_bundle, cohorts, trained, tmp_path, bundle, protocol):
    training = json.loads((trained(bundle) / "run.json").read_text())
    validation = training["validation"]["metrics"]
    by_bundle, by_command, cohort = tmp_path / bundle, tmp_path / "command", COHORT_OF[bundle]
    options = [f"--checkpoint={trained(bundle) / 'models/model.pt'}", "--num_workers=0", "--split=validation"]
    options += ["--amp=false"]  # as the training
    evaluated = run_bundle(bundle, *options, config="configs/evaluate.yaml")
    assert evaluated.returncode == 0, evaluated.stderr
    data = [f"--references={cohorts / cohort}.json", f"--dataset_dir={cohorts / cohort}", "--split=validation"]
    places = [f"--predictions={by_bundle / 'predictions'}", f"--output={by_command}", f"--protocol={protocol}"]
    scored = execute([sys.executable, "-m", "scripts.evaluate", *places, *data])
    assert scored.returncode == 0, scored.stderr
    for name in ("metrics.csv", "summary.json"):
        assert (by_bundle / name).read_bytes() == (by_command / name).read_bytes()
    with (by_command / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    summary = json.loads((by_command / "summary.json").read_text())["regions"]
    for region in {row["region"] for row in rows}:
        values = [float(row["value"]) for row in rows if row["region"] == region]
        assert 0 < np.mean(values) < 1
        assert validation[region] == [pytest.approx(np.mean(values), rel=1e-12)]
        present = summary[region]["dice_present"]
        assert validation[f"{region}_dice_present"] == [pytest.approx(present["mean"], rel=1e-12)]
        assert validation[f"{region}_n_present"] == [present["n"]]
    record = json.loads((by_bundle / "run.json").read_text())
    assert record["workflow"] == "evaluate"
    assert [made["made_up"] for made in (record, training)] == [True, True], "as the files say"
    assert weights.read(trained(bundle) / "models/model.pt").metadata["made_up"]


def test_the_checkpoints_cleanup_is_that_of_inference_and_evaluation_and_can_be_switched_off(
    run_bundle, cohorts, trained, tmp_path
):
    """Expected label maps: the written ones, cleaned up afterwards. Records name the cleanup."""
    model, out = tmp_path / "model.pt", tmp_path / "brats_finetune"
    shutil.copy(trained("brats_finetune") / "models/model.pt", model)

    def predict(name, config, *options):
        given = [f"--checkpoint={model}", "--num_workers=0", "--split=validation", "--amp=false", *options]
        result = run_bundle("brats_finetune", *given, config=f"configs/{config}.yaml")
        assert result.returncode == 0, result.stderr
        out.rename(tmp_path / name)
        folder = tmp_path / name / ("predictions" if config == "evaluate" else "")
        return {file.name: nibabel.load(file) for file in sorted(folder.glob("*.nii.gz"))}

    plain = predict("plain", "evaluate")
    content, text = weights.load(model), "WT=largest+holes,ET=1000mm3"
    weights.write({**content, "metadata": {**content["metadata"], "cleanup": text}}, model)
    expected = {}
    for name, image in plain.items():
        label = MetaTensor(np.asarray(image.dataobj)[None], affine=image.affine)
        regions = NestRegionsd("x", "brats2021", text)(LabelToRegionsd("x", "brats2021")({"x": label}))
        expected[name] = RegionsToLabeld("x", "brats2021")(regions)["x"][0].numpy()
    assert all((expected[name] != image.dataobj).any() for name, image in plain.items())
    for found, labels in (
        (predict("evaluated", "evaluate"), expected),
        (predict("inferred", "inference"), expected),
        (predict("off", "inference", "--cleanup=none"), {name: image.dataobj for name, image in plain.items()}),
    ):
        assert found.keys() == labels.keys()
        for name, image in found.items():
            np.testing.assert_array_equal(image.dataobj, labels[name])
    assert json.loads((tmp_path / "evaluated/cases.json").read_text())["made"]["cleanup"] == text
    made = [json.loads((tmp_path / name / "made.json").read_text())["settings"] for name in ("inferred", "off")]
    assert [each["cleanup"] for each in made] == [text, None]
