"""The files of an inference: their geometry, their bytes, and the table of volumes."""

import csv

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from common.data.transforms import LoadScand
from common.data.volumes import write_volume
from common.inference.outputs import SaveVolumed, Volumes, write_volumes
from common.made import Results, read_origin
from tests.support import refused

TURNED = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (1, 4), (0, 0)])
def test_a_result_has_the_forms_of_the_file(tmp_path, codes):
    """40 mm apart in the qform; the whole header is compared in tests/test_headers.py."""
    source = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), None)
    moved = TURNED.copy()
    moved[1, 3] += 40
    source.set_qform(moved, 1, update_affine=False)
    source.set_sform(TURNED, 1, update_affine=False)
    source.header["qform_code"], source.header["sform_code"] = codes
    nibabel.save(source, tmp_path / "in.nii.gz")
    volume = LoadScand("pred")({"pred": str(tmp_path / "in.nii.gz")})["pred"]
    voxels = torch.arange(24).view(1, 2, 3, 4) % 5
    volume[:] = voxels
    save = SaveVolumed("pred", str(tmp_path / "out"))
    save({"pred": volume, "subject": "P1"})
    written, read = nibabel.load(tmp_path / "out/P1.nii.gz"), nibabel.load(tmp_path / "in.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), voxels[0])
    np.testing.assert_allclose(written.affine, read.affine, atol=1e-6)
    written_codes = int(written.header["qform_code"]), int(written.header["sform_code"])
    assert written_codes == (codes if any(codes) else (2, 2)), "an assumed affine gets a code"
    if any(codes):
        np.testing.assert_array_equal(written.header.get_qform(), read.header.get_qform())
    with refused(text="P2: shape 2 x 2 x 4; expected 2 x 3 x 4, that of its scan"):
        save({"pred": volume[:, :, 1:], "subject": "P2"})


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
