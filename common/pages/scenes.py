"""Prepare the volumes of a case for drawing, in RAS orientation; damaged images are left out."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..components import box_of
from ..data.volumes import axes_of, canonical, open_volume, read_voxels
from ..inference.panels import grey_levels
from ..metrics.measures import spacing_of

SAME_GRID = 0.01  # mm, tolerance between the affines of image and label map
DARK = 8  # highest grey level of the background
SURROUNDING = 3  # voxels, width of the shell around a mask for contrast
MARGIN = 20.0  # mm, margin around the masks if there are no images; otherwise two voxels around the head


def read_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Read a file's first volume, reoriented to RAS: voxels [x, y, z] and affine (mm); None for a damaged file."""
    try:
        scan = open_volume(path)
        voxels, affine = canonical(read_voxels(scan, path, np.float32), scan.affine)
    except Exception:  # the header checks report damaged files
        return None
    spacing = nibabel.affines.voxel_sizes(affine)
    if voxels.ndim < 3 or not voxels.size or not (np.isfinite(spacing) & (spacing > 0)).all():
        return None
    return voxels.reshape(*voxels.shape[:3], -1)[..., 0], affine


class Scene(NamedTuple):
    """Masks and images of a case in RAS orientation, cropped to the head and the masks.

    Attributes:
        masks: Masks by layer (prediction, reference) and region.
        images: Images by modality.
        faults: Reasons why images are left out, one sentence for each.
        affine: Matrix [4, 4] that maps voxels to mm.
        to_scene: Matrix [4, 4] that maps voxels of the original label map to voxels of the scene.
    """

    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]]
    images: Mapping[str, NDArray[np.float32]]
    faults: Sequence[str]
    affine: NDArray[np.float64]
    to_scene: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.union.shape

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel spacing, mm."""
        return np.array(spacing_of(self.affine))

    @property
    def union(self) -> NDArray[np.bool_]:
        """All masks together."""
        return np.logical_or.reduce([mask for regions in self.masks.values() for mask in regions.values()])

    def background(self, mask: NDArray[np.bool_], preferred: str | None = None) -> str | None:
        """Return the name of the preferred image or, without it, of the image in which the mask has the most contrast.

        Contrast is the difference between the means inside and around the mask, in standard deviations of the image's
        non-zero voxels. For an empty mask, return the first image; without images, None.
        """
        if preferred in self.images:
            return preferred
        box = box_of(mask, SURROUNDING + 1)
        inside = mask[box]
        around = ndimage.binary_dilation(inside, iterations=SURROUNDING) & ~inside

        def contrast(name: str) -> float:
            part = self.images[name][box]
            means = [part[area & (part != 0)] for area in (inside, around)]
            spread = float(self.images[name][self.images[name] != 0].std())
            return abs(float(means[0].mean() - means[1].mean())) / spread if all(map(len, means)) and spread else 0.0

        return max(self.images, key=contrast, default=None)


def scene_of(
    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    affine: NDArray[np.float64],
    images: Iterable[tuple[str, Path]],
) -> Scene:
    """Read the images of a case; reorient and crop images and masks alike. Masks [x, y, z] have `affine`."""
    orientation = axes_of(affine)
    shape = next(iter(next(iter(masks.values())).values())).shape
    canonical = affine @ nibabel.orientations.inv_ornt_aff(orientation, shape)
    layers = {
        layer: {region: nibabel.orientations.apply_orientation(mask, orientation) for region, mask in regions.items()}
        for layer, regions in masks.items()
    }
    volumes, faults = {}, []
    head = Scene(layers, {}, (), canonical, affine).union
    for name, path in images:
        volume = read_volume(path)
        if volume is None:
            faults.append(f"{name} cannot be read and is not shown.")
        elif volume[0].shape != head.shape or not np.allclose(volume[1], canonical, atol=SAME_GRID):
            faults.append(f"{name} is on a different grid and is not shown.")
        else:
            volumes[name] = volume[0]
    for voxels in volumes.values():
        head = head | (grey_levels(voxels) > DARK)
    margin = np.full(3, 2) if volumes else np.ceil(MARGIN / np.array(spacing_of(canonical))).astype(int)
    sides = box_of(head) if head.any() else tuple(slice(0, side) for side in head.shape)
    box = tuple(slice(max(0, side.start - reach), side.stop + reach) for side, reach in zip(sides, margin, strict=True))
    cropped = {layer: {region: mask[box] for region, mask in regions.items()} for layer, regions in layers.items()}
    canonical = canonical @ nibabel.affines.from_matvec(np.eye(3), [side.start for side in box])
    drawn = {name: voxels[box] for name, voxels in volumes.items()}
    return Scene(cropped, drawn, faults, canonical, np.linalg.inv(canonical) @ affine)
