"""Read NIfTI files to the last byte, checksum included, and write them, complete or not at all."""

import gzip
import io
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_write

GZIP = 31  # zlib's number for its format with the checksum
AFTER = 2**20  # bytes that may follow the voxels


def open_volume(path: str | Path) -> Any:
    """Read the header of a volume; its `dataobj` reads voxels on demand.

    Raises:
        Exception: of whatever kind nibabel raises, if the file is missing, damaged or no volume.
    """
    import nibabel  # here and below, as it is slow to import

    if not Path(path).is_file():
        raise FileNotFoundError("no such file")
    scan = nibabel.load(path)
    if not isinstance(scan, nibabel.spatialimages.SpatialImage):
        raise TypeError(f"a {type(scan).__name__}")
    return scan


def read_stored(scan: Any, path: str | Path) -> np.ndarray:
    """All voxels as they are stored, before the header's scaling.

    Nothing is read from a .nii.gz file before all of it is verified: nibabel stops after the last voxel, before the
    checksum, and so misses a flipped bit.

    Args:
        scan: what `open_volume` or nibabel returned.
        path: its file.

    Raises:
        EOFError: the file ends early.
        OSError: it cannot be read, a checksum is wrong, or far more follows than the voxels.
    """
    return np.asanyarray(_verified(scan, path).get_unscaled())


def read_voxels(scan: Any, path: str | Path, dtype: type | None = None) -> np.ndarray:
    """All voxels after the header's scaling, in a type if one is given, as nibabel returns them; see `read_stored`."""
    return np.asanyarray(_verified(scan, path), dtype)


def _verified(scan: Any, path: str | Path) -> Any:
    """The proxy of the voxels, of a compressed file on its verified content."""
    import nibabel

    proxy, name = scan.dataobj, str(path)
    if isinstance(scan, nibabel.Nifti1Image) and name.endswith(".nii.gz"):
        described = proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter
        return type(proxy)(io.BytesIO(_content(name, length_of(scan))), described, mmap=False, order=proxy.order)
    if name.endswith(".nii") and (size := Path(path).stat().st_size) < length_of(scan):
        raise EOFError(f"{size} of {length_of(scan)} bytes")  # before a reader allocates memory for them
    return proxy


def canonical(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [x, y, z] and affine in the orientation nearest to RAS, without resampling."""
    import nibabel

    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, affine))
    return np.asarray(turned.dataobj), turned.affine


def length_of(scan: Any) -> int:
    """Bytes of a NIfTI file up to the end of its voxels, according to the header."""
    proxy = scan.dataobj
    return int(proxy.offset) + prod(map(int, proxy.shape)) * int(proxy.dtype.itemsize)


def _content(file: str, length: int) -> bytes:
    """All of a .nii.gz file, decompressed, once its checksums are verified; much beyond `length` takes no memory."""
    data = Path(file).read_bytes()
    parts: list[bytes] = []
    while data:
        stream = zlib.decompressobj(wbits=GZIP)
        most = length + AFTER - sum(map(len, parts))
        try:
            parts.append(stream.decompress(data, most + 1))
        except zlib.error as error:
            words = str(error).rpartition(": ")[2]
            raise OSError("CRC check failed" if words == "incorrect data check" else f"damaged: {words}") from error
        if len(parts[-1]) > most:
            raise OSError(f"more than {AFTER} bytes after the {length} that its header declares")
        if not stream.eof:
            raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        data = stream.unused_data.lstrip(b"\0")  # a file may have several parts, and zeros after the last one
    content = b"".join(parts)
    if len(content) < length:
        raise EOFError(f"{len(content)} of {length} bytes")
    return content


def write_volume(
    path: str | Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    qform_code: int = 1,
    sform_code: int = 1,
    compresslevel: int = 6,
) -> None:
    """Write a gzipped NIfTI file in mm, in the voxels' own type; the same content gives the same bytes.

    Args:
        path: ends in .nii.gz; its folder is created.
        voxels: [x, y, z] or [x, y, z, t], of a type that NIfTI has.
        affine: from voxels to mm, [4, 4].
        qform_code: space of the quaternion: 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI.
        sform_code: space of the affine, likewise.
        compresslevel: of gzip, 1 to 9; 6 compresses a label map of a brain in 0.1 s.

    Raises:
        InputError: the file cannot be written.
    """
    import nibabel

    image = nibabel.Nifti1Image(voxels, None)
    image.set_sform(affine, code=sform_code, update_affine=False)
    image.set_qform(affine, code=qform_code)  # also updates the image's affine, so that nibabel keeps the codes
    image.header.set_xyzt_units("mm")
    with atomic_write(path) as file:
        file.write_bytes(gzip.compress(image.to_bytes(), compresslevel=compresslevel, mtime=0))
