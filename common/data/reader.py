"""MONAI's reader of NIfTI files, which verifies the checksum of what it reads, at no second reading."""

import io
from typing import Any

import numpy as np
from monai.data import NibabelReader

from ..errors import InputError
from .headers import read_content

__all__ = ["VerifyingReader"]


class VerifyingReader(NibabelReader):
    """MONAI's `NibabelReader`, but it takes no voxel of a compressed NIfTI file before it has verified all of it.

    MONAI and nibabel stop reading after the last voxel, before the checksum that ends a gzip file, so that they miss a
    flipped bit. The arrays are those of `NibabelReader` to the bit.
    """

    def _get_array_data(self, img: Any, filename: Any) -> Any:
        if self.to_gpu or not str(filename).endswith(".nii.gz"):
            return super()._get_array_data(img, filename)
        proxy = img.dataobj
        try:
            content = io.BytesIO(read_content(str(filename), proxy))
        except Exception as error:  # damaged files raise many kinds
            raise InputError(f"{filename}: {error}; expected a NIfTI file as it was written") from error
        described = proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter
        return np.asanyarray(type(proxy)(content, described, mmap=False, order=proxy.order))
