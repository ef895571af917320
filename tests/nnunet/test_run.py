"""The whole command: an interrupted run on the embedded cohort, its predictions, its record, and its score."""

import json
import shutil
import sys

import nibabel
import numpy as np
import pytest
import torch

from common.errors import InputError
from scripts.nnunet import steps
from scripts.nnunet.pretrained import fit
from tests.support import ROOT, execute

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


def test_our_evaluation_scores_the_predictions(finished, cohort, tmp_path):
    options = [f"--predictions={finished.output}/predictions", f"--references={cohort.datalist}"]
    options += [f"--dataset_dir={cohort.root}", "--protocol=brats", f"--output={tmp_path / 'scores'}"]
    result = execute([sys.executable, "-m", "scripts.evaluate", *options])
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "scores/summary.json").is_file()


def test_the_record_says_what_ran(finished, openmind):
    record = json.loads((finished.output / "run.json").read_text())
    assert record["finished"] is True
    assert record["command"].startswith("python -m scripts.nnunet --datalist=")
    assert list(record["steps"]) == ["convert", "fingerprint", "plan", "preprocess", "train", "predict testing"]
    assert all(step["seconds"] >= 0 and step["peak_memory_gib"] > 0 for step in record["steps"].values())
    assert record["versions"]["nnunetv2"] == "2.8.1"
    assert record["plan"]["network"] == "ResidualEncoderUNet"
    assert record["plan"]["batch_size"] >= 2
    assert record["parameters"] > 1e6
    assert record["train"]["iteration"] == [1, 2]
    assert len(record["train"]["loss"]["loss"]) == 2
    assert record["weights"]["source"] == str(openmind)
    assert record["weights"]["changed"] == 1, "the stem: one channel became two"
    assert finished.killed.count(f"weights: {openmind}") == 1
    assert f"weights: {openmind}" not in finished.printed, "a continued training keeps its own weights"


def test_our_report_reads_the_record(finished):
    result = execute([sys.executable, "-m", "scripts.report", str(finished.output)])
    assert result.returncode == 0, result.stderr


def test_a_repeated_command_does_only_what_is_missing(finished):
    kept, lost = sorted((finished.output / "predictions").iterdir())
    before, voxels = kept.stat().st_mtime_ns, np.asarray(nibabel.load(lost).dataobj)
    lost.unlink()
    result = execute(finished.command)
    assert result.returncode == 0, result.stderr
    assert "Epoch" not in result.stdout
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.asarray(nibabel.load(lost).dataobj), voxels)


@pytest.fixture
def work(finished, tmp_path) -> steps.Work:
    """The converted data and fingerprint of the finished run, for other plans."""
    for part in ("nnUNet_raw", "nnUNet_preprocessed"):
        ignored = shutil.ignore_patterns("nnUNetPlans_*", "*Plans.json")
        shutil.copytree(finished.output / part, tmp_path / part, ignore=ignored)
    return steps.Work(tmp_path, "Dataset001_brats", "3d_fullres", "default", 0, torch.device("cpu"))


def test_a_given_patch_is_planned_for(work):
    steps.plan(work, (16, 32, 32))
    summary = steps.plan_summary(work)
    assert summary["patch_size"] == [16, 32, 32]
    assert summary["network"] == "PlainConvUNet"
    assert len(summary["features_per_stage"]) == 4, "halved three times, to a shortest edge of 4"


def test_openminds_encoder_does_not_fit_the_default_plans(work, openmind):
    """The command asks this before it preprocesses."""
    steps.plan(work, None)
    network = steps.untrained_network(work)
    assert next(network.parameters()).shape[1] == 2, "the channels of the run"
    with pytest.raises(InputError, match=r"tensors of the encoder do not fit, first .* need --plans=resenc_l"):
        fit(network, openmind, ["FLAIR", "T1ce"])


def test_a_configuration_that_is_not_planned_is_refused(work):
    small = steps.Work(work.folder, work.dataset, "3d_lowres", "default", 0, work.device)
    with pytest.raises(InputError, match=r"--configuration=3d_lowres: nnU-Net plans only .*3d_fullres for this data"):
        steps.plan(small, None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--epochs=4", "holds a run with epochs=2, not 4"),
        ("--plans=default", "holds a run with plans=resenc_l, not default"),
        ("--modalities=T1,T2", "holds a run with modalities=['FLAIR', 'T1ce'], not ['T1', 'T2']"),
    ],
)
def test_other_settings_do_not_enter_the_folder_of_a_run(finished, option, message):
    name = option.split("=")[0]
    kept = [word for word in finished.command if not word.startswith(name + "=")]
    refused(execute([*kept, option]), message)


def test_another_datalist_does_not_enter_the_folder_of_a_run(finished, cohort, tmp_path):
    content = json.loads(cohort.datalist.read_text())
    content["training"].append(content["testing"].pop())
    (tmp_path / "other.json").write_text(json.dumps(content))
    kept = [word for word in finished.command if not word.startswith("--datalist=")]
    refused(execute([*kept, f"--datalist={tmp_path / 'other.json'}"]), "holds a run with another datalist")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plans=xl"], "--plans=xl: expected one of default, resenc_l"),
        (["--configuration=3d"], "--configuration=3d: expected one of 2d, 3d_fullres, 3d_lowres"),
        (["--epochs=0"], "--epochs=0: expected a whole number from 1"),
        (["--device=tpu"], "--device=tpu: expected one of cpu, cuda"),
        (["--patch_size=[8,32,32]"], "--patch_size=[8, 32, 32]: expected three whole numbers from 16"),
        (["--patch_size=[32,32,32]", "--configuration=2d"], "expected none with --configuration=2d"),
        (["--modalities=T1,CT"], "modality CT: not in "),
        (["--pretrained=missing.pth"], "--pretrained=missing.pth: no such file"),
        (["--pretrained=README.md"], "checkpoint README.md: cannot be read as tensors alone"),
        (["--epoch=3"], "--epoch=3: no such option; did you mean --epochs?"),
    ],
)
def test_bad_options_are_refused_in_one_line(baseline, tmp_path, options, message):
    refused(baseline(tmp_path / "output", "--device=cpu", *options), message)
    assert not (tmp_path / "output").exists()


def test_a_cohort_without_labels_is_refused(baseline, cohort, tmp_path):
    content = json.loads(cohort.datalist.read_text())
    content["label_convention"] = None
    for split in ("training", "validation", "testing"):
        for entry in content[split]:
            del entry["label"]
    (tmp_path / "unlabelled.json").write_text(json.dumps(content))
    result = baseline(tmp_path / "output", "--device=cpu", datalist=tmp_path / "unlabelled.json")
    refused(result, "its cohort has no labels; expected one to train on")


def test_a_folder_of_other_files_is_refused(baseline, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused(baseline(tmp_path, "--device=cpu"), "not empty, and without run.json; expected a new folder")


def test_without_nnunet_the_command_names_make_nnunet(cohort, tmp_path):
    """The import is blocked, as if another environment's Python ran the command."""
    code = (
        "import sys, runpy, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'nnunetv2' else find(name, *rest)\n"
        "runpy.run_module('scripts.nnunet', run_name='__main__')"
    )
    options = [f"--datalist={cohort.datalist}", f"--dataset_dir={cohort.root}", f"--output={tmp_path / 'output'}"]
    refused(execute([sys.executable, "-c", code, *options], ROOT), "nnU-Net is not installed; run make nnunet")


def refused(result, message: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
