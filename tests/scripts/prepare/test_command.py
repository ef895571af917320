"""The command on the embedded cohort, whose positions are known; the fixture `cohort` runs it."""

import json
import re
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the field's name for it

from common.errors import InputError
from common.inference.cases import find_cases
from common.metrics.measures import dice
from scripts.datalists.__main__ import generic
from scripts.layouts.paths import Naming
from scripts.layouts.reading import read_layout
from scripts.prepare.__main__ import back
from scripts.prepare.brain import brain_of
from scripts.prepare.cohort import LEFT_OUT, read_record
from scripts.prepare.settings import find_subjects
from scripts.prepare.volumes import read_volume
from tests.scripts.prepare.conftest import OPTIONS, ball, prepare
from tests.scripts.prepare.moved_heads import errors

RAW = "raw/lacking/scan_T1w.nii.gz"


def test_modalities_are_registered_to_less_than_a_voxel(cohort):
    """Voxels have 4 mm and the FLAIR's slices 8; before, the brain's points are centimetres off."""
    start = cohort.truth["motion_T1"][:3, 3] - cohort.truth["motion_FLAIR"][:3, 3]
    assert np.linalg.norm(start) > 5
    record = read_record(cohort.folder / "out" / cohort.subject)
    assert np.percentile(errors(record, cohort.truth, "FLAIR"), 95) < 3


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


def test_the_matrix_of_the_record_resamples_the_raw_scan_to_the_result(cohort):
    """By SimpleITK alone, as any ITK tool would: one resampling, by the composed transform."""
    folder, name = cohort.folder / "out" / cohort.subject, f"{cohort.subject}_FLAIR"
    raw = sitk.ReadImage(str(cohort.folder / "raw" / cohort.subject / f"{name}.nii.gz"), sitk.sitkFloat32)
    result = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
    brain = sitk.ReadImage(str(folder / f"{cohort.subject}_brain_mask.nii.gz"))
    flip = np.diag([-1.0, -1, 1, 1])  # SimpleITK uses LPS+
    matrix = flip @ np.array(read_record(folder)["transforms"]["FLAIR"]["matrix"]) @ flip
    transform = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
    again = sitk.Resample(raw, result, transform, sitk.sitkLinear)
    inside = sitk.GetArrayFromImage(brain) > 0
    difference = sitk.GetArrayFromImage(again)[inside] - sitk.GetArrayFromImage(result)[inside]
    assert np.abs(difference).max() < 0.1, "of 1000; a prepared scan's affine is rounded to 1/1024 mm"


def test_a_label_map_goes_to_the_template_and_back_but_not_to_a_changed_scan(cohort, tmp_path, capsys):
    folder = cohort.folder / "out/lacking"
    brought, raw = (nibabel.load(file) for file in (folder / "lacking_seg.nii.gz", cohort.folder / RAW))
    voxels = np.asarray(brought.dataobj)
    assert set(np.unique(voxels)) == {0, 3}
    record = read_record(folder)
    to_scan = np.array(record["transforms"]["T1"]["matrix"]) @ brought.affine
    assert dice(voxels == 3, ball(raw, to_scan, voxels.shape)) > 0.97
    (tmp_path / "maps").mkdir()
    shutil.copy(folder / "lacking_seg.nii.gz", tmp_path / "maps/lacking.nii.gz")
    back(str(cohort.folder / "out"), str(tmp_path / "maps"), str(tmp_path / "back"))
    again = nibabel.load(tmp_path / "back/lacking.nii.gz")
    np.testing.assert_allclose(again.affine, raw.affine, atol=1e-4)
    assert dice(np.asarray(again.dataobj) == 3, ball(raw, again.affine, again.shape)) > 0.95
    shutil.copytree(folder, tmp_path / "changed/lacking")
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    record["sources"]["T1"]["file"] = str(tmp_path / "scan.nii.gz")
    (tmp_path / "changed/lacking/prepare.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        back(str(tmp_path / "changed"), str(tmp_path / "maps"), str(tmp_path / "other"))
    assert "scan.nii.gz: changed since it was prepared" in capsys.readouterr().out


def test_a_subject_that_fails_is_one_line_and_the_others_are_ready_for_inference(cohort):
    output = cohort.folder / "out"
    assert cohort.status == 1
    assert "2 new, 0 done before, 1 failed (broken), 0 outside limits" in cohort.output
    assert "seg.nii.gz: not on the grid of a scan; expected the grid of T1\n" in cohort.output
    assert "Traceback" not in cohort.errors
    assert not (output / "broken").exists()
    for datalist in (output / "datalist.json", None):
        first, second = find_cases(output, ["T1", "FLAIR"], datalist)
        assert (first["subject"], second["subject"]) == (cohort.subject, "lacking")
        assert [path.rsplit("_", 1)[1] for path in first["image"]] == ["T1.nii.gz", "FLAIR.nii.gz"]
        assert second["image"][1] is None


def test_scans_prepared_for_two_spaces_become_no_datalist(cohort, tmp_path):
    shutil.copytree(cohort.folder / "out", tmp_path / "mixed")
    record = tmp_path / "mixed/lacking/prepare.json"
    record.write_text(record.read_text().replace('"ukb"', '"brats"'))
    (tmp_path / "regions.yaml").write_text("lesion: [3]")
    files = [str(tmp_path / name) for name in ("mixed", "own.json", "regions.yaml")]
    with pytest.raises(InputError, match="prepared for brats and ukb"):
        generic(*files, modalities="T1", testing="all")


def subjects_of_readers(output):
    """Yield the subjects that each reader finds: with the datalist, without, and `datalists generic`."""
    for datalist in (output / "datalist.json", None):
        yield [case["subject"] for case in find_cases(output, ["T1", "FLAIR"], datalist)]
    yield sorted(read_layout(output, Naming(("T1", "FLAIR"))).subjects)


def test_a_subject_outside_its_limits_is_left_out_until_it_is_included(cohort, tmp_path):
    """No reader finds it meanwhile; included, it stays so, and the user's own files stay with it."""
    output = tmp_path / "out"
    shutil.copytree(cohort.folder / "out", output)
    hidden = output / LEFT_OUT / "lacking"
    (output / "lacking").rename(hidden)
    record = read_record(hidden)
    record["figures"]["subject"]["overlap"] = 0.9
    (hidden / "prepare.json").write_text(json.dumps(record))
    (hidden / "notes.txt").write_text("mine")
    options = (f"--root={cohort.folder / 'raw'}", f"--output={output}", *OPTIONS)
    for more, is_left_out in (((), True), (("--include=lacking",), False), ((), False)):
        result = prepare(*options, *more)
        assert result.returncode == 1, "broken fails"
        assert f"overlap 0.9; expected 0.925 to 1; {'left out' if is_left_out else 'included'}\n" in result.stdout
        assert f"0 new, 2 done before, 1 failed (broken), {is_left_out:d} outside limits" in result.stdout
        names = [cohort.subject] if is_left_out else [cohort.subject, "lacking"]
        assert all(found == names for found in subjects_of_readers(output))
        assert ((hidden if is_left_out else output / "lacking") / "notes.txt").read_text() == "mine"
        pictures = re.findall(r'src="(\S+\.png)"', (output / "overview.html").read_text())
        assert len([picture for picture in pictures if (output / picture).is_file()]) == 2


def test_a_wrong_brain_is_left_out_and_a_scan_that_fails_later_leaves_the_readers(cohort, tmp_path):
    """A mask of half a brain, accepted; then a scan that cannot be read any more. Its orientation is ambiguous."""
    raw, output = tmp_path / "raw/P1", tmp_path / "made"
    raw.mkdir(parents=True)
    mirrored = nibabel.load(cohort.folder / RAW)
    mirrored.set_sform(mirrored.affine, 1)
    mirrored.set_qform(mirrored.affine @ np.diag([-1, 1, 1, 1]), 1)
    nibabel.save(mirrored, raw / "P1_T1.nii.gz")
    scan = read_volume(raw / "P1_T1.nii.gz")
    half = brain_of(scan)
    half[half.shape[0] // 2 :] = False
    nibabel.save(nibabel.Nifti1Image(half.astype(np.uint8), scan.affine), raw / "P1_brain.nii.gz")
    options = [f"--root={tmp_path / 'raw'}", f"--output={output}", "--like=ukb", "--modalities=T1", "--spacing=4"]
    options += ["--brain=*_brain.nii.gz"]
    drawn = output / LEFT_OUT / "P1/P1_lesion.nii.gz"  # by hand, on an earlier result
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes(b"mine")
    result = prepare(*options)
    assert (result.returncode, "1 outside limits" in result.stdout) == (1, True)
    assert re.search(r"P1: remark: .* sform and qform ", result.stdout)
    assert "agreement 0.6" in result.stdout, "with the brain that deepbet finds in the mirrored scan"
    assert "P1: P1_lesion.nii.gz was renamed" in result.stdout
    assert [file.read_bytes() for file in drawn.parent.glob("P1_lesion.nii-*.gz")] == [b"mine"]
    assert not (output / "P1").exists()
    result = prepare(*options, "--include=P1")
    assert (result.returncode, (output / "P1/P1_T1.nii.gz").is_file()) == (0, True)
    (raw / "P1_T1.nii.gz").write_bytes(b"")
    assert prepare(*options).returncode == 1
    assert not (output / "P1").exists()
    assert json.loads((output / "datalist.json").read_text())["testing"] == []


def test_two_files_of_a_modality_need_a_pattern_and_label_maps_are_no_scans(tmp_path):
    for file in ("a/run-1_T1w.nii.gz", "a/run-2_T1w.nii.gz", "b/b_T1.nii.gz", "b/b_T1_seg.nii.gz"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    a, b = find_subjects(tmp_path, ["T1"], {})
    assert "two files for the T1 of a: a/run-1_T1w.nii.gz and a/run-2_T1w.nii.gz; " in a.fault
    assert (b.files["T1"].name, b.labels.name) == ("b_T1.nii.gz", "b_T1_seg.nii.gz")
    assert find_subjects(tmp_path, ["T1"], {"T1": "run-2_*"})[0].files["T1"].name == "run-2_T1w.nii.gz"
