"""Read the masks of a case: NIfTI files on odd grids, and every fault that a file can have."""

import numpy as np

from scripts.evaluate.cases import read_masks
from tests.scripts.evaluate.evaluations import AFFINE, SHAPE, label_map, save
from tests.support import refused


def masks_of(folder, prediction, reference, convention="atlas"):
    """Masks of two files; arrays are saved."""
    files = {"p": prediction, "r": reference}
    saved = {name: save(folder / f"{name}.nii", file) for name, file in files.items() if isinstance(file, np.ndarray)}
    return read_masks(*(files | saved).values(), convention)


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


def test_another_grid_than_the_reference_is_refused(tmp_path):
    labels = label_map([0, 1])
    with refused(text="shape 6 x 8 x 9; expected 7 x 8 x 9, that of the reference"):
        masks_of(tmp_path, labels[:-1], labels)
    for by in (0.01, 0.0005):
        affine = AFFINE.copy()
        affine[0, 3] += by
        moved = save(tmp_path / "moved.nii", labels, affine)
        if by > 0.001:
            with refused(moved, text="affine differs by up to 0.01 mm"):
                masks_of(tmp_path, moved, labels)
        else:
            assert masks_of(tmp_path, moved, labels).predictions["lesion"].any()


def test_a_prediction_may_fill_the_volume_and_a_reference_may_not(tmp_path):
    full, some = np.ones(SHAPE, np.uint8), label_map([0, 1])
    assert masks_of(tmp_path, full, some).predictions["lesion"].all()
    with refused(tmp_path / "r.nii", text="label 1 and no 0"):
        masks_of(tmp_path, some, full)
