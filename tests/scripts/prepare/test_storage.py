"""A head prepared from files that store it in different ways."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scripts.prepare import subject
from scripts.prepare.volumes import Volume
from tests.support import oblique

EDGES = np.diag([1.5, 2.0, 3.0, 1.0])
STORED = [("RAS", 0), ("LPS", 0), ("PIR", 0), ("SAL", 0), ("ILA", 0), ("ASR", 0), ("RAS", 5), ("PIR", 20)]  # degrees


def stored(scan, axes, degrees):
    """A scan with permuted and flipped axes and a header turned about a point, in float32 as in a file; by nibabel."""
    order = nibabel.orientations.axcodes2ornt(axes)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix()
    turn[:3, 3] = [12, -7, 31]
    affine = turn @ scan.affine @ nibabel.orientations.inv_ornt_aff(order, scan.array.shape)
    return Volume(nibabel.orientations.apply_orientation(scan.array, order), affine.astype(np.float32).astype(float))


@pytest.mark.parametrize("way", STORED[1:], ids=str)
def test_a_head_is_prepared_alike_however_it_is_stored(monkeypatch, way):
    """Registrations are replaced by their starts, and get the same voxels; a turned header differs by its rounding."""
    seen = []

    def start_of(fixed, moving, dof, inside, starts):
        seen.extend((fixed, moving))
        return starts[0]

    noise = np.random.default_rng(0).normal(size=(90, 80, 50))
    head = ndimage.gaussian_filter(noise, 3).astype(np.float32)
    mask = np.zeros(head.shape, bool)
    mask[20:60, 15:70, 10:40] = True
    monkeypatch.setattr(subject, "register", start_of)
    monkeypatch.setattr(subject, "foreground", lambda scan: scan.array > 0)
    settings = subject.Settings("brats", ("FLAIR", "T2"), "*_mask.nii.gz", 4.0)
    reference = Volume(head, EDGES)
    other = Volume(np.ascontiguousarray(head[:, ::-1]), oblique((3.0, -4.0, 5.0)))
    prepared = []
    for axes, degrees in (STORED[0], way):
        scans = {"FLAIR": stored(reference, axes, degrees), "T2": stored(other, axes, degrees)}
        inside = stored(Volume(mask, EDGES), axes, degrees).array
        prepared.append((scans, subject.prepare_subject(scans, settings, inside)))
    (scans, first), (others, second) = prepared
    half = len(seen) // 2
    for plain, turned in zip(seen[:half], seen[half:], strict=True):
        np.testing.assert_array_equal(turned.array, plain.array)
        np.testing.assert_allclose(turned.affine, plain.affine, rtol=0, atol=1.1e-3 if way[1] else 0)
    np.testing.assert_array_equal(second.brain, first.brain)
    points = np.argwhere(first.brain)[::50] @ settings.grid.affine[:3, :3].T + settings.grid.affine[:3, 3]
    for modality in settings.modalities:
        np.testing.assert_allclose(second.images[modality].array, first.images[modality].array, atol=1e-4)
        back = nibabel.orientations.inv_ornt_aff(
            nibabel.orientations.axcodes2ornt(way[0]), scans[modality].array.shape
        )  # from voxels as stored to those of the first
        voxels = [
            nibabel.affines.apply_affine(
                to @ np.linalg.inv(volumes[modality].affine) @ result.matrices[modality], points
            )
            for to, volumes, result in ((np.eye(4), scans, first), (back, others, second))
        ]
        np.testing.assert_allclose(voxels[1], voxels[0], atol=1e-3)


@pytest.mark.parametrize(("thick", "margin"), [((1.0, 1.0), 0), ((1.0, 3.0), 0), ((3.0, 4.0), 4), ((6.0, 6.0), 5)])
def test_a_mask_has_a_margin_if_both_scans_have_thick_slices(monkeypatch, thick, margin):
    """The brain is a ball of radius 20 mm, and slices lie across x; along z voxels have 1 mm."""
    masks = []
    monkeypatch.setattr(subject, "register", lambda fixed, moving, dof, mask, starts: masks.append(mask) or starts[0])
    monkeypatch.setattr(subject, "foreground", lambda scan: scan.array > 0)
    scans = {}
    for modality, edge in zip(("FLAIR", "T2"), thick, strict=True):
        x, y, z = np.ogrid[-30:30:edge, -30:30, -30:30]
        scans[modality] = Volume((x**2 + y**2 + z**2 <= 400).astype(np.float32), np.diag([edge, 1, 1, 1]))
    settings = subject.Settings("brats", ("FLAIR", "T2"), "*_mask.nii.gz", 4.0)
    subject.prepare_subject(scans, settings, scans["FLAIR"].array > 0)
    assert masks[-1].any(axis=(0, 1)).sum() == 41 + 2 * margin
