"""Checks of headers; the tests damage files of a valid case."""

import gzip

import nibabel
import numpy as np
import pytest

from common.data.scan_checks import absent_regions, check_headers, check_labels, read_headers
from common.data.transforms import LoadScand
from common.errors import InputError
from tests.damaged_scans import (
    CASE,
    HEADERS,
    SHAPE,
    absolute,
    brain,
    cut,
    lesion,
    save,
    shifted,
    write_case,
)


@pytest.fixture
def folder(tmp_path):
    return write_case(tmp_path)


@pytest.mark.parametrize("name", HEADERS)
def test_headers_alone_tell_it_with_subject_and_file(folder, name):
    damage, _, file, text = HEADERS[name]
    damage(folder)
    with pytest.raises(InputError) as error:
        check_headers([absolute(folder)])
    assert str(error.value).startswith(f"subject s: {folder / file}: ")
    assert text in str(error.value)


def test_a_dimension_of_one_more_and_one_modality_in_two_channels_are_sound(folder):
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed)[..., None])
    check_headers([absolute(folder)])
    check_headers([{"subject": "s", "image": [str(folder / "t1.nii.gz")] * 2}])


def test_affines_are_the_same_up_to_a_thousandth_of_a_millimetre(folder):
    save(folder / "t1.nii.gz", brain(1), shifted(0.0009))
    check_headers([absolute(folder)])
    LoadScand(["image", "label"])(absolute(folder))
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed), shifted(500))
    save(folder / "seg.nii.gz", lesion(1), shifted(500.003))
    for check in (lambda case: check_headers([case]), LoadScand(["image", "label"])):
        with pytest.raises(InputError, match=r"seg.nii.gz: affine differs by up to 0.00299 mm; expected that of flair"):
            check(absolute(folder))


def test_a_plain_file_that_is_too_short_is_told_by_its_headers(tmp_path):
    save(tmp_path / "t1.nii", brain())
    case = {"subject": "s", "image": [str(tmp_path / "t1.nii")]}
    check_headers([case])
    cut(tmp_path / "t1.nii", 0.9)
    with pytest.raises(InputError, match=r"subject s: .*t1.nii: 2044 of 2272 bytes"):  # 0.9 x 2272
        check_headers([case])


def test_gzip_files_of_several_parts_and_nifti_2_are_sound(tmp_path):
    """bgzip writes several members; the file ends with the length of the last member, not of all."""
    save(tmp_path / "t1.nii", brain())
    content = (tmp_path / "t1.nii").read_bytes()
    (tmp_path / "t1.nii.gz").write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    nibabel.save(nibabel.Nifti2Image(brain(1), np.eye(4)), tmp_path / "t2.nii.gz")
    for file in ("t1.nii.gz", "t2.nii.gz"):
        check_headers([absolute(tmp_path, {"subject": "s", "image": [file]})])


@pytest.mark.parametrize(
    ("offset", "kind", "sound", "broken", "message"),  # offset of a field in the header, by the standard
    [
        (108, "<f4", [[352]], [[0]], "voxels start at byte 0; expected 352 or later, after the header$"),  # vox_offset
        (84, "<f4", [[1]], [[0]], r".*pixdim 0, so the size of its voxels is unknown"),  # pixdim[2]
        (112, "<f4", [[0], [np.nan], [2], [-1]], [[np.inf]], "scl_slope inf, so the scale of its intensities is unkn"),
        (123, "u1", [[0], [2], [5], [10]], [[3]], "lengths in micrometres; expected mm$"),  # 5 is no unit
        (254, "<i2", [[0], [5]], [[-1], [6]], r"sform_code \S+, not 0 to 5; expected a NIfTI, MGH or NRRD"),
        (252, "<i2", [[5]], [[-1], [6]], r"qform_code \S+, not 0 to 5; expected a NIfTI, MGH or NRRD"),
        (42, "<i2", [SHAPE], [[1024, 1024, 768]], "shape .* 768, which takes 3 GiB in float32; expected 2 GiB at mo"),
    ],
)
def test_fields_that_mislead_a_reader_are_refused(tmp_path, offset, kind, sound, broken, message):
    image = nibabel.Nifti1Image(brain(), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(np.eye(4), 1)
    case = {"subject": "s", "image": [str(tmp_path / "t1.nii")]}
    for values in (*sound, *broken):
        content, field = bytearray(image.to_bytes()), np.array(values, kind).tobytes()
        content[offset : offset + len(field)] = field
        (tmp_path / "t1.nii").write_bytes(content)
        if values in sound:
            check_headers([case])
        else:
            with pytest.raises(InputError, match=rf"t1.nii: {message}"):
                check_headers([case])


def test_a_copy_of_another_subjects_label_is_refused_and_empty_ones_are_not(tmp_path):
    lesion, other, none = (np.zeros((4, 4, 4), np.uint8) for _ in range(3))
    lesion[1, 2, 3] = other[3, 2, 1] = 1
    for name, voxels in {"a": lesion, "b": other, "c": none, "d": none, "e": lesion}.items():
        save(tmp_path / f"{name}.nii.gz", voxels)
    cases = [{"subject": name, "image": [], "label": str(tmp_path / f"{name}.nii.gz")} for name in "abcde"]
    check_labels([*cases[:4], {"subject": "f", "image": []}])
    with pytest.raises(InputError, match=r"^subject e: .*e\.nii\.gz: a copy of .*a\.nii\.gz of a$"):
        check_labels(cases)
    assert absent_regions(cases[1:4], "lesion=1,cavity=7") == ["cavity"]
    assert absent_regions(cases[1:4], "atlas") == absent_regions([], "atlas") == []
    with pytest.raises(
        InputError, match=r"c\.nii\.gz: no labelled voxel in this or any label map \(2 read\); expected labelled"
    ):
        absent_regions(cases[2:4], "atlas")


def test_headers_without_orientation_are_warned_of(tmp_path, capsys):
    for name, affine in (("t1", np.eye(4)), ("t2", None)):
        nibabel.save(nibabel.Nifti1Image(brain(), affine), tmp_path / f"{name}.nii")
    case = {"subject": "s", "image": [str(tmp_path / "t2.nii")]}
    check_headers([case, {"subject": "u", "image": [str(tmp_path / "t1.nii")]}])
    assert capsys.readouterr().err.count("\n") == 1
    check_headers([case, case], ["error"])
    assert capsys.readouterr().err == ""
    check_headers([case, {"subject": "u", "image": ["none.nii"]}], ["warning"])  # the case itself tells that it lacks
    line = f"warning: subject s: {tmp_path}/t2.nii: sform_code and qform_code are 0, so left and right are a guess; "
    line += "expected a header that states it (LAS is assumed, and stated in results)\n"
    assert capsys.readouterr().err == line
    assert [problem.check for problem in read_headers(case, "")[0]] == ["orientation"]


@pytest.mark.parametrize(
    ("x", "shift", "pixdim", "value"),
    [
        (-1, 0, 1, "sform and qform (RAS and LAS) place voxels up to 18 mm apart"),  # 9 + 9
        (1, 0.4, 1, ""),
        (1, 0.6, 1, "sform and qform place voxels up to 0.6 mm apart"),  # of 1 mm
        (None, 0, 1.04, ""),  # 11 x 0.04
        (None, 0, 2, "sform and pixdim place voxels up to 15.8 mm apart"),  # the corner at (9, 11, 7)
    ],
)
def test_two_places_of_a_voxel_are_warned_of_beyond_half_of_it(tmp_path, x, shift, pixdim, value):
    scan = nibabel.Nifti1Image(brain(), np.eye(4))
    scan.header["pixdim"][1:4] = pixdim
    if x is not None:
        affine = np.diag([x, 1.0, 1, 1])
        affine[2, 3] = shift
        scan.set_qform(affine, 1)
    nibabel.save(scan, tmp_path / "t1.nii")
    problems, _, _ = read_headers({"subject": "s", "image": [str(tmp_path / "t1.nii")]}, "")
    text = f"{tmp_path}/t1.nii: {value}; expected equal positions (the sform is used)"
    assert [(problem.check, str(problem)) for problem in problems] == ([("orientation", text)] if value else [])
