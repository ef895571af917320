import numpy as np

from common.data.volumes import write_volume
from deploy.inference import read_label_map
from scripts.prepare.volumes import Volume
from tests.deploy.dicom.checks import refusal


def test_a_label_map_on_another_grid_is_refused(tmp_path):
    volume, path = Volume(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "case.nii.gz"
    assert "wrote no label map" in refusal(read_label_map, path, volume)
    write_volume(path, volume.array, volume.affine)
    assert read_label_map(path, volume).dtype == np.uint8
    for other in (Volume(volume.array, np.diag([1, 1, 2, 1])), Volume(volume.array[1:], np.eye(4))):
        assert "is not on the grid of its input" in refusal(read_label_map, path, other)
