"""Dictionary transforms that MONAI lacks: checks of a scan, label maps and regions under a named convention."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from common.preflight import InputError

__all__ = [
    "CONVENTIONS",
    "CheckScand",
    "LabelToRegionsd",
    "NameBySubjectd",
    "NestRegionsd",
    "RegionsToLabeld",
    "regions",
]

# Regions in channel order, each the union of the label values that it names (BraTS: the order of SwinUNETR's outputs).
CONVENTIONS: dict[str, dict[str, frozenset[int]]] = {
    "brats2021": {"TC": frozenset({1, 4}), "WT": frozenset({1, 2, 4}), "ET": frozenset({4})},
    "brats2023": {"TC": frozenset({1, 3}), "WT": frozenset({1, 2, 3}), "ET": frozenset({3})},
    "atlas": {"lesion": frozenset({1})},
}


def regions(convention: str) -> dict[str, frozenset[int]]:
    """The regions of a label convention in channel order, each with its label values.

    Raises:
        InputError: the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"label convention {convention}: expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]


class CheckScand(Transform):
    """Refuse a scan that would train or predict nonsense in silence; what passes is left as it is.

    Args:
        image: key of the image, [C, H, W, D].
        channels: how many modalities it must have.
        label: key of the label map, which must lie on the image's grid; None where there is none.

    Raises:
        InputError: another number of channels, a value that is not finite, a channel of zeros alone, no voxel above
            zero, or a label of another shape or affine (by more than 0.001 mm) than the image.
    """

    def __init__(self, image: str, channels: int, label: str | None = None) -> None:
        self.image, self.channels, self.label = image, channels, label

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        image = data[self.image]
        name = image.meta.get("filename_or_obj", self.image)
        if image.ndim != 4 or len(image) != self.channels:
            raise InputError(f"{name}: shape {list(image.shape)}; expected {self.channels} volumes of three dimensions")
        for number, channel in enumerate(image, 1):
            # MONAI keeps the name of the first channel's file alone
            place = name if number == 1 else f"channel {number} of the image that begins with {name}"
            if not channel.isfinite().all():
                raise InputError(f"{place}: NaN or infinite voxels; expected finite ones")
            if not channel.any():
                raise InputError(f"{place}: zero everywhere; expected a brain")
        if not (image > 0).any():
            raise InputError(f"{name}: no voxel above zero; expected a brain, which is cut out by that")
        if self.label is not None:
            self._check_label(data[self.label], image)
        return data

    @staticmethod
    def _check_label(label: Any, image: Any) -> None:
        name = label.meta.get("filename_or_obj", "label map")
        if label.shape[1:] != image.shape[1:]:
            raise InputError(f"{name}: shape {list(label.shape[1:])}; expected the image's, {list(image.shape[1:])}")
        if not torch.allclose(label.affine, image.affine, rtol=0, atol=1e-3):
            off = (label.affine - image.affine).abs().max().item()
            raise InputError(f"{name}: affine differs from the image's by up to {off:.3g}; expected the same grid")


class LabelToRegionsd(MapTransform):
    """Turn a label map [1, H, W, D] into one channel of 0 and 1 a region, float32 [R, H, W, D].

    Args:
        keys: of the label maps.
        convention: brats2021, brats2023 or atlas.

    Raises:
        InputError: a label map has a value that the convention does not know; 4 and 3 are never taken for each other.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention = convention
        self.values = list(regions(convention).values())
        self.known = {0, *frozenset.union(*self.values)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._convert(result[key])
        return result

    def _convert(self, label: torch.Tensor) -> torch.Tensor:
        found = torch.unique(torch.as_tensor(label)).tolist()
        if unknown := [value for value in found if value not in self.known]:
            name = getattr(label, "meta", {}).get("filename_or_obj", "label map")
            raise InputError(
                f"{name}: label {', '.join(f'{value:g}' for value in unknown)}; "
                f"the convention {self.convention} knows {', '.join(map(str, sorted(self.known)))}"
            )
        return torch.cat([_is_any(label, values) for values in self.values]).float()


def _is_any(label: torch.Tensor, values: frozenset[int]) -> torch.Tensor:
    first, *others = sorted(values)
    member = label == first
    for value in others:
        member = member | (label == value)
    return member


class NestRegionsd(MapTransform):
    """Let each region hold those that are inside of it, as the label map does that `RegionsToLabeld` makes.

    A network gives each region a probability of its own, so that enhancing tumour may stick out of whole tumour. What
    is measured has to be what the label map, which is what people get, says.

    Args:
        keys: of the regions [R, H, W, D], 0 or 1.
        convention: brats2021, brats2023 or atlas.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        values = list(regions(convention).values())
        self.inside = [[n for n, inner in enumerate(values) if inner <= outer] for outer in values]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            channels = result[key]
            result[key] = torch.stack([channels[inside].amax(dim=0) for inside in self.inside])
        return result


class RegionsToLabeld(MapTransform):
    """Turn one channel a region [R, H, W, D], 0 or 1, into a label map [1, H, W, D] of uint8.

    Of nested regions the smaller one wins: in BraTS a voxel in WT alone is oedema, in TC necrosis, in ET enhancing.

    Args:
        keys: of the regions.
        convention: brats2021, brats2023 or atlas.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.paint = _painting_order(regions(convention))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            channels = result[key]
            label = torch.zeros_like(channels[:1], dtype=torch.uint8)
            for channel, value in self.paint:
                label[channels[channel : channel + 1] > 0] = value
            result[key] = label
        return result


def _painting_order(convention: Mapping[str, frozenset[int]]) -> list[tuple[int, int]]:
    """(channel, label value) from the largest region to the smallest, each with the value that only it adds."""
    channels = sorted(enumerate(convention.values()), key=lambda item: -len(item[1]))
    inner = [*(values for _, values in channels[1:]), frozenset[int]()]
    return [(channel, min(values - smaller)) for (channel, values), smaller in zip(channels, inner, strict=True)]


class NameBySubjectd(MapTransform):
    """Call the file that `SaveImaged` will write by the item's "subject" instead of by the file that was read."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key].meta["filename_or_obj"] = f"{result['subject']}.nii.gz"
        return result
