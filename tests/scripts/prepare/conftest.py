"""Moved subjects of the embedded cohort at 4 mm, and what the command makes of them."""

import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from tests.scripts.prepare.moved_heads import TRUTH, make_raw
from tests.support import execute


def prepare(*arguments, **environment):
    return execute([sys.executable, "-m", "scripts.prepare", *arguments], **environment)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Subjects prepared by the command: one like UK Biobank's, one that lacks its FLAIR, one with another label map.

    `ball` tells which voxels of a grid are in the label 3 that was drawn on the scan of the second, `lacking`.
    """
    folder = tmp_path_factory.mktemp("prepare")
    subject = make_raw("ukb", 0, folder, seed=4, spacing=4.0)
    scan = nibabel.load(folder / f"raw/{subject}/{subject}_T1.nii.gz")
    centre = apply_affine(scan.affine, np.array(scan.shape) / 2)

    def ball(affine, shape):
        points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        return np.linalg.norm(points - centre, axis=-1) < 40

    drawn = nibabel.Nifti1Image(3 * ball(scan.affine, scan.shape).astype(np.uint8), scan.affine)
    other = nibabel.Nifti1Image(np.ones((5, 6, 7), np.uint8), np.eye(4))
    for name, labels in (("lacking", drawn), ("broken", other)):
        (folder / "raw" / name).mkdir()
        nibabel.save(scan, folder / f"raw/{name}/scan_T1w.nii.gz")
        nibabel.save(labels, folder / f"raw/{name}/scan_T1w_seg.nii.gz")
    options = [f"--root={folder / 'raw'}", f"--output={folder / 'out'}", "--labels=seg", "--missing=keep"]
    options += ["--like=ukb", "--spacing=4"]
    result = prepare(*options)
    with np.load(folder / TRUTH / f"{subject}.npz") as truth:
        known = dict(truth)
    return SimpleNamespace(folder=folder, subject=subject, truth=known, options=options, result=result, ball=ball)


@pytest.fixture(scope="session")
def run_prepare():
    return prepare
