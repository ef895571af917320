"""`python -m scripts.segment` makes a label map on the grid of a moved raw head."""

import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from common import made
from common.data.regions import colours
from common.data.volumes import write_volume
from common.files import write_json
from scripts.prepare.volumes import Grid, source_record
from scripts.segment import LABELS, PREDICTED, PREPARED, bring_back
from tests.oracles import nifti
from tests.scripts.prepare.moved_heads import make_raw
from tests.support import ROOT, execute


@pytest.mark.slow
def test_raw_scans_become_label_maps_on_their_own_grids(trained, tmp_path):
    """Paths are relative to a folder that is not the checkout. A subject without T1 is left out in one line."""
    subject = make_raw("atlas", 0, tmp_path, seed=4, spacing=4.0)
    raw = tmp_path / f"raw/{subject}/{subject}_T1.nii.gz"
    nifti.contradict(raw)
    scan = nibabel.load(raw)
    (tmp_path / "raw/other").mkdir()
    nibabel.save(scan, tmp_path / "raw/other/other_FLAIR.nii.gz")
    output = tmp_path / "out"
    options = ["--bundle=atlas_finetune", f"--checkpoint={trained('atlas_finetune') / 'models/model.pt'}"]
    options += ["--output=out"]
    command = [sys.executable, "-m", "scripts.segment", "raw", *options]
    ended = execute(command, tmp_path, PYTHONPATH=str(ROOT))
    assert ended.returncode == 1, "other was left out"
    assert "other: T1: no file; expected one file" in ended.stdout
    assert "place voxels up to 40 mm apart; expected one position of each voxel (the sform is used)" in ended.stdout
    labels = nibabel.load(output / f"labels/{subject}.nii.gz")
    assert labels.shape == scan.shape
    assert nifti.forms((output / f"labels/{subject}.nii.gz").read_bytes()) == nifti.forms(raw.read_bytes())
    assert set(np.unique(labels.dataobj)) <= {0, 1}
    written = {f"{subject}.nii.gz", f"{subject}.png", "made.json", "volumes.csv"}
    assert {path.name for path in (output / "labels").iterdir()} == written
    voxels = int((np.asarray(labels.dataobj) == 1).sum())
    volume = voxels * abs(np.linalg.det(scan.affine[:3, :3])) / 1000  # ml, by the sform
    assert (output / "labels/volumes.csv").read_text().splitlines()[1:] == [f"{subject},lesion,{volume:.6g},{voxels}"]


GRIDS = {  # modality -> shape and affine of its raw scan
    "T1": ((60, 60, 60), np.array([[0, 0, 2.0, -60], [-2, 0, 0, 60], [0, 2, 0, -60], [0, 0, 0, 1]])),
    "FLAIR": ((100, 120, 30), np.array([[-1.2, 0, 0, 60], [0, 1, 0, -60], [0, 0, 4, -58], [0, 0, 0, 1]])),
}


@pytest.fixture
def segmented(tmp_path):
    """Write prepared subjects `both` and `alone` (no FLAIR); return label maps of a 24 x 32 x 40 mm box, 1 mm off."""
    space, back = np.diag([2.0, 2, 2, 1]), np.eye(4)
    space[:3, 3], back[0, 3] = -60, 1
    box = np.zeros((60, 60, 60), np.uint8)
    box[20:32, 20:36, 20:40] = 1  # centres of voxels
    for subject, modalities in {"both": ["T1", "FLAIR"], "alone": ["T1"]}.items():
        figures = {"reference": "T1", "subject": {}, "modalities": {}}
        record = {"subject": subject, "reference": "T1", "sources": {}, "transforms": {}, "figures": figures}
        record["grid"] = {"shape": [60, 60, 60], "affine": space.tolist()}
        for name in modalities:
            shape, affine = GRIDS[name]
            file = tmp_path / f"{subject}_{name}.nii.gz"
            write_volume(file, np.random.default_rng(1).uniform(1, 9, shape).astype(np.float32), affine)
            record["sources"][name] = source_record(file, Grid(shape, affine))
            record["transforms"][name] = {"matrix": back.tolist()}
        write_json(tmp_path / PREPARED / subject / "prepare.json", record)
        write_volume(tmp_path / PREDICTED / f"{subject}.nii.gz", box, space, is_label=True)
    settings = {"label_convention": "lesion=1", "cleanup": "lesion=largest"}
    write_json(tmp_path / PREDICTED / made.MADE, {"checkpoints": {}, "settings": settings})
    return {subject: tmp_path / PREDICTED / f"{subject}.nii.gz" for subject in ("alone", "both")}


@pytest.mark.parametrize("modality", [None, "T1", "FLAIR"])
def test_label_maps_pictures_and_volumes_are_on_the_chosen_grid(segmented, tmp_path, modality):
    """A subject without FLAIR has no label map on FLAIR's grid."""
    outcomes = bring_back(segmented, tmp_path, modality, "lesion=1")
    names = ["both"] if modality == "FLAIR" else ["alone", "both"]
    assert [(outcome.name, outcome.fault) for outcome in outcomes] == [(name, "") for name in names]
    folder = tmp_path / "labels" / (modality or "")
    assert [path.name for path in sorted(folder.glob("*.png"))] == [f"{name}.png" for name in names]
    settings = made.read_origin(folder)["settings"]
    assert [settings[name] for name in ("label_convention", "cleanup")] == ["lesion=1", "lesion=largest"]
    shape, affine = GRIDS[modality or "T1"]
    points = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) - [1, 0, 0]
    low, high = np.array([-21, -21, -21]), np.array([3, 11, 19])  # mm, faces of the box
    truth = ((points > low) & (points < high)).all(axis=-1)
    for name in names:
        labels = nibabel.load(folder / f"{name}.nii.gz")
        np.testing.assert_allclose(labels.affine, affine, atol=1e-5)
        inside = np.asarray(labels.dataobj) == 1
        apart = np.abs(points - np.clip(points, low, high)).max(axis=-1)
        assert not inside[apart > 2].any()
        assert abs(inside.sum() / truth.sum() - 1) < 0.12
        voxels = int(inside.sum())
        row = f"{name},lesion,{voxels * abs(np.linalg.det(affine)) / 1000:.6g},{voxels}"
        assert row in (folder / "volumes.csv").read_text().splitlines()
        red, green, blue = bytes.fromhex(colours("lesion=1")["lesion"][1:])
        assert (np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) == (red, green, blue)).all(-1).sum() > 100


def test_label_maps_of_another_origin_are_neither_replaced_nor_measured(segmented, tmp_path, capsys):
    foreign = tmp_path / LABELS / "both.nii.gz"
    write_volume(foreign, np.ones((2, 2, 2), np.float32), np.eye(4))
    before = foreign.read_bytes()
    (outcome,) = bring_back({"both": segmented["both"]}, tmp_path, None, "lesion=1")
    assert outcome.fault == f"{foreign}: not written by this software; expected a different --output"
    assert foreign.read_bytes() == before
    bring_back({"alone": segmented["alone"]}, tmp_path, None, "lesion=1")
    assert "of earlier runs or of the user: both" in capsys.readouterr().err
    rows = (tmp_path / LABELS / "volumes.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["alone"]


def test_label_maps_that_were_corrected_by_hand_stay_until_their_sources_change(segmented, tmp_path):
    """The editor wrote no intent code."""
    bring_back(segmented, tmp_path, None, "lesion=1")
    (shape, affine), file = GRIDS["T1"], tmp_path / LABELS / "both.nii.gz"
    write_volume(file, np.ones(shape, np.uint8), affine)
    corrected = file.read_bytes()
    bring_back(segmented, tmp_path, None, "lesion=1")
    assert file.read_bytes() == corrected
    file.unlink()
    bring_back(segmented, tmp_path, None, "lesion=1")
    assert np.unique(nibabel.load(file).dataobj).tolist() == [0, 1], "it is made again"
    empty = np.zeros((60, 60, 60), np.uint8)
    write_volume(segmented["both"], empty, nibabel.load(segmented["both"]).affine, is_label=True)
    bring_back(segmented, tmp_path, None, "lesion=1")
    assert not np.asarray(nibabel.load(file).dataobj).any()
