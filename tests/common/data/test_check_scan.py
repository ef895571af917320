"""`CheckScand` refuses scans that would silently ruin training or prediction."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.data.transforms import CheckScand
from common.errors import InputError


def scan(name, channels=2, shape=(4, 5, 6)):
    volumes = torch.linspace(0.01, 1, np.prod(shape)).reshape(shape).expand(channels, *shape).clone()
    volumes[1:] = volumes[1:].flip(1)
    return MetaTensor(volumes, meta={"filename_or_obj": name})


def test_a_sound_case_passes_as_it_is():
    case = {"image": scan("t1.nii.gz"), "subject": "s"}
    assert CheckScand("image", ["T1", "T2"])(case) is case


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda image: image[1, 0, 0].fill_(np.nan), "^T2 beside t1.nii.gz: 6 voxels NaN"),
        (lambda image: image[0, 0, 0].fill_(np.inf), "^t1.nii.gz: 0 voxels NaN, 6 infinite; expected finite"),
        (lambda image: image[1].fill_(0), "^T2 beside t1.nii.gz: zero everywhere"),
        (lambda image: image.sub_(1), "^t1.nii.gz: no voxel above zero"),
        (lambda image: image.mul_(3e38), "^t1.nii.gz: voxels up to 3e.38; expected intensities up to 1e.15$"),
        (lambda image: image.fill_(7), "^t1.nii.gz: 7 in every voxel that is not 0; expected a brain, not a mask"),
        (lambda image: image[1].gt_(0.5), "^T2 beside .*: 1 in every voxel that is not 0; expected a brain, not a"),
    ],
)
def test_an_image_of_nonsense_is_named(spoil, line):
    image = scan("t1.nii.gz")
    spoil(image)
    with pytest.raises(InputError, match=line):
        CheckScand("image", ["T1", "T2"])({"image": image})


def test_a_modality_that_is_a_copy_of_another_is_named():
    """--modalities=['T1','T1'] requests the same modality in two channels."""
    image = scan("t1.nii.gz", channels=3)
    image[2] = image[0]
    with pytest.raises(InputError, match=r"^FLAIR beside t1.nii.gz: a copy of T1; expected a different image$"):
        CheckScand("image", ["T1", "T2", "FLAIR"])({"image": image})
    assert CheckScand("image", ["T1", "T2", "T1"])({"image": image})["image"] is image


def test_a_single_voxel_of_another_value_is_enough():
    image = scan("t1.nii.gz", shape=(20, 20, 20)).fill_(7)
    image[:, 3, 4, 5] = torch.tensor([8.0, 9.0])
    assert CheckScand("image", ["T1", "T2"])({"image": image})["image"] is image


@pytest.mark.parametrize("value", [1e20, -3e38])
def test_a_voxel_that_outweighs_all_others_is_refused(value):
    image = scan("t1.nii.gz", shape=(20, 20, 20))
    image[0, 3, 4, 5] = value
    with pytest.raises(InputError, match=r"t1.nii.gz: .* in one voxel, which distorts the z-score of all"):
        CheckScand("image", ["T1", "T2"])({"image": image})


def test_a_volume_too_many_is_named():
    with pytest.raises(
        InputError, match=r"t1.nii.gz: shape \[2, 4, 5, 6\]; expected a three-dimensional volume for each of "
    ):
        CheckScand("image", ["T1"])({"image": scan("t1.nii.gz")})
