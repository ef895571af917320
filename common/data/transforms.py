"""Dictionary transforms that MONAI lacks: load and check a scan, drop modalities, convert label maps and regions."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, MapTransform, RandomizableTransform, Transform

from ..errors import InputError
from .preparation import differences, measure, refuse, union
from .reader import VerifyingReader
from .regions import known_labels, painting_order, regions_of

__all__ = [
    "CheckPreparationd",
    "CheckScand",
    "LabelToRegionsd",
    "LoadScand",
    "NestRegionsd",
    "RandModalityDropoutd",
    "RegionsToLabeld",
    "present_channels",
]

MISSING = "missing_modalities"  # in an image's metadata: a bool for each channel, if one is missing


class LoadScand(MapTransform):
    """Load images and label maps, channel first, as MONAI's `LoadImaged` does; a missing modality becomes zeros.

    Files are read by `VerifyingReader`.

    Args:
        keys: of the files: a path, or a list with one for each modality, None for a missing one. The image is
            [C, H, W, D], on the grid of the files that are there.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadImage(VerifyingReader, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            files = result[key]
            is_incomplete = isinstance(files, list | tuple) and None in files
            result[key] = self._load_incomplete(files) if is_incomplete else self.load(files)
        return result

    def _load_incomplete(self, files: Sequence[str | None]) -> MetaTensor:
        is_missing = torch.tensor([file is None for file in files])
        loaded = self.load([file for file in files if file is not None])
        image = loaded.new_zeros((len(files), *loaded.shape[1:]))
        image[~is_missing] = loaded
        image.meta[MISSING] = is_missing
        return image


def _only_value(channel: torch.Tensor) -> float | None:
    """The value of all voxels that are not 0, if they share one; a few of them usually show that they do not."""
    for step in (997, 1):
        values = channel.flatten()[::step]
        values = values[values != 0]
        if len(values) and values.min() != values.max():
            return None
    return float(values[0])


def present_channels(image: torch.Tensor) -> list[int]:
    """The channels of an image [C, H, W, D] that have a file; those of missing modalities hold zeros (`LoadScand`)."""
    is_missing = getattr(image, "meta", {}).get(MISSING, [False] * len(image))
    return [channel for channel in range(len(image)) if not is_missing[channel]]


class CheckScand(Transform):
    """Refuse a scan that would silently train or predict nonsense; a sound scan passes unchanged.

    Channels of missing modalities (`LoadScand`) are not checked.

    Args:
        image: key of the image, [C, H, W, D].
        modalities: that it must have, one a channel.
        label: key of the label map, which must lie on the image's grid; None where there is none.

    Raises:
        InputError: the number of channels differs, a value is not finite, the voxels of a channel that are not 0 all
            have one value, or there are none, no voxel is above zero, or the label's shape or affine (by more than
            0.001 mm) differs from the image's.
    """

    def __init__(self, image: str, modalities: Sequence[str], label: str | None = None) -> None:
        self.image, self.channels, self.label = image, len(modalities), label

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        image = data[self.image]
        name = image.meta.get("filename_or_obj", self.image)
        if image.ndim != 4 or len(image) != self.channels:
            raise InputError(f"{name}: shape {list(image.shape)}; expected {self.channels} three-dimensional volumes")
        present = present_channels(image)
        for number in present:
            channel = image[number]
            # MONAI keeps only the name of the first file
            place = name if number == present[0] else f"channel {number + 1} of the image whose first file is {name}"
            if not channel.isfinite().all():
                raise InputError(f"{place}: NaN or infinite voxels; expected finite ones")
            if not channel.any():
                raise InputError(f"{place}: zero everywhere; expected a brain")
            if (value := _only_value(channel)) is not None:
                raise InputError(f"{place}: {value:g} in every voxel that is not 0; expected a brain, not a mask of it")
        if not (image > 0).any():
            raise InputError(f"{name}: no voxel above zero; expected a brain, which is cropped at values above zero")
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


class CheckPreparationd(Transform):
    """Refuse a scan that is prepared otherwise than those that a network was trained on; others pass unchanged.

    Args:
        image: key of the image, [C, H, W, D] in RAS orientation.
        expected: what the checkpoints keep, as `common.weights.measured_of` returns it; without any, only the
            alignment is checked.
        accept: names of `CHECKS` that are not refused.
        is_resampled: whether the scan is resampled to the spacing of the training next.

    Raises:
        InputError: the scan differs.
    """

    def __init__(
        self,
        image: str,
        expected: Sequence[Mapping[str, Any]],
        accept: Collection[str] = (),
        is_resampled: bool = False,
    ) -> None:
        self.image, self.expected = image, union(expected) if expected else None
        self.accept, self.is_resampled = set(accept), is_resampled

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        image = data[self.image]
        found = differences(measure(image.numpy(), image.affine.numpy()), self.expected, self.is_resampled)
        refuse(found, self.accept)
        return data


class RandModalityDropoutd(RandomizableTransform, MapTransform):
    """Modality dropout: set whole modalities of an image [C, H, W, D] to zero, the mean of its intensities.

    The modalities that remain are drawn with equal probability from all subsets of at least one, but not all, of those
    that the subject has (after ModDrop, which drops each independently: Neverova et al., IEEE TPAMI 2016). Modalities
    that the subject lacks are set to zero again, as in inference. List it after transforms that shift intensities.

    Args:
        keys: of the images; modalities are drawn anew for each.
        prob: that modalities are dropped, 0 to 1.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.0, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def randomize(self, data: Sequence[int]) -> list[int]:
        """Draw the channels that remain, of those that are present."""
        super().randomize(None)
        if not self._do_transform or len(data) < 2:
            return list(data)
        subset = self.R.randint(1, 2 ** len(data) - 1)  # a bit for each channel; neither none nor all
        return [channel for place, channel in enumerate(data) if subset >> place & 1]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            remaining = self.randomize(present_channels(image))
            if len(remaining) < len(image):
                result[key] = image.clone()
                result[key][[channel for channel in range(len(image)) if channel not in remaining]] = 0
        return result


class LabelToRegionsd(MapTransform):
    """Convert a label map [1, H, W, D] to one binary channel per region, float32 [R, H, W, D].

    Args:
        keys: of the label maps.
        convention: label convention; see `common.data.regions`.

    Raises:
        InputError: a label map has a value that the convention lacks; 4 and 3 are never confused.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention = convention
        self.values = list(regions_of(convention).values())
        self.known = known_labels(convention)

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
    """Give each region the voxels that it has in the label map from `RegionsToLabeld`.

    A network predicts each region separately, so enhancing tumour may extend beyond whole tumour, or two regions
    overlap that cannot. Metrics have to measure the label map, because that is what users get.

    Args:
        keys: of the regions [R, H, W, D], 0 or 1.
        convention: label convention; see `common.data.regions`.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_label = RegionsToLabeld(keys, convention, allow_missing_keys)
        self.values = list(regions_of(convention).values())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        labels = self.to_label(data)
        for key in self.key_iterator(labels):
            regions = torch.cat([_is_any(labels[key], values) for values in self.values])
            labels[key] = regions.to(data[key].dtype)
        return labels


class RegionsToLabeld(MapTransform):
    """Convert one binary channel per region [R, H, W, D] to a label map [1, H, W, D] of uint8.

    Of nested regions the smallest wins. In BraTS a voxel in ET is enhancing tumour; in TC without ET, necrosis; in WT
    alone, oedema.

    Args:
        keys: of the regions.
        convention: label convention; see `common.data.regions`.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.paint = painting_order(convention)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            channels = result[key]
            label = torch.zeros_like(channels[:1], dtype=torch.uint8)
            for channel, value in self.paint:
                label[channels[channel : channel + 1] > 0] = value
            result[key] = label
        return result
