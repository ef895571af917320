"""Checks of headers and voxels; the tests damage files of a valid case."""

import nibabel
import numpy as np
import pytest

from common.data.transforms import LoadScand
from common.data.volumes import _warned, open_volume, orientation_problem, read_scan
from common.errors import InputError
from common.training.plan import absent_regions
from tests.damaged_scans import CASE, absolute, brain, lesion, save, shifted, write_case


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


def test_a_fourth_axis_of_one_and_affines_equal_up_to_a_thousandth_of_a_millimetre_are_sound(folder):
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed)[..., None])
    save(folder / "t1.nii.gz", brain(1), shifted(0.0009))
    LoadScand(["image", "label"])(absolute(folder))
    save(folder / "seg.nii.gz", lesion(1), shifted(0.003))
    with pytest.raises(InputError, match=r"seg.nii.gz: affine differs by up to 0.003 mm; expected that of flair"):
        LoadScand(["image", "label"])(absolute(folder))


@pytest.mark.parametrize(
    ("field", "sound", "broken", "message"),
    [
        ("pixdim", np.ones(8), [1, 1, 0, 1, 1, 1, 1, 1], "pixdim 0, so the size of its voxels is unknown"),
        ("xyzt_units", 5, 3, "lengths in micrometres, not mm"),  # 5 is no unit
    ],
)
def test_fields_that_mislead_a_reader_are_refused(tmp_path, field, sound, broken, message):
    image = nibabel.Nifti1Image(brain(), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(np.eye(4), 1)
    for value in (sound, broken):
        header = type(image.header)(image.header.binaryblock, check=False)
        header[field] = value
        (tmp_path / "t1.nii").write_bytes(header.binaryblock + image.to_bytes()[len(header.binaryblock) :])
        if value is sound:
            read_scan(tmp_path / "t1.nii")
    with pytest.raises(InputError, match=rf"t1.nii: {message}"):
        read_scan(tmp_path / "t1.nii")


def test_an_mgh_file_has_the_voxels_and_place_of_its_nifti_or_is_refused(tmp_path):
    affine = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.2, 0.1, -0.3) * 1.5, [70, -40, 60])
    for name in ("a.mgz", "a.mgh"):
        nibabel.save(nibabel.MGHImage(brain(), affine), tmp_path / name)
        scan, voxels = read_scan(tmp_path / name)
        assert np.array_equal(voxels, brain())
        np.testing.assert_allclose(scan.affine, affine, atol=1e-5)
    data = bytearray((tmp_path / "a.mgz").read_bytes())
    data[-8] ^= 1
    (tmp_path / "a.mgz").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mgz: CRC check failed"):
        read_scan(tmp_path / "a.mgz")
    placeless = nibabel.MGHImage(brain(), affine)
    placeless.header["goodRASFlag"] = 0
    nibabel.save(placeless, tmp_path / "b.mgz")
    with pytest.raises(InputError, match=r"b\.mgz: goodRASFlag is 0"):
        read_scan(tmp_path / "b.mgz")


def test_absent_regions_are_those_of_no_label_map(tmp_path):
    cases = [{"label": str(tmp_path / f"{name}.nii")} for name in "ab"]
    for case, values in zip(cases, ([1], [2]), strict=True):
        save(case["label"], lesion(*values))
    assert absent_regions(cases, "a=1,b=2,c=7") == ["c"]
    assert absent_regions(cases, "a=1,b=2") == absent_regions([], "atlas")[1:] == []
    with pytest.raises(InputError, match="no labelled voxel"):
        absent_regions(cases, "c=7")


def test_headers_without_orientation_are_warned_of_once(tmp_path, capsys):
    _warned[0] = 0
    for name in ("t1", "t2"):
        nibabel.save(nibabel.Nifti1Image(brain(), None), tmp_path / f"{name}.nii")
        LoadScand("image")({"image": str(tmp_path / f"{name}.nii")})
    line = f"warning: {tmp_path}/t1.nii: sform_code and qform_code are 0, so left and right are a guess; "
    assert capsys.readouterr().err.startswith(f"{line}expected one position of each voxel")
    LoadScand("image")({"image": str(tmp_path / "t2.nii")})
    assert capsys.readouterr().err == ""


def test_a_voxel_has_two_places_if_the_forms_differ_by_more_than_half_of_it(tmp_path):
    for shift, text in ((0.4, "None"), (0.6, "t1.nii: sform and qform place voxels up to 0.6 mm apart")):
        scan = nibabel.Nifti1Image(brain(), np.eye(4))
        scan.set_qform(nibabel.affines.from_matvec(np.eye(3), [0, 0, shift]), 1)
        nibabel.save(scan, tmp_path / "t1.nii")
        assert str(orientation_problem("t1.nii", open_volume(tmp_path / "t1.nii"))).startswith(text)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda image: image[1, 0, 0].fill(np.nan), "^.*1.nii: 20 voxels NaN"),
        (lambda image: np.negative(image, out=image), "^.*0.nii: no voxel above zero"),
        (lambda image: np.minimum(image, 7, out=image), "^.*0.nii: a single value in all voxels"),
        (lambda image: np.copyto(image[1], image[0]), "T2: a copy of T1; expected a different image"),
        (lambda image: image[0, 3:4, 4, 3].fill(1e20), "^.*0.nii: 1e.20 in one voxel, which distorts the z-score"),
    ],
)
def test_voxels_that_ruin_training_or_prediction_are_refused(tmp_path, spoil, line):
    image = np.zeros((2, 20, 20, 20), np.float32)
    image[:, 2:-2, 2:-2, 2:-2] = np.random.default_rng(0).uniform(10, 900, (2, 16, 16, 16))
    files = [str(tmp_path / f"{number}.nii") for number in (0, 1)]

    def load(files):
        for file, volume in zip(files, image, strict=True):
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), file)
        return LoadScand("image", ["T1", "T2"])({"image": files})

    load(files)
    spoil(image)
    with pytest.raises(InputError, match=line):
        load(files)


def test_a_case_without_image_is_refused():
    with pytest.raises(InputError, match=r"expected one for each of T1, T2$"):
        LoadScand("image", ["T1", "T2"])({"image": [None, None]})
