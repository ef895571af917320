"""Cohorts on disk: grids, positions, contrasts, fixed figures, and refused options."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from common.data.cohorts import COHORTS
from common.errors import InputError
from scripts.phantoms.anatomy import add_glioma, make_head
from scripts.phantoms.cohort import grid_of, make
from scripts.phantoms.mr_signal import SEQUENCES, scan

SPACING = 4  # mm
FIGURES = {  # number of nonzero voxels, mean and SD of the first subject's files at 4 mm, seed 1
    ("atlas", "2NLin2009aSym_T1w.nii.gz"): (141571, 168.9492, 202.7303),
    ("brats", "aTS2021_00000_seg.nii.gz"): (744, 0.0127, 0.1891),
    ("ukb", "LAIR_brain_to_MNI.nii.gz"): (31409, 136.5065, 235.3585),
}


@pytest.fixture(scope="module")
def grid():
    return grid_of(COHORTS["atlas"], float(SPACING))


def _files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _voxels(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize(
    ("layout", "shape", "orientation", "dtype", "corner"),
    [
        ("ukb", (182, 218, 182), "LAS", np.int16, (90, -126, -72)),
        ("brats", (240, 240, 155), "LPS", np.int16, (0, 239, 0)),
        ("atlas", (197, 233, 189), "RAS", np.float32, (-98, -134, -72)),
    ],
)
def test_volumes_have_the_grid_of_the_cohort(cohorts, layout, shape, orientation, dtype, corner):
    """The shape at 1 mm is that of the real files."""
    assert COHORTS[layout].space.edges(1.0) == shape
    images = [nib.load(path) for path in sorted((cohorts / layout).rglob("*.nii.gz"))]
    assert {image.shape for image in images} == {tuple(-(-edge // SPACING) for edge in shape)}
    assert {"".join(nib.aff2axcodes(image.affine)) for image in images} == {orientation}
    assert {tuple(image.header.get_zooms()) for image in images} == {(SPACING,) * 3}
    assert {image.get_data_dtype() for image in images} <= {np.dtype(dtype), np.dtype(np.uint8)}
    for image in images:
        np.testing.assert_array_equal(image.affine[:3, 3], corner)
        np.testing.assert_array_equal(image.affine, images[0].affine)
        np.testing.assert_array_equal(image.header.get_qform(), image.header.get_sform())


@pytest.mark.parametrize("layout", ["ukb", "brats", "atlas"])
def test_the_brain_lies_in_the_middle_whatever_the_orientation(cohorts, layout):
    """By the affine, the brain lies where the cohort's space has it."""
    names = {"ukb": "1000049*/T1/*.gz", "brats": "*1_t1.nii.gz", "atlas": "*r001s002_*T1w*"}
    (path,) = (cohorts / layout).rglob(names[layout])
    image = nib.load(path)
    foreground = np.asarray(image.dataobj) > 0.3 * np.percentile(np.asarray(image.dataobj), 99)
    centre = nib.affines.apply_affine(image.affine, np.argwhere(foreground).mean(0))
    expected = np.array([0, -17, 10]) + COHORTS[layout].space.mni_origin
    np.testing.assert_allclose(centre, expected, atol=20)
    assert abs(centre[0] - expected[0]) < 6  # the left half mirrors the right one


@pytest.mark.parametrize(
    ("modality", "necrosis", "oedema", "rim"),
    [("T1", -1, -1, -1), ("T1ce", -1, -1, +1), ("T2", +1, +1, +1), ("FLAIR", 0, +1, +1)],
)
def test_gliomas_look_as_radiology_describes_them(grid, modality, necrosis, oedema, rim):
    """Tissues become clearly darker (-1) or brighter (+1) than before at the same position."""
    rng = np.random.default_rng(5)
    head = make_head(rng, grid, [], skull_stripped=True)
    before = scan(np.random.default_rng(6), head, SEQUENCES[modality], agent=0.25)[head.inside]
    add_glioma(rng, head, np.array([[30, -30, 30]], np.float32))  # mm; white matter
    after = scan(np.random.default_rng(6), head, SEQUENCES[modality], agent=0.25)[head.inside]
    labels = head.labels
    for label, direction in ((1, necrosis), (2, oedema), (4, rim)):
        ratio = np.median(after[labels == label] / before[labels == label])
        assert direction * (ratio - 1) > 0.15 or direction == 0
    np.testing.assert_allclose(np.median(after[labels == 0] / before[labels == 0]), 1, atol=0.01)


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


def test_a_second_run_does_not_write_into_the_folder(tmp_path):
    program = f"from common.locks import claim; claim('output', {str(tmp_path)!r}); print(flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match="in use by process"):
            make("ukb", 1, tmp_path, spacing=SPACING)
        other.communicate(b"\n")
    assert _files(tmp_path) == []
