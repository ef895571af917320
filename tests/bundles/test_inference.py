"""Inference from end to end: folders, datalists, options, existing results; a feature vector for each volume."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

from common import weights
from common.errors import InputError, explained
from scripts.segmenter import Segmenter
from tests.bundles.workflows import untrained, workflow
from tests.support import MODALITIES, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def infer(cohorts, tmp_path):
    """Function: run inference with an untrained network into `tmp_path/NAME`; by default, on the cohort's datalist."""

    def run(bundle, name, **options):
        checkpoint = untrained(bundle, tmp_path / f"{bundle}.pt")
        workflow(bundle, "inference", cohorts, tmp_path / name, **({"checkpoint": checkpoint} | options)).run()

    return run


def voxels(path):
    return np.asarray(nibabel.load(path).dataobj)


def volumes(folder):
    with (folder / "volumes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_and_a_datalist_give_the_same(infer, cohorts, tmp_path):
    infer("brats_finetune", "listed")
    (name,) = (path.name for path in (tmp_path / "listed").glob("*.nii.gz"))
    subject = name.removesuffix(".nii.gz")
    shutil.copytree(cohorts / "brats" / subject, tmp_path / "scans")
    folder = {"dataset_dir": str(tmp_path / "scans"), "datalist": "null"}
    options = {"stitch_device": "cpu", "window_batch_size": 1}
    infer("brats_finetune", "scanned", **folder, **options, probabilities=True)
    first, second = voxels(tmp_path / "listed" / name), voxels(tmp_path / "scanned" / name)
    assert set(np.unique(first)) <= {0, 1, 2, 4}
    assert len(np.unique(first)) > 1
    np.testing.assert_array_equal(first, second)
    probabilities = voxels(tmp_path / "scanned/probabilities" / name)
    np.testing.assert_array_equal(probabilities[..., 2] >= 0.5, second == 4)  # ET is the third channel
    rows = {row["region"]: row for row in volumes(tmp_path / "listed")}
    assert int(rows["WT"]["voxels"]) == np.count_nonzero(first)
    assert float(rows["ET"]["volume_ml"]) == pytest.approx((first == 4).sum() * 4**3 / 1000, rel=1e-5)  # 4 mm
    with pytest.raises(RuntimeError, match="Failed to") as error:
        infer("brats_finetune", "scanned", **folder)
    assert "; expected existing=skip or replace" in explained(error.value)


def test_folds_and_mirror_images_are_averaged(cohorts, tmp_path):
    folds = [untrained("atlas_finetune", tmp_path / f"{seed}.pt", seed=seed) for seed in (0, 1)]
    opened = workflow("atlas_finetune", "inference", cohorts, tmp_path / "out", checkpoint=folds, flips=[0])
    network = opened.parser.get_parsed_content("evaluator").network
    assert network.mirrors == [(), (2,)]
    for member, file in zip(network.networks, folds, strict=True):
        torch.testing.assert_close(dict(member.state_dict()), weights.load(file)["network"], rtol=0, atol=0)


def test_monais_dataset_data_needs_only_images(cohorts, tmp_path):
    folder = sorted((cohorts / "brats").iterdir())[0]
    images = [next(folder.glob(f"*_{name}.nii.gz")) for name in ("flair", "t1ce", "t1", "t2")]
    options = {"checkpoint": untrained("brats_finetune", tmp_path / "model.pt"), "datalist": "null"}
    opened = workflow("brats_finetune", "inference", tmp_path / "none", tmp_path / "out", **options)
    opened.dataset_data = [{"image": images}]
    opened.run()
    assert (tmp_path / "out" / images[0].name).exists()
    assert {row["subject"] for row in volumes(tmp_path / "out")} == {images[0].name.removesuffix(".nii.gz")}


def test_from_python_the_label_map_is_that_of_the_command(infer, cohorts, tmp_path):
    infer("brats_finetune", "out", amp=False)
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    (folder,) = (cohorts / "brats").glob(path.name.removesuffix(".nii.gz"))
    images = {name: next(folder.glob(f"*_{name.lower()}.nii.gz")) for name in ("FLAIR", "T1ce", "T1", "T2")}
    segment = Segmenter(ROOT / "bundles/brats_finetune", tmp_path / "brats_finetune.pt", amp=False)
    label = segment(images)
    np.testing.assert_array_equal(label.numpy(), voxels(path))
    np.testing.assert_array_equal(label.affine.numpy(), nibabel.load(path).affine)
    with pytest.raises(InputError, match="lacks T2"):
        segment({name: images[name] for name in ("FLAIR", "T1ce", "T1")})
    with pytest.raises(InputError, match="images=T1c: expected one of"):
        segment({"T1c": images["T1ce"]})


def test_a_split_is_embedded_without_the_subject_whose_file_is_cut_off(cohorts, tmp_path, capsys):
    copy = shutil.copytree(cohorts / "brats", tmp_path / "brats")
    content = json.loads((cohorts / "brats.json").read_text())
    first, *others = content["training"]
    broken = copy / first["image"][0]
    broken.write_bytes(broken.read_bytes()[:1000])
    options = {"checkpoint": untrained("brats_stage2", tmp_path / "model.pt"), "dataset_dir": str(copy)}
    options |= {"split": "training"}
    with pytest.raises(SystemExit) as ended:
        workflow("brats_stage2", "inference", cohorts, tmp_path / "out", **options).run()
    assert ended.value.code == 1
    failed = capsys.readouterr().err
    assert f"failed: subject {first['subject']}: " in failed
    assert broken.name in failed
    found = np.load(tmp_path / "out/embeddings.npz", allow_pickle=False)
    subjects = sorted(entry["subject"] for entry in others)
    assert found["subject"].tolist() == subjects
    assert set(found["split"].tolist()) == {"training"}
    assert found["embedding"].shape == (len(subjects), 192)
    assert len(np.unique(found["embedding"], axis=0)) == len(subjects)
    assert json.loads(str(found["settings"]))["modalities"] == MODALITIES["brats_stage2"]
