"""`scripts.intensities`: its scans against the files of the same subject, its figures against plain arithmetic."""

import re

import numpy as np
import pytest

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
