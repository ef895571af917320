"""Build volumes from DICOM slices.

A volume is an array [columns, rows, slices] with an affine from voxel indices to mm in RAS+, as in NIfTI. DICOM uses
LPS+.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from common.errors import InputError
from scripts.prepare.volumes import FLIP, Grid, Volume, check_gaps

from .multiframe import frames_of, voxels_of
from .study import Series, image_name, values_of, without_values

SCALING = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}  # attributes, and defaults for images without them
ECHOES = 1.2  # largest ratio between the echo times of a volume's slices
MAX_OFFSET = 1.0  # mm, largest distance of a slice from the line through the first and last; half a pixel, if less
TOLERANCE = 0.01  # relative for distances, absolute for cosines; scanners round positions to about 0.001 mm
ROUNDING = 0.15  # mm, error of a slice distance if each coordinate is rounded to 0.1 mm


def grid_of(headers: Sequence[Dataset], name: str) -> tuple[Grid, tuple[int, ...]]:
    """Return the grid of a series, [columns, rows, slices], and the indices of the headers in slice order.

    Headers may have any order; slices are ordered along their normal. Raise InputError unless they form a single stack
    of at least two evenly spaced, parallel slices without shear.
    """
    if len(headers) < 2:
        raise InputError(f"{name}: 1 slice; expected at least 2")
    first = headers[0]
    if "ReferencedFrameNumber" in first and len({header.SOPInstanceUID for header in headers}) > 1:
        raise InputError(f"{name}: several multi-frame images; expected one volume in one image")
    if len({header.get("StackID") for header in headers}) > 1:
        raise InputError(f"{name}: several stacks of images; expected one volume")
    echoes = [float(time) for header in headers for time in values_of(header, "EchoTime")]
    if echoes and max(echoes) > ECHOES * min(echoes):
        raise InputError(f"{name}: echo times from {min(echoes):g} to {max(echoes):g} ms; expected one volume")
    for word in SCALING:
        if len({header.get(word) in (None, "") for header in headers}) > 1:
            raise InputError(f"{name}: some images have a {word} and others none; expected it in all or none")
    rows, columns = _size(first, name)
    spacing, orientation = (_numbers(first, word, name) for word in ("PixelSpacing", "ImageOrientationPatient"))
    axes = orientation.reshape(2, 3)
    if spacing.min() <= 0 or not np.allclose(axes @ axes.T, np.eye(2), atol=2 * TOLERANCE):
        raise InputError(f"{name}: PixelSpacing and ImageOrientationPatient define no grid; expected right angles")
    for header in headers:
        same = _size(header, name) == (rows, columns)
        same &= np.allclose(_numbers(header, "PixelSpacing", name), spacing, rtol=TOLERANCE)
        same &= np.allclose(_numbers(header, "ImageOrientationPatient", name), orientation, atol=TOLERANCE)
        if not same:
            raise InputError(f"{name}: slices differ in size, spacing or orientation; expected one grid")
    left, _, right = np.linalg.svd(axes, full_matrices=False)
    along_row, along_column = left @ right  # nearest orthogonal axes, since cosines are rounded
    normal = np.asarray(np.cross(along_row, along_column), np.float64)
    positions = np.array([_numbers(header, "ImagePositionPatient", name) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    step = _step(positions[order], normal, min(spacing.min() / 2, MAX_OFFSET), name)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([along_row * spacing[1], along_column * spacing[0], step])
    affine[:3, 3] = positions[order[0]]
    return Grid((columns, rows, len(headers)), FLIP @ affine), tuple(int(index) for index in order)


def _size(header: Dataset, name: str) -> tuple[int, int]:
    rows, columns = (int(_numbers(header, keyword, name)[0]) for keyword in ("Rows", "Columns"))
    return rows, columns


def _numbers(header: Dataset, keyword: str, name: str) -> NDArray[np.float64]:
    numbers = np.array(values_of(header, keyword), np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        raise InputError(f"{name}: {image_name(header)} has no valid {keyword}")
    return numbers


def _step(
    positions: NDArray[np.float64], normal: NDArray[np.float64], max_offset: float, name: str
) -> NDArray[np.float64]:
    """Return the mean vector from each slice to the next, mm; `positions` must be sorted along the normal."""
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    distances = np.diff(positions @ normal)
    usual = float(np.median(distances))
    if distances.min() < max(TOLERANCE * usual, 1e-3):
        raise InputError(f"{name}: two images share a position; expected one volume (is it dynamic or multi-echo?)")
    if np.abs(distances - usual).max() > max(2 * TOLERANCE * usual, ROUNDING):
        number = int(np.argmax(np.abs(distances - usual))) + 1
        gap = f"{distances[number - 1]:.2f} mm after slice {number}, {usual:.2f} mm elsewhere"
        raise InputError(f"{name}: slice distance {gap}; is a slice missing?")
    if np.linalg.norm(step - normal * (step @ normal)) > 2 * TOLERANCE * usual:
        raise InputError(f"{name}: slices are not stacked along their normal; expected no shear")
    offsets = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(positions)), step), axis=1)
    if offsets.max() > max_offset:
        number = int(offsets.argmax()) + 1
        off = f"{offsets[number - 1]:.1f} mm off the line through the first and last slices"
        raise InputError(f"{name}: slice {number} lies {off}; expected {max_offset:.1f} mm at most")
    return step


def read_series(series: Series) -> tuple[Volume, list[Dataset]]:
    """Read the files of a series; return its volume and slices, see `volume_of`. Error messages name no file."""
    with without_values(f"{series.name}: a file cannot be read"):
        images = [pydicom.dcmread(file) for file in series.files]
    return volume_of(images, series.name)


def volume_of(images: Sequence[Dataset], name: str) -> tuple[Volume, list[Dataset]]:
    """Build the volume of a series from images with voxels: single-frame images in any order, or one enhanced image.

    Also return the slices (images or frames) in the order of the volume's last axis. Messages call the series `name`.
    """
    with without_values(f"{name}: frames of {image_name(images[0])} cannot be read"):
        slices = [frame for image in images for frame in frames_of(image)]
    grid, order = grid_of(slices, name)
    ordered = [slices[index] for index in order]
    array = np.stack([_values(image, name).T for image in ordered], axis=-1)
    check_gaps(array, name)
    return Volume(array, grid.affine), ordered


def _values(image: Dataset, name: str) -> NDArray[np.float32]:
    """Return the rescaled values of a slice, [rows, columns]; padding becomes 0, the background of MR."""
    with without_values(f"{name}: voxels of {image_name(image)} cannot be read"):
        stored = voxels_of(image)
        padding = _padding(image, stored)
        slope, intercept = (
            default if image.get(keyword) in (None, "") else float(image[keyword].value)
            for keyword, default in SCALING.items()
        )
        high, bits = image.get("HighBit"), int(image.BitsStored)
    if high not in (None, bits - 1):
        raise InputError(f"{name}: HighBit {high} with BitsStored {bits}; expected {bits - 1}")
    if image.PhotometricInterpretation != "MONOCHROME2" or "ModalityLUTSequence" in image:
        expected = "MONOCHROME2 and no ModalityLUTSequence"
        raise InputError(f"{name}: colour, inverted or lookup-table images; expected {expected}")
    if slope <= 0:
        raise InputError(f"{name}: RescaleSlope {slope:g}; expected a positive number")
    if bits <= 8 and image.get("LossyImageCompression") == "01":  # for viewing only: each slice has its own scale
        raise InputError(f"{name}: {bits} bits, compressed with loss; expected the scanner's values")
    if stored.shape != _size(image, name):
        raise InputError(f"{name}: {image_name(image)} holds several frames or samples; expected one value per voxel")
    with np.errstate(over="ignore", invalid="ignore"):
        values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: RescaleSlope and RescaleIntercept give NaN or infinite voxels")
    if np.ptp(values) == 0 < np.ptp(stored):
        raise InputError(f"{name}: RescaleSlope and RescaleIntercept make all voxels of {image_name(image)} equal")
    values[padding] = 0
    return values


def _padding(image: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the padding voxels, which store a fixed value or a value in a range (PS3.3, C.7.5.1.1.2).

    The limits are cast to the voxel type, because some writers store unsigned limits for signed voxels.
    """
    limits = [image.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if limits[0] is None:
        return np.zeros(stored.shape, bool)
    unused = 8 * stored.itemsize - int(image.BitsStored)
    values = np.array([int(limit) for limit in limits if limit is not None]).astype(stored.dtype) << unused >> unused
    return (stored >= values.min()) & (stored <= values.max())
