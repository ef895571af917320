"""Inference of the fine-tuned bundles from end to end: folders and datalists, options, and cases that fail."""

import csv
import shutil
import sys

import nibabel
import numpy as np
import pytest

from tests.bundles.conftest import ROOT, TINY, execute

pytestmark = pytest.mark.slow

SIZE = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]


@pytest.fixture(scope="module")
def checkpoint(cohorts, tmp_path_factory):
    """By cohort, a network after one step."""
    made = {}

    def make(cohort):
        if cohort not in made:
            folder = tmp_path_factory.mktemp(f"{cohort}-model")
            data = [f"--dataset_dir={cohorts / cohort}", f"--datalist={cohorts / cohort}.json"]
            places = [f"--output_dir={folder}", f"--ckpt_dir={folder}"]
            command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml"]
            result = execute([*command, *data, *places, *TINY], ROOT / "bundles" / f"{cohort}_finetune")
            assert result.returncode == 0, result.stderr
            made[cohort] = folder / "model.pt"
        return made[cohort]

    return make


@pytest.fixture
def infer(checkpoint, tmp_path):
    """Runs inference into `tmp_path/NAME`."""

    def run(cohort, name, *options):
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml"]
        options = [f"--checkpoint={checkpoint(cohort)}", f"--output_dir={tmp_path / name}", *SIZE, *options]
        return execute([*command, *options], ROOT / "bundles" / f"{cohort}_finetune")

    return run


def voxels(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_a_folder_and_a_datalist_give_the_same(infer, cohorts, tmp_path):
    listed = infer("brats", "listed", f"--dataset_dir={cohorts / 'brats'}", f"--datalist={cohorts / 'brats.json'}")
    assert listed.returncode == 0, listed.stderr
    (name,) = (path.name for path in (tmp_path / "listed").glob("*.nii.gz"))
    subject = name.removesuffix(".nii.gz")
    shutil.copytree(cohorts / "brats" / subject, tmp_path / "scans")
    options = ["--output_convention=brats2023", "--probabilities=true", "--stitch_device=cpu", "--window_batch_size=1"]
    scanned = infer("brats", "scanned", f"--dataset_dir={tmp_path / 'scans'}", *options)
    assert scanned.returncode == 0, scanned.stderr
    first, second = voxels(tmp_path / "listed" / name), voxels(tmp_path / "scanned" / name)
    assert set(np.unique(first)) <= {0, 1, 2, 4}
    assert len(np.unique(first)) > 1
    np.testing.assert_array_equal(np.where(first == 4, 3, first), second)
    probabilities = voxels(tmp_path / "scanned/probabilities" / name)
    np.testing.assert_array_equal(probabilities[..., 2] >= 0.5, second == 3)  # ET is the third channel
    source = nibabel.load(tmp_path / "scans" / f"{subject}_flair.nii.gz")
    np.testing.assert_allclose(nibabel.load(tmp_path / "listed" / name).affine, source.affine, atol=1e-6)
    with (tmp_path / "listed/volumes.csv").open(newline="") as file:
        rows = {row["region"]: row for row in csv.DictReader(file)}
    assert int(rows["WT"]["voxels"]) == np.count_nonzero(first)
    assert float(rows["ET"]["volume_ml"]) == pytest.approx((first == 4).sum() * 4**3 / 1000, rel=1e-5)  # 4 mm
    again = infer("brats", "scanned", f"--dataset_dir={tmp_path / 'scans'}")
    assert again.returncode == 2
    assert "is there already, of 1 subjects; expected --existing=skip or replace" in again.stderr


def test_folds_and_mirror_images_are_averaged(infer, checkpoint, cohorts, tmp_path):
    data = [f"--dataset_dir={cohorts / 'atlas'}", f"--datalist={cohorts / 'atlas.json'}", "--probabilities=true"]
    model = checkpoint("atlas")
    assert infer("atlas", "one", *data).returncode == 0
    twice = infer("atlas", "two", *data, f"--checkpoint=['{model}','{model}']")
    assert twice.returncode == 0, twice.stderr
    mirrored = infer("atlas", "mirrored", *data, "--flips=[0]")
    assert mirrored.returncode == 0, mirrored.stderr
    (name,) = (path.name for path in (tmp_path / "one/probabilities").glob("*.nii.gz"))
    one, two, flipped = (voxels(tmp_path / folder / "probabilities" / name) for folder in ("one", "two", "mirrored"))
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert np.abs(one - flipped).max() > 1e-4


def test_cases_that_fail_are_named_and_the_others_are_segmented(infer, tmp_path):
    made = [f"--output={tmp_path / 'made'}", "--subjects=4", "--spacing=4", "--skull_stripped=true", "--workers=1"]
    assert execute([sys.executable, "-m", "scripts.phantoms", "make", "--layout=brats", *made]).returncode == 0
    subjects = sorted(path for path in (tmp_path / "made").iterdir() if path.is_dir())
    scans = tmp_path / "scans"
    good, missing, truncated, moved = (scans / subject.name for subject in subjects)
    for subject in subjects:
        shutil.copytree(subject, scans / subject.name)
    (missing / f"{missing.name}_t1ce.nii.gz").unlink()
    broken = truncated / f"{truncated.name}_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    shifted = moved / f"{moved.name}_t1.nii.gz"
    image = nibabel.load(shifted)
    nibabel.save(nibabel.Nifti1Image(np.roll(np.asarray(image.dataobj), 6, axis=1), image.affine), shifted)
    result = infer("brats", "out", f"--dataset_dir={scans}")
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line.partition("failed: ")[2] for line in result.stderr.splitlines() if "failed: " in line]
    assert lines[0].startswith(f"subject {missing.name}: no T1ce; expected a file whose name ends with _t1ce, ")
    assert lines[1].startswith(f"subject {truncated.name}: ")
    assert str(broken) in lines[1]
    assert lines[2].startswith(f"subject {moved.name}: T1 overlaps FLAIR by Dice 0.")
    assert "3 of 4 cases failed" in result.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [f"{good.name}.nii.gz"]
