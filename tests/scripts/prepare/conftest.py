"""Moved subjects of the embedded cohort at 4 mm, and what the command makes of them."""

import json
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from tests import kept
from tests.scripts.prepare.moved_heads import TRUTH, make_raw
from tests.support import execute

OPTIONS = ("--labels=seg", "--missing=keep", "--like=ukb", "--spacing=4")


def prepare(*arguments):
    return execute([sys.executable, "-m", "scripts.prepare", *arguments])


def ball(scan, affine, shape):
    """Mark the voxels of a grid within 40 mm of a scan's centre."""
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return np.linalg.norm(points - apply_affine(scan.affine, np.array(scan.shape) / 2), axis=-1) < 40


def _make(folder):
    subject = make_raw("ukb", 0, folder, seed=4, spacing=4.0)
    scan = nibabel.load(folder / f"raw/{subject}/{subject}_T1.nii.gz")
    scan.header["descrip"] = b""  # as a scan of a person
    drawn = nibabel.Nifti1Image(3 * ball(scan, scan.affine, scan.shape).astype(np.uint8), scan.affine)
    other = nibabel.Nifti1Image(np.ones((5, 6, 7), np.uint8), np.eye(4))
    for name, labels in (("lacking", drawn), ("broken", other)):
        (folder / "raw" / name).mkdir()
        nibabel.save(scan, folder / f"raw/{name}/scan_T1w.nii.gz")
        nibabel.save(labels, folder / f"raw/{name}/scan_T1w_seg.nii.gz")
    ended = prepare(f"--root={folder / 'raw'}", f"--output={folder / 'out'}", *OPTIONS)
    (folder / "ended.json").write_text(json.dumps([ended.returncode, ended.stdout, ended.stderr]))


@pytest.fixture(scope="session")
def cohort():
    """Three subjects prepared by the command: one of UK Biobank's kind, `lacking` without FLAIR, and `broken`.

    `lacking` has the label 3 in a `ball`, `broken` a label map of another grid. No test changes the folder.
    """
    folder = kept.made("prepared", ("scripts/prepare", "tests/scripts/prepare"), _make)
    (file,) = (folder / TRUTH).iterdir()
    with np.load(file) as truth:
        known = dict(truth)
    status, output, errors = json.loads((folder / "ended.json").read_text())
    return SimpleNamespace(folder=folder, subject=file.stem, truth=known, status=status, output=output, errors=errors)
