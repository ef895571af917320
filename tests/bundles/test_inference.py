"""Inference of the fine-tuned bundles from end to end: folders and datalists, options, and cases that fail."""

import csv
import shutil
import sys

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR

from common.errors import input_error_message
from common.ssl.networks import settings
from tests.bundles.workflows import workflow
from tests.support import ROOT, execute

pytestmark = pytest.mark.slow

SIZE = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]
CHANNELS = {"brats": (["FLAIR", "T1ce", "T1", "T2"], 3), "atlas": (["T1"], 1)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network as initialised from a seed; the README's commands infer with one that a training left."""
    folder = tmp_path_factory.mktemp("models")

    def make(cohort, seed=0):
        file = folder / f"{cohort}{seed}.pt"
        modalities, regions = CHANNELS[cohort]
        torch.manual_seed(seed)
        network = SwinUNETR(len(modalities), regions, **settings("micro")._asdict())
        torch.save({"network": network.state_dict(), "metadata": {"modalities": modalities}}, file)
        return str(file)

    return make


@pytest.fixture
def infer(checkpoint, tmp_path):
    """Runs inference into `tmp_path/NAME`, as a user does."""

    def run(cohort, name, *options):
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml"]
        options = [f"--checkpoint={checkpoint(cohort)}", f"--output_dir={tmp_path / name}", *SIZE, *options]
        return execute([*command, *options], ROOT / "bundles" / f"{cohort}_finetune")

    return run


@pytest.fixture
def infer_here(checkpoint, cohorts, tmp_path):
    """Runs it in this process, of the cohort's datalist by default."""

    def run(cohort, name, **options):
        options = {"checkpoint": checkpoint(cohort), "patch_size": [64, 64, 64], "num_workers": 0} | options
        workflow(f"{cohort}_finetune", "inference", "infer", cohorts, tmp_path / name, **options).run()

    return run


def voxels(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_a_folder_and_a_datalist_give_the_same(infer, infer_here, cohorts, tmp_path):
    infer_here("brats", "listed")
    (name,) = (path.name for path in (tmp_path / "listed").glob("*.nii.gz"))
    subject = name.removesuffix(".nii.gz")
    shutil.copytree(cohorts / "brats" / subject, tmp_path / "scans")
    options = ["--output_convention=brats2023", "--probabilities=true", "--stitch_device=cpu", "--window_batch_size=1"]
    options += ["--slices=all"]
    scanned = infer("brats", "scanned", f"--dataset_dir={tmp_path / 'scans'}", *options)
    assert scanned.returncode == 0, scanned.stderr
    slices = (tmp_path / "scanned/slices" / f"{subject}.html").read_text()
    for modality in ("FLAIR", "T1ce", "T1", "T2"):
        assert f"<option>{modality}</option>" in slices
    assert not (tmp_path / "listed/slices").exists()
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
    with pytest.raises(RuntimeError, match="Failed to") as error:
        infer_here("brats", "scanned", dataset_dir=str(tmp_path / "scans"), datalist="null")
    assert "1 result exists already, first " in input_error_message(error.value)
    assert input_error_message(error.value).endswith("; expected existing=skip or replace")


def turned(volume, affine, order, flips):
    """The same scan, its voxels in another order and, where `flips` says, from the other end."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for new, old in enumerate(order):
        matrix[old, new] = -1 if flips[new] else 1
        matrix[old, 3] = volume.shape[old] - 1 if flips[new] else 0
    volume = np.flip(np.transpose(volume, order), [axis for axis in range(3) if flips[axis]])
    return nibabel.Nifti1Image(np.ascontiguousarray(volume), affine @ matrix)


def test_a_result_lies_on_its_scan_however_that_is_stored(infer_here, cohorts, tmp_path):
    """LAS, axes in another order, an oblique scan: the same place has the same label, and the same volume."""
    source = next((cohorts / "atlas").rglob("*_T1w.nii.gz"))
    image = nibabel.load(source)
    volume = np.asarray(image.dataobj)
    (tmp_path / "scans").mkdir()
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]  # rad, about z
    stored = {
        "plain": ((0, 1, 2), (False, False, False), image.affine),
        "las": ((0, 1, 2), (True, False, False), image.affine),
        "mixed": ((2, 0, 1), (False, True, True), image.affine),
        "oblique": ((1, 2, 0), (True, True, False), turn @ image.affine),
    }
    for name, (order, flips, affine) in stored.items():
        nibabel.save(turned(volume, affine, order, flips), tmp_path / f"scans/{name}.nii.gz")
    infer_here("atlas", "out", dataset_dir=str(tmp_path / "scans"), datalist="null")
    expected = voxels(tmp_path / "out/plain.nii.gz")
    assert 0 < expected.mean() < 1
    for name, (order, flips, _) in stored.items():
        result = nibabel.load(tmp_path / f"out/{name}.nii.gz")
        np.testing.assert_allclose(result.affine, nibabel.load(tmp_path / f"scans/{name}.nii.gz").affine, atol=1e-5)
        np.testing.assert_array_equal(
            voxels(tmp_path / f"out/{name}.nii.gz"), turned(expected, np.eye(4), order, flips).dataobj
        )
    with (tmp_path / "out/volumes.csv").open(newline="") as file:
        found = {row["subject"]: (row["voxels"], row["volume_ml"]) for row in csv.DictReader(file)}
    assert set(found) == set(stored)
    assert set(found.values()) == {
        (str(np.count_nonzero(expected)), f"{np.count_nonzero(expected) * 0.064:.6g}")
    }  # 4 mm


def test_folds_and_mirror_images_are_averaged(infer_here, checkpoint, tmp_path):
    folds = [checkpoint("atlas", seed) for seed in (0, 1)]
    infer_here("atlas", "first", checkpoint=folds[0], probabilities=True)
    infer_here("atlas", "second", checkpoint=folds[1], probabilities=True)
    infer_here("atlas", "both", checkpoint=folds, probabilities=True)
    infer_here("atlas", "mirrored", checkpoint=folds[0], probabilities=True, flips=[0])
    (name,) = (path.name for path in (tmp_path / "first/probabilities").glob("*.nii.gz"))
    first, second, both, mirrored = (
        voxels(tmp_path / folder / "probabilities" / name).astype(float)
        for folder in ("first", "second", "both", "mirrored")
    )
    inside = first > 0  # outside of the box around the brain there are no logits
    logits = [np.log(values[inside] / (1 - values[inside])) for values in (first, second)]
    assert np.abs(logits[0] - logits[1]).max() > 0.1
    np.testing.assert_allclose(both[inside], 1 / (1 + np.exp(-sum(logits) / 2)), atol=1e-5)
    assert np.abs(first - mirrored).max() > 1e-4


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
    assert lines[2].startswith(f"subject {moved.name}: prepared otherwise: modalities' brains overlap by Dice 0.")
    assert "3 of 4 cases failed" in result.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [f"{good.name}.nii.gz"]
