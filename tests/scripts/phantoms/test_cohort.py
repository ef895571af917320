"""Cohorts on disk: fixed figures, and the same bytes on any number of workers."""

import nibabel as nib
import numpy as np
import pytest

from scripts.phantoms.cohort import make

FIGURES = {  # number of nonzero voxels, mean and SD of the first subject's files at 4 mm, seed 1
    ("atlas", "2NLin2009aSym_T1w.nii.gz"): (141571, 168.9492, 202.7303),
    ("brats", "aTS2021_00000_seg.nii.gz"): (744, 0.0127, 0.1891),
    ("ukb", "LAIR_brain_to_MNI.nii.gz"): (31409, 136.5065, 235.3585),
}


@pytest.mark.parametrize(("layout", "name"), FIGURES)
def test_the_cohorts_are_what_they_were(tmp_path, layout, name):
    make(layout, 1, tmp_path / "out", spacing=4, seed=1, workers=1)
    (path,) = (tmp_path / "out").rglob(f"*{name}")
    content = np.asarray(nib.load(path).dataobj, float)
    figures = (np.count_nonzero(content), content.mean(), content.std())
    assert figures == pytest.approx(FIGURES[layout, name], rel=1e-3, abs=1e-4)  # processors differ in rounding


def test_the_same_seed_gives_the_same_bytes_on_two_workers(cohorts, tmp_path):
    make("brats", 2, tmp_path / "same", spacing=4, workers=2)
    files = [path for path in (tmp_path / "same").rglob("*") if path.is_file()]
    assert len(files) == 10
    for file in files:
        assert file.read_bytes() == (cohorts / "brats" / file.relative_to(tmp_path / "same")).read_bytes()
