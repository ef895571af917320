"""The whole command: an interrupted run on the embedded cohort, its predictions, its record, and its score."""

import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml

from common.errors import InputError
from scripts.nnunet.__main__ import baseline
from tests.nnunet.command import SMALL, command
from tests.support import execute, one_line

pytestmark = pytest.mark.slow


def test_a_killed_run_continues_where_it_was(finished):
    assert "Epoch 0" in finished.killed
    assert "dataset fingerprint" not in finished.printed
    assert "Epoch 0" not in finished.printed, "the training continues"
    assert "Epoch 1" in finished.printed
    assert len(list(finished.output.rglob("checkpoint_final.pth"))) == 1


def test_predictions_have_the_grid_and_the_values_of_the_references(finished, cohort):
    testing = json.loads(cohort.datalist.read_text())["testing"]
    predictions = finished.output / "predictions"
    assert sorted(path.name for path in predictions.iterdir()) == sorted(f"{e['subject']}.nii.gz" for e in testing)
    for entry in testing:
        prediction = nibabel.load(predictions / f"{entry['subject']}.nii.gz")
        reference = nibabel.load(cohort.root / entry["label"])
        assert prediction.shape == reference.shape
        np.testing.assert_allclose(prediction.affine, reference.affine, atol=1e-5)
        assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 1, 2, 4}
        assert prediction.get_data_dtype() == np.uint8


def test_our_evaluation_and_report_read_what_was_written(finished, cohort, tmp_path):
    options = [f"--predictions={finished.output}/predictions", f"--references={cohort.datalist}"]
    options += [f"--dataset_dir={cohort.root}", "--protocol=brats", f"--output={tmp_path / 'scores'}"]
    for words in (["scripts.evaluate", *options], ["scripts.report", str(finished.output)]):
        result = execute([sys.executable, "-m", *words])
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "scores/summary.json").is_file()


def test_the_record_says_what_ran(finished):
    record = json.loads((finished.output / "run.json").read_text())
    assert record["finished"] is True
    assert record["command"].startswith("python -m scripts.nnunet --datalist=")
    assert list(record["steps"]) == ["convert", "plan and preprocess", "train", "predict testing"]
    assert record["versions"]["nnunetv2"] == "2.8.1"
    assert record["plan"]["network"] == "ResidualEncoderUNet"
    assert record["plan"]["spacing"] == [5, 5, 5], "the spacing that was requested, not the cohort's median of 4 mm"
    assert max(record["plan"]["patch_size"]) <= 40, "of images of about 36 x 44 x 36 voxels, what 1 GB holds"
    assert record["train"]["iteration"] == [1, 2]
    assert len(record["train"]["loss"]["loss"]) == 2


def test_a_conversion_alone_writes_the_raw_data_set(finished, tmp_path):
    words = [word for word in finished.command if not word.startswith("--output=")]
    result = execute([*words, f"--output={tmp_path}/out", "--convert_only"])
    assert result.returncode == 0, result.stderr
    raw = tmp_path / "out/nnUNet_raw/Dataset001_cohort"
    kept = finished.output / "nnUNet_raw/Dataset001_cohort"
    assert json.loads((raw / "dataset.json").read_text()) == json.loads((kept / "dataset.json").read_text())
    assert not [*(tmp_path / "out/nnUNet_preprocessed").iterdir()]


def test_a_repeated_command_does_only_what_is_missing(finished):
    kept, lost = sorted((finished.output / "predictions").iterdir())
    before, voxels = kept.stat().st_mtime_ns, np.asarray(nibabel.load(lost).dataobj)
    lost.unlink()
    result = execute(finished.command)
    assert result.returncode == 0, result.stderr
    assert "Epoch" not in result.stdout
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.asarray(nibabel.load(lost).dataobj), voxels)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 4}, "holds a run with epochs=2, not 4"),
        ({"mirroring": False}, "holds a run with mirroring=True, not False"),
        ({"datalist": "other.json"}, "holds a run with subjects="),
    ],
)
def test_other_settings_do_not_enter_the_folder_of_a_run(finished, cohort, tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    content = json.loads(cohort.datalist.read_text())
    content["training"].append(content["testing"].pop())
    Path("other.json").write_text(json.dumps(content))
    words = (word.removeprefix("--").split("=", 1) for word in finished.command[3:])
    with pytest.raises(InputError) as error:
        baseline(**{name: yaml.safe_load(value) for name, value in words} | changed)
    assert message in one_line(error)


@pytest.fixture
def sided(cohort, tmp_path):
    """The cohort, with a region that has a side."""
    content = json.loads(cohort.datalist.read_text())
    del content["label_convention"]
    path = tmp_path / "sided.json"
    path.write_text(json.dumps(content | {"regions": {"whole": [1, 2, 4], "core_left": [1]}}))
    return cohort._replace(datalist=path)


def test_only_regions_without_sides_are_mirrored(finished, sided, tmp_path):
    result = execute(command(sided, tmp_path / "output", *SMALL, "--epochs=1"))
    assert result.returncode == 0, result.stderr
    for folder, axes in ((finished.output, (0, 1, 2)), (tmp_path / "output", None)):
        (path,) = folder.rglob("checkpoint_final.pth")
        assert torch.load(path, weights_only=False)["inference_allowed_mirroring_axes"] == axes


def test_mirroring_a_region_that_has_a_side_is_refused(refused, sided):
    message = "mirroring=True: core_left has a side; expected false"
    assert message in refused(datalist=str(sided.datalist), mirroring=True)


@pytest.fixture
def refused(cohort, tmp_path):
    """Give the command options that it must refuse in one line, before it writes; the line."""

    def refuse(**options) -> str:
        arguments = {"datalist": str(cohort.datalist), "dataset_dir": str(cohort.root), "device": "cpu"}
        with pytest.raises(InputError) as error:
            baseline(**arguments | {"output": str(tmp_path / "output")} | options)
        assert not (tmp_path / "output").exists()
        return one_line(error)

    return refuse


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mirroring": "x"}, "mirroring=x: expected true or false"),
        ({"plans": "xl"}, "plans=xl: expected one of default, resenc_l"),
        ({"modalities": 3}, "modalities=3: expected a list of names"),
        ({"gpu_memory": 0}, "gpu_memory=0: expected a number from 0.1"),
        ({"spacing": [2, 2]}, "spacing=[2, 2]: expected three"),
    ],
)
def test_bad_options_are_refused_in_one_line(refused, options, message):
    assert message in refused(**options)


@pytest.mark.parametrize(("split", "file"), [("training", "image"), ("training", "label"), ("testing", "image")])
def test_a_damaged_scan_is_refused(refused, cohort, tmp_path, split, file):
    root = shutil.copytree(cohort.root, tmp_path / "root")
    entry = json.loads(cohort.datalist.read_text())[split][0]
    damaged = root / (entry["label"] if file == "label" else entry["image"][0])
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert f"subject {entry['subject']}: {damaged}" in refused(dataset_dir=str(root))


@pytest.mark.parametrize(("split", "file"), [("training", "label"), ("validation", "image"), ("testing", "image")])
def test_a_file_that_fails_its_checksum_alone_is_named(cohort, tmp_path, split, file):
    root = shutil.copytree(cohort.root, tmp_path / "root")
    entry = json.loads(cohort.datalist.read_text())[split][0]
    damaged = root / (entry["label"] if file == "label" else entry["image"][0])
    packed = bytearray(damaged.read_bytes())
    packed[-8] ^= 1  # the checksum, after all voxels
    damaged.write_bytes(packed)
    result = execute(command(cohort._replace(root=root), tmp_path / "output", *SMALL))
    assert (result.returncode, result.stderr.count(f"{damaged}: CRC check failed")) == (2, 1), result.stderr
    assert not [*tmp_path.rglob("dataset.json")]


def test_settings_may_change_while_no_step_is_finished(sided, tmp_path):
    right = sided.datalist.read_text()
    sided.datalist.write_text(json.dumps(json.loads(right) | {"regions": {"core": [7]}}))
    arguments = {"datalist": str(sided.datalist), "dataset_dir": str(sided.root), "output": str(tmp_path / "output")}
    with pytest.raises(InputError, match="label value 1; expected only 0, 7"):
        baseline(**arguments, convert_only=True)
    sided.datalist.write_text(right)
    baseline(**arguments, convert_only=True)
    assert (tmp_path / "output/nnUNet_raw/Dataset001_cohort/dataset.json").is_file()


def test_a_folder_of_other_files_is_refused(refused, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "not empty, and without run.json; expected a new folder" in refused(output=str(tmp_path))


def test_without_nnunet_the_command_names_make_nnunet(refused, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert "nnU-Net is not installed; run make nnunet" in refused()
