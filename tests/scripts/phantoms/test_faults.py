"""Broken cohorts; that `check` finds each fault, and nothing else, is a test of datalists."""

import json

import nibabel as nib
import numpy as np
import pytest

from common.errors import InputError
from scripts.phantoms.cohort import make


def test_a_flipped_affine_fills_the_same_box_from_the_other_side(tmp_path):
    for name, faults in (("whole", ""), ("broken", "flipped")):
        make("brats", 1, tmp_path / name, spacing=4, faults=faults, workers=1)
    ((fault, said),) = json.loads((tmp_path / "broken.faults.json").read_text()).items()
    assert (fault, said["subject"]) == ("flipped", "BraTS2021_00000")
    broken, whole = (nib.load(tmp_path / name / said["files"][0]) for name in ("broken", "whole"))
    np.testing.assert_array_equal(np.asarray(broken.dataobj), np.asarray(whole.dataobj))
    assert [nib.aff2axcodes(image.affine)[0] for image in (whole, broken)] == ["L", "R"]
    ends = np.array([[0, 0, 0], np.array(whole.shape) - 1])
    swapped = np.concatenate([ends[::-1, :1], ends[:, 1:]], axis=1)
    expected = nib.affines.apply_affine(whole.affine, swapped)
    np.testing.assert_allclose(nib.affines.apply_affine(broken.affine, ends), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": "rust"}, "--faults=rust: rust: expected names of truncated, affine"),
        ({"faults": "nan,nan"}, "--faults=nan,nan: nan is named twice; expected each fault once"),
        ({"faults": "nan,duplicate"}, "2 subjects have no other oddity; expected 3, .* and one to duplicate"),
        ({"faults": "empty", "layout": "ukb"}, "--faults=empty: empty needs a mask, which the layout's subjects lack"),
    ],
)
def test_bad_options_are_named_before_anything_is_made(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make(**{"layout": "brats", "subjects": 2, "output": tmp_path / "out"} | options)
    assert not list(tmp_path.iterdir())
