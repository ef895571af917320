"""Training, evaluation and the command line give the same scores."""

import csv
import json

import nibabel
import numpy as np
import pytest
from monai.data import MetaTensor

from common import weights
from common.data import LabelToRegionsd
from common.inference import NestRegionsd, RegionsToLabeld
from scripts.evaluate.__main__ import evaluate
from tests.bundles.workflows import untrained, workflow
from tests.support import COHORT_OF

pytestmark = pytest.mark.slow


def read(file):
    return json.loads(file.read_text())


@pytest.mark.parametrize(("bundle", "protocol"), [("brats_finetune", "brats"), ("atlas_finetune", "atlas")])
def test_training_evaluation_and_command_line_agree(cohorts, trained, tmp_path, bundle, protocol):
    training, cohort = read(trained(bundle) / "run.json"), cohorts / COHORT_OF[bundle]
    validation, model = training["validation"]["metrics"], trained(bundle) / "models/model.pt"
    by_bundle, by_command = tmp_path / "bundle", tmp_path / "command"
    workflow(bundle, "evaluate", cohorts, by_bundle, checkpoint=str(model), split="validation").run()
    data = {"references": f"{cohort}.json", "dataset_dir": str(cohort), "split": "validation", "workers": 1}
    evaluate(predictions=str(by_bundle / "predictions"), output=str(by_command), protocol=protocol, **data)
    for name in ("metrics.csv", "summary.json"):
        assert (by_bundle / name).read_bytes() == (by_command / name).read_bytes()
    with (by_command / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    for region, present in read(by_command / "summary.json")["regions"].items():
        values = [float(row["value"]) for row in rows if row["region"] == region]
        assert 0 < np.mean(values) < 1
        assert validation[region] == [pytest.approx(np.mean(values), rel=1e-12)]
        present = present["dice_present"]
        assert validation[f"{region}_dice_present"] == [pytest.approx(present["mean"], rel=1e-12)]
        assert validation[f"{region}_n_present"] == [present["n"]]
    record = read(by_bundle / "run.json")
    assert record["workflow"] == "evaluate"
    assert [made["made_up"] for made in (record, training)] == [True, True], "as the files say"
    assert weights.read(model).metadata["made_up"]


def test_the_checkpoints_cleanup_is_that_of_inference_and_evaluation_and_can_be_switched_off(cohorts, tmp_path):
    """Expected label maps: the written ones, cleaned up afterwards. Records name the cleanup."""
    text = "WT=largest,ET=9000000mm3"
    models = [untrained("brats_finetune", tmp_path / f"{cleanup}.pt", cleanup=cleanup) for cleanup in (None, text)]

    def predict(name, config, model, **options):
        options |= {"checkpoint": model, "split": "validation"}
        workflow("brats_finetune", config, cohorts, tmp_path / name, **options).run()
        folder = tmp_path / name / ("predictions" if config == "evaluate" else "")
        return {file.name: nibabel.load(file) for file in sorted(folder.glob("*.nii.gz"))}

    plain, expected = predict("plain", "evaluate", models[0]), {}
    for name, image in plain.items():
        label = MetaTensor(np.asarray(image.dataobj)[None], affine=image.affine)
        regions = NestRegionsd("x", "brats2021", text)(LabelToRegionsd("x", "brats2021")({"x": label}))
        expected[name] = RegionsToLabeld("x", "brats2021")(regions)["x"][0].numpy()
    assert all((expected[name] != image.dataobj).any() for name, image in plain.items())
    evaluated, inferred = (predict(config, config, models[1]) for config in ("evaluate", "inference"))
    off = predict("off", "inference", models[1], cleanup="none")
    assert plain.keys() == evaluated.keys() == inferred.keys() == off.keys()
    for name, image in plain.items():
        np.testing.assert_array_equal(evaluated[name].dataobj, expected[name])
        np.testing.assert_array_equal(inferred[name].dataobj, expected[name])
        np.testing.assert_array_equal(off[name].dataobj, image.dataobj)
    assert read(tmp_path / "evaluate/cases.json")["made"]["cleanup"] == text
    settings = [read(tmp_path / name / "made.json")["settings"] for name in ("inference", "off")]
    assert [stated["cleanup"] for stated in settings] == [text, None]
