"""Prepare a study's scans for the model (`--prepare`), or check that they are prepared.

The models produce plausible but wrong masks on scans that are not registered or, for BraTS models, not skull-stripped.
The limits come from `common.data.preparation` and `scripts.prepare`; README.md lists them under "Preconditions".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from common.data.preparation import OVERLAP, SPACING, WITHOUT_SKULL, brain_overlap, litres, measure, skull_in
from common.errors import InputError
from deploy.bundle import Bundle
from deploy.dicom.series.choice import Remark
from deploy.dicom.study import Series
from deploy.source_header import burned_in_annotation, sanitised_header
from scripts.prepare.brain import brain_of, template_overlap
from scripts.prepare.settings import DEEPBET, Settings
from scripts.prepare.subject import LIMITS, Figures, prepare_subject
from scripts.prepare.volumes import Grid, Volume, check_scan, field_of_view, labels_on, mask_on

LEAST = 0.5  # least volume of a brain, litres
COVERAGE = LIMITS["coverage"][0]
COVERED = 0.95  # least share of the reference's brain that a series prepared elsewhere must cover
LEAST_EXTENT = 100.0  # mm, least length of a brain along each axis; adult brains: 110 to 190
LOST = 3  # most end slices missing from a damaged export, compared with a series on the same grid
IN_MNI = LIMITS["overlap"][0]


@dataclass(frozen=True)
class Preparation:
    """A finished preparation: description, grid, quality figures, and the transform back to the reference."""

    description: str
    grid: Grid
    figures: Figures
    back: NDArray[np.float64]  # [4, 4] from mm of the reference series to mm of the prepared scans, RAS+

    @property
    def failed(self) -> list[str]:
        """A sentence for each scan that covers too little of the brain."""
        return [
            f"{modality}: shows {values['coverage']:.0%} of a brain; expected a whole brain"
            for modality, values in self.figures.modalities.items()
            if values["coverage"] < COVERAGE
        ]

    @property
    def remarks(self) -> list[Remark]:
        """A remark on the preparation, and one for each quality figure outside its limits."""
        remarks = [Remark("prepared", f"scans prepared by this application: {self.description}")]
        for row in self.figures.outside():
            remarks.append(Remark("coverage" if row.name == "coverage" else "quality", f"preparation: {row}"))
        return remarks

    def segments_on(self, grid: Grid, segments: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resample segments of the prepared scans to a grid in the original space of the reference series."""
        return labels_on(Volume(segments, self.grid.affine), grid, self.back).array


def prepare_scans(
    volumes: Mapping[str, Volume], series: Mapping[str, Series], bundle: Bundle, reference: str
) -> tuple[dict[str, Volume], Preparation]:
    """Register a study's scans to the T1, extract the brain if the model expects that, and resample them.

    The voxel edge is the shortest in training, limited to 1 to 4 mm. `reference` only sets the grid of the result.
    """
    for modality, volume in volumes.items():
        check_scan(volume, series[modality].name)
    brain, spacing = DEEPBET if bundle.skull_stripped else "none", min(max(1.0, bundle.spacing[0]), 4.0)
    settings = Settings(bundle.space, tuple(volumes), brain, spacing)
    try:
        prepared = prepare_subject(volumes, settings)
    except InputError as error:
        raise InputError(f"--prepare: {error}") from error
    back = np.asarray(np.linalg.inv(prepared.matrices[reference]), np.float64)
    description = settings.describe(prepared.is_stripped)
    return dict(prepared.images), Preparation(description, settings.grid, prepared.figures, back)


def failed_checks(
    volumes: Mapping[str, Volume],
    aligned: Mapping[str, Volume],
    reference: str,
    skull_stripped: bool,
    in_mni_space: bool,
) -> list[str]:
    """Return a sentence for each unmet precondition of the model.

    `volumes` are the scans as acquired, or prepared; `aligned` are the same scans on the grid of the reference. Models
    for skull-stripped brains also require registered modalities.
    """
    failed = [text for modality in volumes for text in _check_foreground(modality, volumes[modality], skull_stripped)]
    if skull_stripped:  # alignment is measured on brains
        target = aligned[reference]
        for modality in [name for name in volumes if name != reference]:
            failed += _check_alignment(modality, volumes[modality], reference, target)
    if in_mni_space:
        failed += _check_mni(reference, volumes[reference], skull_stripped)
    return failed


def damaged_series(slices: Mapping[str, Sequence[Dataset]], volumes: Mapping[str, Volume]) -> list[str]:
    """Return a sentence for each modality with missing slices, text in its images, or the voxels of a different one.

    Slices are missing by the headers or by a series on the same grid; unequal distances were refused earlier.
    ImagesInAcquisition counts all echoes, so a multiple of the number of images is accepted. If every second slice is
    missing, the slice distance is twice SpacingBetweenSlices. Some writers store the gap between slices in that
    attribute; their SliceThickness exceeds it. The models were trained on images without text, and the summary would
    show the text, which may name the patient.
    """
    failed = []
    for modality, images in slices.items():
        stated = max(int(image.get("ImagesInAcquisition") or 0) for image in images)
        distance, spacing = volumes[modality].spacing[2], float(images[0].get("SpacingBetweenSlices") or math.inf)
        stride = round(distance / spacing)
        thickness = float(sanitised_header(images[0]).get("SliceThickness") or 0)
        is_gap = not 0 < thickness < 1.01 * spacing and stated != stride * len(images)
        if stated > len(images) and stated % len(images):
            failed.append(f"{modality}: {len(images)} of {stated} images (ImagesInAcquisition)")
        elif stride > 1 and abs(distance / spacing - stride) < 0.02 and not is_gap:
            failed.append(f"{modality}: slices {distance:.2f} mm apart, {spacing:.2f} mm by SpacingBetweenSlices")
        for other in [name for name in volumes if name != modality]:
            if lost := _lost_at_the_ends(volumes[modality].grid, volumes[other].grid):
                failed.append(f"{modality}: lacks end slices that {other} has on the same grid: {lost}")
        if burned_in_annotation(images) == "YES":
            failed.append(f"{modality}: text is burned into its images, and would show in the summary")
    for first, other in combinations(volumes, 2):
        if np.array_equal(volumes[first].array, volumes[other].array):
            failed.append(f"{first} and {other} have the same voxels")
    return failed


def _lost_at_the_ends(grid: Grid, other: Grid) -> int:
    """Return how many end slices (1 to `LOST`) a grid lacks compared with an otherwise equal grid; else 0."""
    lost = other.shape[2] - grid.shape[2]
    if not 0 < lost <= LOST:
        return 0
    shifts = (from_matvec(np.eye(3), [0, 0, first]) for first in range(lost + 1))
    parts = (Grid((*other.shape[:2], grid.shape[2]), other.affine @ shift) for shift in shifts)
    return lost if any(grid.is_same(part) for part in parts) else 0


def spacing_remarks(volume: Volume, trained: tuple[float, float]) -> list[Remark]:
    """Return a remark if a voxel edge is outside the range `trained` (mm) by a factor above `SPACING`, else none."""
    edges = volume.spacing
    low, high = trained
    if edges.min() >= low / SPACING and edges.max() <= high * SPACING:
        return []
    expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    size = " x ".join(f"{edge:.2f}" for edge in edges)
    return [Remark("spacing", f"voxels of {size} mm; the model was trained on {expected} mm")]


def _check_foreground(modality: str, volume: Volume, skull_stripped: bool) -> list[str]:
    content = litres(volume.array != 0, volume.spacing.tolist())
    size = f"{modality}: its foreground fills {content:.1f} L"
    if content < LEAST:
        return [f"{size}, less than a brain"]
    measured = measure(volume.array[None], volume.affine)
    if (shortest := min(measured["extent"][0])) < LEAST_EXTENT:
        return [f"{modality}: shows {shortest:.0f} mm of a head along one axis; expected a whole brain"]
    has_no_skull = skull_in(measured) == WITHOUT_SKULL
    if skull_stripped and not has_no_skull:
        return [f"{size} and {measured['air'][0]:.0%} of the volume's border: not skull-stripped"]
    if has_no_skull and not skull_stripped:
        return [f"{size}, no more than a brain: skull-stripped, but the model was trained on whole heads"]
    return []


def _check_alignment(modality: str, volume: Volume, reference: str, target: Volume) -> list[str]:
    brain = target.array != 0
    covered = field_of_view(volume, target.grid)[brain].mean()
    if covered < COVERED:
        return [f"{modality}: covers {covered:.0%} of the brain in {reference}; expected at least {COVERED:.0%}"]
    overlap = brain_overlap(mask_on(Volume(volume.array != 0, volume.affine), target.grid), brain)
    if overlap < OVERLAP:
        brains = f"its brain overlaps the brain in {reference} by {overlap:.2f}"
        return [f"{modality}: {brains}, below {OVERLAP}: not registered"]
    return []


def _check_mni(modality: str, volume: Volume, skull_stripped: bool) -> list[str]:
    """Return a sentence if the brain overlaps the template's brain too little; `--prepare` would register it."""
    try:
        brain = volume.array != 0 if skull_stripped else brain_of(volume)
    except InputError as error:
        return [f"{modality}: {error}"]
    overlap = template_overlap(Volume(brain, volume.affine))
    if overlap < IN_MNI:
        brains = f"its brain overlaps the brain of MNI152 by {overlap:.2f}"
        return [f"{modality}: {brains}, below {IN_MNI}: not in MNI space"]
    return []
