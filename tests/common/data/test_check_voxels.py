"""`check_voxels` refuses images that would silently ruin training or prediction."""

import numpy as np
import pytest

from common.data.transforms import check_voxels
from common.errors import InputError

FILES = ["t1.nii.gz", "t2.nii.gz"]


def image(shape=(4, 5, 6)):
    """Return two different channels from 0.01 to 1."""
    volume = np.linspace(0.01, 1, np.prod(shape), dtype=np.float32).reshape(shape)
    return np.stack([volume, volume[::-1]])


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda image: image[1, 0, 0].fill(np.nan), "^t2.nii.gz: 6 voxels NaN"),
        (lambda image: image[0, 0, 0].fill(np.inf), "^t1.nii.gz: 0 voxels NaN, 6 infinite; expected finite"),
        (lambda image: image[1].fill(0), "^t2.nii.gz: zero everywhere"),
        (lambda image: np.subtract(image, 1, out=image), "^t1.nii.gz: no voxel above zero"),
        (lambda image: np.multiply(image, 3e38, out=image), "^t1.nii.gz: voxels up to 3e.3[68]; expected intensities"),
        (lambda image: image.fill(7), "^t1.nii.gz: 7 in every voxel that is not 0; expected a brain, not a mask"),
        (lambda image: np.copyto(image[1], image[0]), "^t2.nii.gz: a copy of t1.nii.gz; expected a different image$"),
    ],
)
def test_unusable_voxels_are_refused_with_the_file(spoil, line):
    voxels = image()
    check_voxels(voxels, FILES, ["T1", "T2"])
    spoil(voxels)
    with pytest.raises(InputError, match=line):
        check_voxels(voxels, FILES, ["T1", "T2"])


@pytest.mark.parametrize("value", [1e20, -3e38])
def test_a_voxel_that_outweighs_all_others_is_refused(value):
    voxels = image((20, 20, 20))
    voxels[0, 3, 4, 5] = value
    with pytest.raises(InputError, match=r"t1.nii.gz: .* in one voxel, which distorts the z-score of all"):
        check_voxels(voxels, FILES, ["T1", "T2"])


def test_a_file_of_two_modalities_is_refused_as_is_an_image_without_files():
    with pytest.raises(InputError, match=r"t1.nii.gz: listed for T1 and T2; expected a file for each modality$"):
        check_voxels(image()[[0, 0]], [FILES[0], FILES[0]], ["T1", "T2"])
    with pytest.raises(InputError, match=r"image: no file; expected one or more of T1, T2$"):
        check_voxels(np.zeros(()), [None, None], ["T1", "T2"])
