"""`scripts.intensities`: its scans against the files of the same subject, its figures against plain arithmetic."""

import re

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
    intensities.main(root=str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "heads: 1", "the FLAIR is another subject's"
    assert float(re.search(r"worst ([0-9.]+)", lines[1])[1]) > 0.95
    assert "within 5%" in lines[2]
    (tmp_path / "0/S0_brain.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no SUBJECT_T1\.nii\.gz beside a SUBJECT_brain\.nii\.gz"):
        intensities.main(root=str(tmp_path))
    write_volume(tmp_path / "0/S0_brain.nii.gz", heads[0].brain[1:].astype(np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"S0_brain\.nii\.gz: expected a mask of a brain on the grid of S0_T1"):
        intensities.main(root=str(tmp_path))
