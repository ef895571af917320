"""Cohorts on disk: grids, positions, contrasts, fixed figures, and refused options."""

import nibabel as nib
import numpy as np
import pytest

from scripts.phantoms.cohort import make

SPACING = 4  # mm
FIGURES = {  # number of nonzero voxels, mean and SD of the first subject's files at 4 mm, seed 1
    ("atlas", "2NLin2009aSym_T1w.nii.gz"): (141571, 168.9492, 202.7303),
    ("brats", "aTS2021_00000_seg.nii.gz"): (744, 0.0127, 0.1891),
    ("ukb", "LAIR_brain_to_MNI.nii.gz"): (31409, 136.5065, 235.3585),
}


def _files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _voxels(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize(("layout", "name"), FIGURES)
def test_the_cohorts_are_what_they_were(tmp_path, layout, name):
    make(layout, 1, tmp_path / "out", spacing=4, seed=1, workers=1)
    (path,) = (tmp_path / "out").rglob(f"*{name}")
    content = _voxels(path).astype(float)
    figures = (np.count_nonzero(content), content.mean(), content.std())
    expected = FIGURES[layout, name]
    assert figures == pytest.approx(expected, rel=1e-3, abs=1e-4)  # processors differ in rounding


def test_the_same_seed_gives_the_same_bytes_on_two_workers(cohorts, tmp_path):
    for name, seed in (("same", 0), ("other", 1)):
        make("brats", 2, tmp_path / name, spacing=SPACING, seed=seed, workers=2)
    for file in _files(tmp_path / "same"):
        made = (tmp_path / "same" / file).read_bytes()
        assert made == (cohorts / "brats" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()
