"""The files of an inference: their geometry, their bytes, and the table of volumes."""

import csv

import nibabel
import numpy as np
import pytest
from ignite.engine import Engine, Events

from common.data.transforms import LoadScand
from common.data.volumes import write_volume
from common.inference.outputs import SaveVolumed, Volumes, write_volumes
from common.made import Results, read_origin
from tests.support import refused

TURNED = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


def test_a_result_on_a_different_grid_is_not_written(tmp_path):
    """tests/test_headers.py checks the headers of results."""
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), TURNED), tmp_path / "in.nii.gz")
    volume = LoadScand("pred")({"pred": str(tmp_path / "in.nii.gz")})["pred"]
    with refused(text="P2: shape 2 x 2 x 4; expected 2 x 3 x 4, that of its scan"):
        SaveVolumed("pred", str(tmp_path / "out"))({"pred": volume[:, :, 1:], "subject": "P2"})
    assert not (tmp_path / "out").exists()
    with refused(text="in.nii.gz: a result would overwrite this scan"):
        SaveVolumed("pred", str(tmp_path))({"pred": volume, "subject": "in"})


def rows(folder):
    with (folder / "volumes.csv").open(newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("convention", "enhancing"), [("brats2021", 4), ("brats2023", 3)])
def test_volumes_are_in_millilitres(tmp_path, convention, enhancing):
    label = np.array([0] * 10 + [1] * 3 + [2] * 7 + [enhancing] * 2, np.uint8).reshape(2, 11, 1)
    for subject, voxels in (("P2", label * 0), ("P1", label.astype(np.float32))):  # edited by hand
        write_volume(tmp_path / f"{subject}.nii.gz", voxels, TURNED)  # 9 mm3 a voxel
    write_volumes(tmp_path, convention, ["P2", "P1"])
    expected = [("P1", "WT", "0.108", "12"), ("P1", "TC", "0.045", "5"), ("P1", "ET", "0.018", "2")]
    assert rows(tmp_path) == [*expected, ("P2", "WT", "0", "0"), ("P2", "TC", "0", "0"), ("P2", "ET", "0", "0")]


def test_volumes_are_those_of_the_stated_results(tmp_path):
    """A run that is killed leaves P3 without a stamp; the next run, of P2 alone, fails."""

    def run(*subjects, ends_with=Events.COMPLETED):
        made = {"command": "x", "checkpoints": {"x.pt": "a"}, "settings": {}}
        results, engine = Results(tmp_path, made), Engine(lambda *_: None)
        Volumes("atlas", results, [{"subject": subject, "image": [None]} for subject in subjects]).attach(engine)
        engine.fire_event(Events.STARTED)
        for subject in subjects:
            write_volume(tmp_path / f"{subject}.nii.gz", np.ones((2, 2, 2), np.uint8), np.eye(4))
            engine.state.batch = [{"subject": subject}]
            engine.fire_event(ends_with if subject == subjects[-1] else Events.ITERATION_COMPLETED)
        engine.fire_event(Events.COMPLETED)
        return [row[0] for row in rows(tmp_path)], [*read_origin(tmp_path)["inputs"]]

    assert run("P1", "P2", ends_with=Events.ITERATION_COMPLETED) == (["P1", "P2"], ["P1", "P2"])
    assert run("P3") == (["P1", "P2"], ["P1", "P2"])
    assert run("P2") == (["P1"], ["P1"])
