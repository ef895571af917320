"""Dictionary transforms that MONAI lacks: load and check a scan, drop modalities, convert labels to regions."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    CropForegroundd,
    InvertibleTransform,
    MapTransform,
    RandCropByLabelClassesd,
    RandomizableTransform,
)
from monai.transforms.utils import correct_crop_centers
from monai.utils import TraceKeys
from nibabel.orientations import inv_ornt_aff

from ..errors import InputError
from .names import check_order
from .preparation import Ranges, differences, fill_volume, measure, refuse, union
from .regions import regions_of
from .volumes import axes_of, check_copies, forms_of, labels_in, read_scan, warn_of_orientation

FORMS = "forms"  # metadata key: grid header (`forms_of`) of an image's first file
MISSING = "missing_modalities"  # metadata key: a bool for each channel, only if a modality is missing


class EachKeyd(MapTransform):
    """Replace the volume of each key by the result of `convert`."""

    convert: Callable[[Any], Any]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, **{key: self.convert(data[key]) for key in self.key_iterator(data)}}


class LoadScand(MapTransform):
    """Load and check images and label maps as float32 [C, H, W, D], all with the affine of the first file.

    A key has a path, or a list with a path for each modality; None, of a missing one, becomes zeros. With `modalities`,
    those of the first key, the image, its voxels are checked and its background becomes 0 (`without_background`).
    MONAI's `NibabelReader` would replace an sform that differs from a rounded pixdim. Raise `InputError` if a file
    cannot be read, fails a check, or is not on the grid of the first file.
    """

    def __init__(self, keys: KeysCollection, modalities: Sequence[str] | None = None) -> None:
        super().__init__(keys)
        self.modalities = list(modalities or ())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result, reference = dict(data), dict[str, Any]()
        for key in self.key_iterator(result):
            files = result[key] if isinstance(result[key], list | tuple) else [result[key]]
            result[key] = _load(files, reference, [] if reference else self.modalities)
            reference = reference or result[key].meta
        return result


def _load(files: Sequence[str | None], reference: Mapping[str, Any], modalities: Sequence[str]) -> MetaTensor:
    """Load files into a volume on the grid of `reference`, its metadata, if any; with `modalities`, check an image."""
    present = [channel for channel, file in enumerate(files) if file is not None]
    if modalities:
        if not present or len(files) != len(modalities):
            raise InputError(f"images {', '.join(map(str, files))}: expected one for each of {', '.join(modalities)}")
        check_order(files, modalities)
    image, meta = np.zeros(()), dict[str, Any]()
    for channel in present:
        file = str(files[channel])
        scan, voxels = read_scan(file)
        warn_of_orientation(file, scan)
        if not meta:
            image = np.zeros((len(files), *voxels.shape), np.float32)
            affine = reference.get("original_affine", scan.affine)
            meta = {"filename_or_obj": file, "affine": affine, "original_affine": affine}
            meta |= {"spatial_shape": np.array(voxels.shape), FORMS: forms_of(scan)}
        reference = reference or meta
        grid, other = (reference["spatial_shape"], reference["original_affine"]), reference["filename_or_obj"]
        fill_volume(image[channel], file, scan, voxels, grid, Path(other).name, is_image=bool(modalities))
    if modalities:
        check_copies({modalities[channel]: image[channel] for channel in present})
        if not (image > 0).any():
            raise InputError(f"{files[present[0]]}: no voxel above zero")
    if None in files:
        meta[MISSING] = torch.tensor([file is None for file in files])
    return MetaTensor(torch.from_numpy(image), meta=meta)


class ToRASd(MapTransform, InvertibleTransform):
    """Turn the volumes of a case [C, H, W, D] to RAS orientation, all by the axes of the first key (`axes_of`).

    MONAI's `Orientationd` chooses axes for each key and, to undo it, from the turned affine: in scans tilted by 45
    degrees, where two orders fit equally, these differ.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        axes = axes_of(result[self.first_key(result)].affine)
        order, flipped = axes[:, 0].argsort(), np.flatnonzero(axes[:, 1] < 0)
        for key in self.key_iterator(result):
            volume = result[key]
            result[key] = turned = volume.flip((1 + flipped).tolist()).permute(0, *(1 + order).tolist())
            turned.affine = volume.affine @ torch.from_numpy(inv_ornt_aff(axes, volume.shape[1:]))
            self.push_transform(turned, extra_info={"order": order, "flipped": flipped, "affine": volume.affine})
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            turn = self.pop_transform(result[key])[TraceKeys.EXTRA_INFO]
            volume = result[key].permute(0, *(1 + turn["order"].argsort()).tolist())
            result[key] = volume.flip((1 + turn["flipped"]).tolist())
            result[key].affine = turn["affine"]
        return result


class CropToForegroundd(CropForegroundd):
    """Crop volumes [C, H, W, D] to the box around the voxels of `source_key` that are not 0, the background."""

    def __init__(self, keys: KeysCollection, source_key: str) -> None:
        super().__init__(keys, source_key, select_fn=partial(torch.ne, other=0), allow_smaller=True)


class CheckPreparationd(EachKeyd):
    """Refuse a scan that was prepared differently from a network's training data, for example with skull.

    `image` is the key of an image [C, H, W, D] in RAS orientation. `expected` are the measured ranges of training data;
    without any, only the alignment of the modalities is checked. `accept` names the `PREPARATION_CHECKS` that may fail.
    `spacing` is the voxel size in mm to which the scan is resampled later, if it is.
    """

    def __init__(
        self, image: str, expected: list[Ranges], accept: Collection[str] = (), spacing: Sequence[float] | None = None
    ) -> None:
        super().__init__(image)
        self.expected, self.accept, self.spacing = union(expected) if expected else None, set(accept), spacing

    def convert(self, volume: MetaTensor) -> MetaTensor:
        measured = measure(volume.numpy(), volume.affine.numpy())
        file = str(volume.meta.get("filename_or_obj", "image"))
        refuse(differences(measured, self.expected, file, self.spacing), self.accept)
        return volume


class RandModalityDropoutd(RandomizableTransform, EachKeyd):
    """Modality dropout: with probability `prob`, set all voxels of randomly drawn modalities of an image to zero.

    The remaining modalities are drawn uniformly from the non-empty proper subsets of the subject's modalities (after
    ModDrop, which drops each independently: Neverova et al., IEEE TPAMI 2016). Modalities that the subject lacks are
    reset to zero, as in inference, so list this transform after all transforms that shift intensities.
    """

    def __init__(self, keys: KeysCollection, prob: float) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def randomize(self, data: Sequence[int]) -> list[int]:
        """Draw the channels to keep from `data`, those of the modalities that the subject has."""
        super().randomize(None)
        if not self._do_transform or len(data) < 2:
            return list(data)
        subset = self.R.randint(1, 2 ** len(data) - 1)  # a bit for each channel; not all zeros, not all ones
        return [channel for bit, channel in enumerate(data) if subset >> bit & 1]

    def convert(self, volume: torch.Tensor) -> torch.Tensor:
        is_missing = getattr(volume, "meta", {}).get(MISSING, [False] * len(volume))
        remaining = self.randomize([channel for channel in range(len(volume)) if not is_missing[channel]])
        if len(remaining) == len(volume):
            return volume
        result = torch.zeros_like(volume)
        result[remaining] = volume[remaining]
        return result


class RandRegionCropd(RandCropByLabelClassesd):
    """Crop a scan [C, H, W, D]: with probability `share` around a voxel of one of its regions, else anywhere.

    All regions in the scan are equally likely, whatever their size, and so are all voxels of the drawn region, and all
    positions anywhere. nnU-Net draws a third of its patches around a region's voxel (Isensee et al., Nature Methods
    2021). Returns a list with one crop, as MONAI does.
    """

    def __init__(
        self, keys: KeysCollection, label_key: str, spatial_size: Sequence[int], share: float, lazy: bool = False
    ) -> None:
        super().__init__(keys, label_key, spatial_size, lazy=lazy)
        self.share = share

    def randomize(self, label: torch.Tensor, *_: Any) -> None:
        """Draw the centre of the crop for a scan with the regions `label` [R, H, W, D]."""
        sizes, edges = label.shape[1:], self.cropper.spatial_size
        by_region = self.R.random() < self.share
        regions = [region for region in torch.as_tensor(label) if region.any()] if by_region else []
        if regions:
            voxels = regions[self.R.randint(len(regions))].nonzero()
            centre = correct_crop_centers(voxels[self.R.randint(len(voxels))].tolist(), edges, sizes)
        else:
            starts = (self.R.randint(size - edge + 1) for size, edge in zip(sizes, edges, strict=True))
            centre = tuple(start + edge // 2 for start, edge in zip(starts, edges, strict=True))
        self.cropper.centers = (centre,)


class LabelToRegionsd(EachKeyd):
    """Convert a label map [1, H, W, D] to one binary channel per region, float32 [R, H, W, D]; check its labels."""

    def __init__(self, keys: KeysCollection, convention: str) -> None:
        super().__init__(keys)
        self.convention = convention

    def convert(self, volume: torch.Tensor) -> torch.Tensor:
        name = str(getattr(volume, "meta", {}).get("filename_or_obj", "label map"))
        labels_in(name, torch.as_tensor(volume).cpu().numpy(), self.convention)
        return regions_in(volume.round() if volume.is_floating_point() else volume, self.convention).float()


def regions_in(label: torch.Tensor, convention: str) -> torch.Tensor:
    """Return a mask of each region [R, H, W, D] in a label map [1, H, W, D]."""
    regions = [torch.tensor(sorted(values), device=label.device) for values in regions_of(convention).values()]
    return torch.cat([torch.isin(label, values) for values in regions])
