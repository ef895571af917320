"""Broken cohorts: what is wrong is read back with nibabel and gzip, and held to the whole cohort beside it."""

import json

import nibabel as nib
import numpy as np
import pytest

from common.errors import InputError
from scripts.phantoms import faults as phantom_faults
from scripts.phantoms.cohort import make

SPACING = 4  # mm
EXPECTED = {  # fault -> number of the BraTS subject, its broken files
    **{"truncated": (0, ["flair"]), "affine": (1, ["t2"]), "flipped": (2, ["t2"]), "nan": (3, ["flair"])},
    **{"missing": (4, ["t2"]), "label": (5, ["seg"]), "duplicate": (6, ["flair", "t1ce", "t1", "t2", "seg"])},
    **{"4d": (7, ["flair"]), "empty": (8, ["seg"])},
}


def _make(root, layout, subjects, **options):
    make(layout, subjects, root, spacing=SPACING, seed=1, workers=2, **options)
    record = root.with_name(f"{root.name}.faults.json")
    return json.loads(record.read_text()) if record.exists() else None


def _files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """The folder with `whole` and, of the same seed, `broken`: ten BraTS subjects, nine of them with a fault."""
    root = tmp_path_factory.mktemp("faults")
    _make(root / "whole", "brats", 10)
    _make(root / "broken", "brats", 10, faults=",".join(EXPECTED))
    return root


def _path(root, number, kind):
    return root / f"BraTS2021_{number:05d}/BraTS2021_{number:05d}_{kind}.nii.gz"


def _pair(cohorts, fault):
    """The broken file and the whole one."""
    number, (kind, *_) = EXPECTED[fault]
    return _path(cohorts / "broken", number, kind), _path(cohorts / "whole", number, kind)


def _voxels(path):
    return np.asarray(nib.load(path).dataobj)


def test_what_is_wrong_is_written_down_beside_the_cohort_and_nothing_else_differs(cohorts):
    assert sorted(path.name for path in cohorts.iterdir()) == ["broken", "broken.faults.json", "whole"]
    said = json.loads((cohorts / "broken.faults.json").read_text())
    assert list(said) == list(EXPECTED)
    for fault, (number, kinds) in EXPECTED.items():
        name = f"BraTS2021_{number:05d}"
        assert said[fault]["person"] == said[fault]["subject"] == name
        assert said[fault]["files"] == [f"{name}/{name}_{kind}.nii.gz" for kind in kinds]
    assert said["duplicate"]["copy_of"] == "BraTS2021_00009"
    whole, broken = _files(cohorts / "whole"), _files(cohorts / "broken")
    differing = {file for file in whole if whole[file] != broken.get(file)}
    assert differing == {file for entry in said.values() for file in entry["files"]}
    assert set(whole) - set(broken) == set(said["missing"]["files"])
    assert not set(broken) - set(whole)


def test_a_truncated_file_has_a_header_and_no_end(cohorts):
    broken, whole = _pair(cohorts, "truncated")
    image = nib.load(broken)
    assert image.shape == nib.load(whole).shape
    with pytest.raises(EOFError):
        np.asarray(image.dataobj)
    assert whole.read_bytes().startswith(broken.read_bytes())


def test_a_wrong_affine_shifts_by_millimetres(cohorts):
    broken, whole = (nib.load(path) for path in _pair(cohorts, "affine"))
    np.testing.assert_array_equal(np.asarray(broken.dataobj), np.asarray(whole.dataobj))
    np.testing.assert_allclose(broken.affine - whole.affine, np.pad([[3], [-4], [5]], ((0, 1), (3, 0))), atol=1e-5)
    np.testing.assert_array_equal(broken.header.get_qform(), broken.header.get_sform())


def test_a_flipped_affine_fills_the_same_box_from_the_other_side(cohorts):
    broken, whole = (nib.load(path) for path in _pair(cohorts, "flipped"))
    np.testing.assert_array_equal(np.asarray(broken.dataobj), np.asarray(whole.dataobj))
    assert [nib.aff2axcodes(image.affine)[0] for image in (whole, broken)] == ["L", "R"]
    ends = np.array([[0, 0, 0], np.array(whole.shape) - 1])
    swapped = np.concatenate([ends[::-1, :1], ends[:, 1:]], axis=1)
    expected = nib.affines.apply_affine(whole.affine, swapped)
    np.testing.assert_allclose(nib.affines.apply_affine(broken.affine, ends), expected, atol=1e-4)


def test_nan_voxels_lie_in_the_brain_of_a_float_file(cohorts):
    broken, whole = (_voxels(path) for path in _pair(cohorts, "nan"))
    assert broken.dtype == np.float32
    lost = np.isnan(broken)
    assert lost.sum() == 27
    assert (whole[lost] > 0).all()
    np.testing.assert_array_equal(broken[~lost], whole[~lost])


def test_masks_of_the_other_convention_and_empty_ones_keep_their_grid(cohorts):
    for fault, values in (("label", [0, 1, 2, 99, 3]), ("empty", [0, 0, 0, 0, 0])):
        broken, whole = (nib.load(path) for path in _pair(cohorts, fault))
        assert set(np.unique(whole.dataobj)) == {0, 1, 2, 4}
        np.testing.assert_array_equal(np.asarray(broken.dataobj), np.choose(np.asarray(whole.dataobj), values))
        assert broken.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(broken.affine, whole.affine)


def test_a_duplicate_has_another_subjects_bytes(cohorts):
    for kind in EXPECTED["duplicate"][1]:  # of the original nothing differs
        assert _path(cohorts / "broken", 6, kind).read_bytes() == _path(cohorts / "whole", 9, kind).read_bytes()


def test_a_file_of_four_axes(cohorts):
    broken, whole = (nib.load(path) for path in _pair(cohorts, "4d"))
    np.testing.assert_array_equal(broken.dataobj, np.stack([np.asarray(whole.dataobj)] * 2, axis=-1))
    np.testing.assert_array_equal(broken.affine, whole.affine)


def test_a_single_modality_disagrees_with_its_mask(tmp_path):
    said = _make(tmp_path / "atlas", "atlas_sites", 2, faults=["affine"], without_mask=1)["affine"]
    stem = "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym"
    mask = f"{stem}_label-L_desc-T1lesion_mask.nii.gz"
    assert (said["person"], said["subject"], said["files"]) == ("sub-r001s001", "sub-r001s001_ses-1", [mask])
    image, label = (nib.load(tmp_path / "atlas" / file) for file in (f"{stem}_T1w.nii.gz", mask))
    assert not np.allclose(image.affine, label.affine)


def test_uk_biobank_and_brats_2023_name_their_subjects_by_visit(tmp_path):
    odd = {"second_visits": 1, "too_few_slices": 2, "without_flair": 1}
    said = _make(tmp_path / "ukb", "ukb", 5, faults="nan,missing", **odd)
    assert {fault: (entry["subject"], entry["files"]) for fault, entry in said.items()} == {
        "nan": ("1000086_2_0", ["1000086_20252_2_0/T1/T1_brain_to_MNI.nii.gz"]),
        "missing": ("1000123_2_0", ["1000123_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz"]),
    }
    said = _make(tmp_path / "new", "brats2023", 2, faults="label", second_visits=1)["label"]
    name = "BraTS-GLI-00001-000"
    expected = {"person": "BraTS-GLI-00001", "subject": name, "files": [f"{name}/{name}-seg.nii.gz"]}
    assert said == expected | {"what": "the mask follows the other convention"}
    assert set(np.unique(_voxels(tmp_path / "new" / said["files"][0]))) == {0, 1, 2, 4}


def test_a_cohort_made_whole_over_a_broken_one_is_whole(tmp_path):
    _make(tmp_path / "ukb", "ukb", 2, faults="missing")
    _make(tmp_path / "ukb", "ukb", 2, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ukb"]
    assert len(_files(tmp_path / "ukb")) == 4


@pytest.mark.parametrize(
    ("faults", "names"),
    [("", ()), ("nan", ("nan",)), ("4d,nan", ("4d", "nan")), (("nan", "empty"), ("nan", "empty")), (["4d"], ("4d",))],
)
def test_faults_are_named_as_the_command_line_hands_them_over(faults, names):
    assert phantom_faults.chosen(faults) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": "rust"}, "--faults=rust: rust: expected names of truncated, affine"),
        ({"faults": "nan,"}, "--faults=nan,: no name: expected names of truncated"),
        ({"faults": "nan,nan"}, "--faults=nan,nan: nan is named twice; expected each fault once"),
        ({"faults": 4}, "--faults=4: expected names of truncated"),
        ({"faults": "nan,4d,empty"}, "2 subjects have no other oddity; expected 3, one for each"),
        ({"faults": "nan", "without_lesion": 2}, "--faults=nan: 0 subjects have no other oddity; expected 1,"),
        ({"faults": "nan,duplicate"}, "2 subjects have no other oddity; expected 3, .* and one to duplicate"),
        ({"faults": "empty", "layout": "ukb"}, "--faults=empty: empty needs a mask, which the layout's subjects lack"),
        ({"faults": "label", "layout": "atlas"}, "--faults=label: label needs a mask of a tumour, which"),
    ],
)
def test_bad_options_are_named_before_anything_is_made(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make(**{"layout": "brats", "subjects": 2, "output": tmp_path / "out"} | options)
    assert not list(tmp_path.iterdir())
