"""Label maps back on the raw grids."""

import nibabel
import numpy as np


def test_the_command_writes_to_the_raw_grid_of_a_modality(cohort, run_prepare, tmp_path):
    prepared = cohort.folder / "out" / cohort.subject
    mask = nibabel.load(prepared / f"{cohort.subject}_brain_mask.nii.gz")
    (tmp_path / "maps").mkdir()
    nibabel.save(mask, tmp_path / f"maps/{cohort.subject}.nii.gz")
    scan = nibabel.load(prepared / f"{cohort.subject}_T1.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata(), mask.affine), tmp_path / "maps/nobody.nii.gz")
    folders = [
        f"--prepared={cohort.folder / 'out'}",
        f"--predictions={tmp_path / 'maps'}",
        f"--output={tmp_path / 'b'}",
    ]
    result = run_prepare("back", *folders, "--modality=FLAIR")
    assert result.returncode == 1
    assert "nobody: " in result.stdout
    assert f"nobody: not among the subjects of {cohort.folder / 'out'}" in result.stdout
    raw = nibabel.load(cohort.folder / "raw" / cohort.subject / f"{cohort.subject}_FLAIR.nii.gz")
    back = nibabel.load(tmp_path / f"b/{cohort.subject}.nii.gz")
    assert back.shape == raw.shape
    np.testing.assert_allclose(back.affine, raw.affine, atol=1e-4)
    truth = cohort.truth
    points = np.argwhere(back.get_fdata() > 0) @ back.affine[:3, :3].T + back.affine[:3, 3]
    expected = truth["points"] @ truth["motion_FLAIR"][:3, :3].T + truth["motion_FLAIR"][:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), expected.mean(axis=0), atol=3)
    nibabel.save(scan, tmp_path / f"maps/{cohort.subject}.nii.gz")
    result = run_prepare("back", *folders)
    assert f"{cohort.subject}.nii.gz: values from 0 to" in result.stdout


def test_a_label_map_on_another_grid_is_refused(cohort, run_prepare, tmp_path):
    (tmp_path / "maps").mkdir()
    other = nibabel.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4))
    nibabel.save(other, tmp_path / f"maps/{cohort.subject}.nii.gz")
    result = run_prepare(
        "back",
        f"--prepared={cohort.folder / 'out'}",
        f"--predictions={tmp_path / 'maps'}",
        f"--output={tmp_path / 'b'}",
    )
    assert result.returncode == 1
    assert "5 x 5 x 5 voxels on another grid; expected the 46 x 55 x 46 of the prepared scans" in result.stdout


def test_what_is_wrong_for_all_is_one_line(cohort, run_prepare, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / f"maps/{cohort.subject}.nii.gz").touch()
    places = [f"--predictions={tmp_path / 'maps'}", f"--output={tmp_path / 'b'}"]
    other = run_prepare("back", f"--prepared={cohort.folder / 'raw'}", *places)
    modality = run_prepare("back", f"--prepared={cohort.folder / 'out'}", "--modality=PDW", *places)
    assert (other.returncode, modality.returncode) == (2, 2)
    assert other.stderr.endswith("raw: no prepared subject; expected the output folder of scripts.prepare\n")
    assert modality.stderr == "error: --modality=PDW: expected one of T1, FLAIR\n"
    assert not (tmp_path / "b").exists()
