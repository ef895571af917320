"""Heads of the embedded cohort with skull, moved at random, each modality alone, and sampled to scanners' grids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from common.data.volumes import MADE_UP, write_volume
from scripts.cohorts import COHORTS
from scripts.phantoms.cohort import grid_of
from scripts.phantoms.heads import HEADS, SEQUENCES, scan
from scripts.prepare.settings import Settings
from scripts.prepare.volumes import Grid

SPACINGS = {"T1": (1.0, 1.0, 1.0), "T1ce": (1.0, 1.0, 1.2), "T2": (0.7, 0.7, 2.0), "FLAIR": (0.8, 0.8, 3.0)}  # mm
THICKEST = 8.0  # mm
FIELD_OF_VIEW = (230.0, 250.0, 200.0)  # mm
TURN, SHIFT = (15.0, 20.0), (10.0, 10.0)  # degrees, mm: largest motion of the head; of a modality relative to it
CENTRE = (0.0, -18.0, 8.0)  # mm, MNI; of the rotations
TRUTH = "truth"  # folder beside the raw scans
EVERY = 50  # of the brain's voxels, one is a point to measure errors at


def make_raw(layout: str, index: int, folder: Path, seed: int = 0, spacing: float = 1.0) -> str:
    """Write the raw scans and the truth of a subject of the embedded cohort; return the subject's name.

    Writes raw/SUBJECT/SUBJECT_MODALITY.nii.gz and truth/SUBJECT.npz. `spacing` is the edge of the phantom's voxels, mm;
    the scans' voxels grow with it.
    """
    kind = COHORTS[layout]
    rng = np.random.default_rng([seed, index])
    head = HEADS[kind.head](rng, grid_of(kind, spacing), False)
    agent, affine = rng.uniform(0.15, 0.4), kind.space.affine(spacing)
    subject = kind.phantom(index)["person"]
    motion = np.random.default_rng([seed, index, 1])
    centre = np.array(CENTRE) + kind.space.mni_origin
    first = _rigid(motion, *TURN, centre)
    middle = apply_affine(first, centre[None])[0]
    reference = Settings(layout, kind.modalities).reference
    motions = {}
    for modality in kind.modalities:
        image = scan(rng, head, SEQUENCES[modality], agent)
        own = np.eye(4) if modality == reference else _rigid(motion, *SHIFT, middle)
        motions[modality] = own @ first
        edges = np.minimum(np.array(SPACINGS[modality]) * spacing, THICKEST)
        x, y, z = (int(size) for size in np.ceil(np.array(FIELD_OF_VIEW) / edges))
        placed = np.diag([-edges[0], -edges[1], edges[2], 1.0])
        placed[:3, 3] = middle - placed[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
        raw = sampled(image, motions[modality] @ affine, Grid((x, y, z), placed))
        path = folder / "raw" / subject / f"{subject}_{modality}.nii.gz"
        write_volume(path, raw.round().astype(np.int16), placed, compresslevel=1, description=MADE_UP)
    chosen = np.flatnonzero(head.depth > 0)[::EVERY]
    (folder / TRUTH).mkdir(exist_ok=True)
    truth: dict[str, Any] = {
        "points": head.positions[:, chosen].T + np.array(kind.space.mni_origin),
    }
    truth |= {f"motion_{modality}": matrix for modality, matrix in motions.items()}
    np.savez_compressed(folder / TRUTH / f"{subject}.npz", **truth)
    return subject


def _rigid(rng: Generator, degrees: float, distance: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """A random rotation around `centre` by up to `degrees` about each axis, and a shift by up to `distance` mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    matrix[:3, 3] = centre + rng.uniform(-distance, distance, 3) - matrix[:3, :3] @ centre
    return matrix


def sampled(image: NDArray[Any], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """An image on another grid, each voxel the mean over its extent (linear interpolation, 0 outside)."""
    matrix = np.linalg.inv(affine) @ grid.affine
    counts = [max(1, round(float(edge))) for edge in np.linalg.norm(matrix[:3, :3], axis=0)]
    total = np.zeros(grid.shape, np.float32)
    for place in np.ndindex(*counts):
        offset = (np.array(place) + 0.5) / counts - 0.5
        start = matrix[:3, 3] + matrix[:3, :3] @ offset
        total += ndimage.affine_transform(
            image.astype(np.float32), matrix[:3, :3], start, grid.shape, order=1, mode="constant"
        )
    return total / np.float32(np.prod(counts))


def errors(record: Mapping[str, Any], truth: Mapping[str, Any], modality: str) -> NDArray[np.float64]:
    """Return the errors in mm of a modality's registration to the T1, at points of the brain."""
    to_t1, to_other = (np.array(record["transforms"][name]["matrix"]) for name in ("T1", modality))
    in_t1, in_other = (apply_affine(truth[f"motion_{name}"], truth["points"]) for name in ("T1", modality))
    found = apply_affine(to_other @ np.linalg.inv(to_t1), in_t1)
    return np.asarray(np.linalg.norm(found - in_other, axis=1))
