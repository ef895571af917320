"""`scripts.intensities`: its scans against the files of the same subject, its figures against plain arithmetic."""

import re
import shutil

import numpy as np
import pytest

from common.data.volumes import write_volume
from common.errors import InputError
from scripts import intensities


@pytest.fixture(scope="module")
def heads():
    return list(intensities.scans("ukb", False, 4.0, (0, 0)))


def test_the_scale_of_tissue_is_that_of_its_z_scores(heads):
    case = heads[0]
    for counted in (case.image != 0, case.brain):
        z = (case.image - case.image[counted].mean()) / case.image[counted].std()
        expected = z[case.tissue].mean(), z[case.tissue].std()
        assert intensities.tissue_scale(case, counted) == pytest.approx(expected, abs=1e-3)


def test_the_command_prints_a_row_for_each_cohort_and_modality(capsys):
    intensities.main(subjects=1, spacing=4)
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title == "| cohort | modality | nonzero | otsu | brain | truth |"
    assert len(rows) == 2 + 4 + 1 + 1 + 2 + 4
    figures = {tuple(row.split(" | ")[:2]): [float(x) for x in re.findall(r"([+-]\d\.\d+) ±", row)] for row in rows}
    for (cohort, _), (nonzero, _, brain, truth) in figures.items():
        assert brain == pytest.approx(truth, abs=0.25)
        assert (nonzero == brain) == cohort.endswith("brain")
        assert np.isfinite([nonzero, brain, truth]).all()


def test_own_heads_are_held_against_their_masks(tmp_path, capsys, heads):
    for number, case in enumerate(heads):
        for name, voxels in ((case.modality, case.image), ("brain", case.brain.astype(np.uint8))):
            write_volume(tmp_path / f"{number}/S{number}_{name}.nii.gz", voxels, np.diag([-4.0, 4, 4, 1]))
    shutil.copytree(tmp_path / "0", tmp_path / ".left_out/S0")
    intensities.main(root=str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "heads: 1", "the FLAIR is another subject's, and hidden folders do not count"
    assert float(re.search(r"worst ([0-9.]+)", lines[1])[1]) > 0.95
    mean, deviation = (float(re.search(r"largest ([0-9.]+)%", line)[1]) for line in lines[2:4])
    assert mean < 5
    assert 0 < deviation < 10
    (tmp_path / "0/S0_brain.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no such files; expected SUBJECT_T1\.nii\.gz and SUBJECT_brain\.nii\.gz"):
        intensities.main(root=str(tmp_path))
    with pytest.raises(InputError, match="no such folder; expected a folder of heads with masks"):
        intensities.main(root=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"--mask=\*: expected the words that end file names"):
        intensities.main(root=str(tmp_path), mask="*")
    for mask, message in ((heads[0].brain, "on another grid"), (0 * heads[0].brain, "no voxel above 0")):
        affine = np.diag([-4.0, 4, 4, 1]) + (40 if mask.any() else 0) * np.eye(4, k=3)
        write_volume(tmp_path / "0/S0_brain.nii.gz", mask.astype(np.uint8), affine)
        with pytest.raises(InputError, match=message):
            intensities.main(root=str(tmp_path))
