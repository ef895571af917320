"""The command on the embedded cohort, whose positions are known; the fixture `cohort` runs it."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the field's name for it

from common.data.layouts.listing import list_images
from common.data.layouts.names import Naming
from common.data.layouts.reading import read_layout
from common.errors import InputError
from common.inference.cases import find_cases
from common.metrics.measures import dice
from scripts.datalists.__main__ import generic
from scripts.prepare.brain import brain_of, mirrored_brain
from scripts.prepare.figures import LIMITS
from scripts.prepare.subjects import folder_of
from scripts.prepare.volumes import read_volume
from tests.scripts.prepare.moved_heads import brain_dice, errors


def record(cohort):
    return json.loads((cohort.folder / "out" / cohort.subject / "prepare.json").read_text())


def test_modalities_are_registered_to_less_than_a_voxel_and_the_brain_is_found(cohort):
    """Voxels have 4 mm and the FLAIR's slices 8; before, the brain's points are centimetres off."""
    start = cohort.truth["motion_T1"][:3, 3] - cohort.truth["motion_FLAIR"][:3, 3]
    assert np.linalg.norm(start) > 5
    measured = errors(record(cohort), cohort.truth)
    assert np.percentile(measured["FLAIR"], 95) < 3
    assert measured["template"].mean() < measured["least"].mean() + 2, "people differ; the best affine leaves `least`"
    assert brain_dice(cohort.folder / "out" / cohort.subject, cohort.truth) > 0.9


def test_a_cut_brain_is_told_from_the_mirrored_scan(cohort):
    scan = read_volume(cohort.folder / f"raw/{cohort.subject}/{cohort.subject}_T1.nii.gz")
    found, mirrored = brain_of(scan), mirrored_brain(scan)
    lowest = LIMITS["subject"]["agreement"][0]
    assert lowest < dice(found, mirrored) < 1, "equal masks would be no second opinion"
    height = scan.affine[2] @ np.moveaxis([*np.indices(found.shape), np.ones(found.shape)], 0, -1)[..., None]
    lower = height[..., 0] < np.percentile(height[found], 80)
    assert dice(found & lower, mirrored) < lowest
    assert not mirrored_brain(replace(scan, array=np.zeros_like(scan.array))).any()


def test_scans_lie_on_the_targets_grid_and_only_the_brain_remains(cohort):
    folder = cohort.folder / "out" / cohort.subject
    brain = nibabel.load(folder / f"{cohort.subject}_brain_mask.nii.gz").get_fdata() > 0
    for modality in ("T1", "FLAIR"):
        image = nibabel.load(folder / f"{cohort.subject}_{modality}.nii.gz")
        assert image.shape == (46, 55, 46)  # of 182 x 218 x 182 mm
        assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")
        np.testing.assert_allclose(image.affine @ [22.125, 31.125, 17.625, 1], [0, 0, 0, 1], atol=0.01)  # MNI's origin
        assert int(image.header["sform_code"]) == 4
        assert not image.get_fdata()[~brain].any()
        assert (image.get_fdata()[brain] > 0).mean() > 0.99


def test_the_transform_file_resamples_the_raw_scan_to_the_result(cohort):
    """By SimpleITK alone, as any ITK tool would: one resampling, by the composed transform."""
    folder, name = cohort.folder / "out" / cohort.subject, f"{cohort.subject}_FLAIR"
    raw = sitk.ReadImage(str(cohort.folder / "raw" / cohort.subject / f"{name}.nii.gz"), sitk.sitkFloat32)
    result = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
    brain = sitk.ReadImage(str(folder / f"{cohort.subject}_brain_mask.nii.gz"))
    again = sitk.Resample(raw, result, sitk.ReadTransform(str(folder / f"{name}.tfm")), sitk.sitkLinear)
    inside = sitk.GetArrayFromImage(brain) > 0
    difference = sitk.GetArrayFromImage(again)[inside] - sitk.GetArrayFromImage(result)[inside]
    assert np.abs(difference).max() < 0.1, "of 1000; a prepared scan's affine is rounded to 1/1024 mm"


def test_the_folder_is_ready_for_inference_and_datalists(cohort):
    output = cohort.folder / "out"
    for datalist, no_file in ((output / "datalist.json", None), (None, "")):
        first, second = find_cases(output, ["T1", "FLAIR"], datalist)
        assert (first["subject"], second["subject"]) == (cohort.subject, "lacking")
        assert [path.rsplit("_", 1)[1] for path in first["image"]] == ["T1.nii.gz", "FLAIR.nii.gz"]
        assert second["image"][1] == no_file


def test_datalists_state_what_the_scans_were_prepared_for(cohort, tmp_path):
    output = cohort.folder / "out"
    (tmp_path / "regions.yaml").write_text("lesion: [3]")
    own, regions = tmp_path / "own.json", str(tmp_path / "regions.yaml")
    generic(str(output), str(own), regions, modalities="T1", testing="all")
    stated = [json.loads(file.read_text())["space"] for file in (output / "datalist.json", own)]
    assert stated == ["ukb", "ukb"]
    shutil.copytree(output, tmp_path / "mixed")
    record = tmp_path / "mixed/lacking/prepare.json"
    record.write_text(record.read_text().replace('"ukb"', '"brats"'))
    with pytest.raises(InputError, match=r"scans prepared for several spaces: .*; expected the same --like for all"):
        generic(str(tmp_path / "mixed"), str(tmp_path / "mixed.json"), regions, modalities="T1", testing="all")
    assert not (tmp_path / "mixed.json").exists()


def test_a_subject_that_fails_is_one_line_and_the_others_go_on(cohort):
    assert cohort.result.returncode == 1
    assert "2 new, 0 done before, 1 failed (broken), 0 outside limits" in cohort.result.stdout
    assert cohort.result.stdout.count("broken: ") == 1
    assert "seg.nii.gz: 5 x 6 x 7 voxels, not on the grid of a scan; expected the grid of T1\n" in cohort.result.stdout
    assert "Traceback" not in cohort.result.stderr
    assert not (cohort.folder / "out/broken").exists()


@pytest.fixture
def copy(cohort, run_prepare, tmp_path):
    """The cohort's output, and how to repeat the command on it."""
    output = tmp_path / "out"
    shutil.copytree(cohort.folder / "out", output)

    def repeat(*more):
        return run_prepare(
            *(option.replace(str(cohort.folder / "out"), str(output)) for option in cohort.options), *more
        )

    return SimpleNamespace(output=output, repeat=repeat)


def with_overlap(folder, overlap):
    """Rewrite the record of a subject."""
    content = json.loads((folder / "prepare.json").read_text())
    content["figures"]["subject"]["overlap"] = overlap
    (folder / "prepare.json").write_text(json.dumps(content))


def found_by_readers(output):
    """What each reader finds: with the datalist, without, and `datalists generic`."""
    for datalist in (output / "datalist.json", None):
        yield [case["subject"] for case in find_cases(output, ["T1", "FLAIR"], datalist)]
    yield sorted(read_layout(list_images(output), Naming(("T1", "FLAIR")), "folders").subjects)


def test_a_subject_outside_its_limits_is_left_out_until_it_is_accepted(cohort, copy):
    """No reader finds it meanwhile; accepted, it stays so."""
    output = copy.output
    folder_of(output, "lacking", is_left_out=True).parent.mkdir()
    (output / "lacking").rename(folder_of(output, "lacking", is_left_out=True))
    with_overlap(folder_of(output, "lacking", is_left_out=True), 0.9)
    for more, is_left_out in (((), True), (("--accept=lacking",), False), ((), False)):
        result = copy.repeat(*more)
        assert result.returncode == 1, "broken fails"
        assert f"overlap 0.9; expected 0.925 to 1; {'left out' if is_left_out else 'accepted'}\n" in result.stdout
        assert f"0 new, 2 done before, 1 failed (broken), {is_left_out:d} outside limits" in result.stdout
        assert ("if the picture of lacking is right: --accept=lacking\n" in result.stdout) is is_left_out
        names = [cohort.subject] if is_left_out else [cohort.subject, "lacking"]
        assert all(found == names for found in found_by_readers(output))
        page = (output / "overview.html").read_text()
        assert ("repeat the command with --accept=lacking" in page) is is_left_out
        pictures = re.findall(r'src="(\S+\.png)"', page)
        flickers = [picture.endswith("_flicker.png") for picture in pictures]
        assert flickers == [False, True, False], "lacking has no FLAIR"
        assert all((output / picture).is_file() for picture in pictures)


def test_done_subjects_stay_leftovers_of_a_killed_run_go_and_other_subjects_are_named(cohort, copy):
    shutil.copytree(copy.output / "lacking", copy.output / "gone")
    record = copy.output / cohort.subject / "prepare.json"
    before = record.stat().st_mtime_ns
    (copy.output / ".prepare/someone.unfinished/new").mkdir(parents=True)
    result = copy.repeat()
    assert "0 new, 2 done before, 1 failed" in result.stdout
    assert record.stat().st_mtime_ns == before
    assert not (copy.output / ".prepare").exists()
    line = f"warning: datalist.json lacks subjects of earlier runs in {copy.output}: gone"
    assert line in result.stderr.splitlines()


def test_a_wrong_brain_is_left_out_when_it_is_prepared_and_what_fails_later_leaves_the_readers(
    cohort, run_prepare, tmp_path
):
    """A given mask of half a brain, accepted; then a scan that cannot be read any more. Its orientation is remarked."""
    raw, output = tmp_path / "raw/P1", tmp_path / "made"
    raw.mkdir(parents=True)
    mirrored = nibabel.load(cohort.folder / "raw/lacking/scan_T1w.nii.gz")
    mirrored.set_sform(mirrored.affine, 1)
    mirrored.set_qform(mirrored.affine @ np.diag([-1, 1, 1, 1]), 1)
    nibabel.save(mirrored, raw / "P1_T1.nii.gz")
    scan = read_volume(raw / "P1_T1.nii.gz")
    half = brain_of(scan)
    half[half.shape[0] // 2 :] = False
    nibabel.save(nibabel.Nifti1Image(half.astype(np.uint8), scan.affine), raw / "P1_brain.nii.gz")
    options = [f"--root={tmp_path / 'raw'}", f"--output={output}", "--like=ukb", "--modalities=T1", "--spacing=4"]
    options += ["--brain=*_brain.nii.gz"]
    result = run_prepare(*options)
    assert (result.returncode, "1 outside limits" in result.stdout) == (1, True)
    assert "P1: remark: " in result.stdout
    assert "sform and qform (" in result.stdout
    assert not (output / "P1").exists()
    made = next(output.rglob("P1_T1.nii.gz"))
    whole = made.read_bytes()
    made.write_bytes(whole[:-100])
    result = run_prepare(*options, "--accept=P1")
    made = output / "P1/P1_T1.nii.gz"
    assert (made.read_bytes() == whole, "1 new" in result.stdout) == (True, True), "a damaged file is made again"
    assert (result.returncode, "0 outside limits" in result.stdout) == (0, True)
    (raw / "P1_T1.nii.gz").write_bytes(b"")
    result = run_prepare(*options)
    assert result.returncode == 1
    assert not (output / "P1").exists()
    assert json.loads((output / "datalist.json").read_text())["testing"] == []
