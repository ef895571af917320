"""Read the masks of a case: NIfTI files on odd grids, and every fault that a file can have."""

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from scripts.evaluate.records import read_masks
from tests.scripts.evaluate.evaluations import AFFINE, SHAPE, label_map, save


def masks_of(tmp_path, prediction, reference, convention="atlas", **more):
    """Masks of two files; arrays are saved, paths and None are used as they are."""
    files = []
    for folder, voxels in (("p", prediction), ("r", reference)):
        files.append(save(tmp_path / folder / "c.nii.gz", voxels, **more) if isinstance(voxels, np.ndarray) else voxels)
    return read_masks(*files, convention)


def header(path, labels, **fields):
    """A file with changed header fields."""
    image = nibabel.Nifti1Image(labels, AFFINE)
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    raw = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        raw[name] = value
    content[:348] = raw.binaryblock
    path.write_bytes(content)
    return path


def test_regions_of_brats_are_unions_of_labels(tmp_path):
    prediction, reference = label_map([0, 1, 2, 4], 1), label_map([0, 1, 2, 3], 2)
    masks = masks_of(tmp_path, prediction, reference, "brats2023")
    for by_region, labels, enhancing in ((masks.predictions, prediction, 4), (masks.references, reference, 3)):
        assert list(by_region) == ["WT", "TC", "ET"]
        assert all(mask.dtype == bool for mask in by_region.values())
        np.testing.assert_array_equal(by_region["WT"], labels > 0)
        np.testing.assert_array_equal(by_region["TC"], (labels == 1) | (labels == enhancing))
        np.testing.assert_array_equal(by_region["ET"], labels == enhancing)
    np.testing.assert_allclose(masks.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize(("stored", "sign"), [(255, 1), (25, -1)])
def test_labels_that_a_header_scales_are_read(stored, sign, tmp_path):
    labels = label_map([0, 1])
    path = header(tmp_path / "scaled.nii", (labels * stored).astype(np.uint8), scl_slope=1 / stored)
    values = np.unique(nibabel.load(path).get_fdata())
    assert values[0] == 0
    assert 0 < sign * (values[1] - 1) < 1e-6, "the factor is stored in single precision"
    masks = masks_of(tmp_path, path, labels)
    np.testing.assert_array_equal(masks.predictions["lesion"], labels == 1)


def moved(by):
    affine = AFFINE.copy()
    affine[0, 3] += by
    return affine


def test_another_grid_than_the_reference_is_named(tmp_path):
    labels = label_map([0, 1])
    for prediction, message in (
        (save(tmp_path / "a.nii", labels[:-1]), r"a.nii: shape 6 x 8 x 9; expected 7 x 8 x 9, that of the reference"),
        (save(tmp_path / "c.nii", labels, moved(0.01)), "affine differs by up to 0.01 mm; expected"),
    ):
        with pytest.raises(InputError, match=message):
            masks_of(tmp_path, prediction, labels)
    near = save(tmp_path / "near.nii", labels, moved(0.0005))
    assert masks_of(tmp_path, near, labels).predictions["lesion"].any()


def test_a_prediction_may_fill_the_volume_and_a_reference_may_not(tmp_path):
    full, some = np.ones(SHAPE, np.uint8), label_map([0, 1])
    assert masks_of(tmp_path, full, some).predictions["lesion"].all()
    with pytest.raises(InputError, match=r"r/c\.nii\.gz: label 1 and no 0; expected lesions, and 0 elsewhere$"):
        masks_of(tmp_path, some, full)
