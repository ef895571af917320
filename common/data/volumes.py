"""Open NIfTI and MGH files, and write NIfTI files atomically.

Only this module reads headers. Results on a scan's grid copy the scan's header fields (`forms_of`), so that every
program shows both at the same position.
"""

import gzip
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_write

MADE_UP = b"made-up subject"  # `descrip` in the header of a synthetic subject's file
LABEL = 1002  # intent code of a label map
ASSUMED = 2  # form code of an assumed affine in results: aligned, not scanner space
FIELDS = ("xyzt_units", "sform_code", "qform_code", *(f"quatern_{axis}" for axis in "bcd"))  # of the grid, with pixdim
FIELDS += tuple(f"{field}_{axis}" for field in ("qoffset", "srow") for axis in "xyz")
UNITS = {1: "m", 3: "micrometres"}  # refused NIfTI unit codes; unknown codes count as mm
NIFTI_1 = 348  # header size, bytes
GOOD_RAS = slice(28, 30)  # bytes of an MGH header's goodRASFlag
TIED = 1e-3  # difference of the sums of three cosines below which two orders of axes fit equally
ROTATION = 5e-5  # tolerance of a qform's direction cosines; ITK also accepts such axes as orthogonal


def open_volume(path: str | Path) -> Any:
    """Open a volume without reading voxels: `dataobj` reads them on demand, `affine` maps voxels to mm in RAS+.

    A NIfTI file's affine is the sform or, if the sform's code is 0, the qform; pixdim never changes an sform. Without
    both, voxels are centred on 0 mm in the order LAS, and `extra["assumed"]` says so. A missing file raises
    FileNotFoundError; a damaged file may raise any exception.
    """
    import nibabel  # imported here and below, as it is slow

    if not Path(path).is_file():
        raise FileNotFoundError("no such file")
    scan: Any = nibabel.load(path)
    if not isinstance(scan, nibabel.Nifti1Pair | nibabel.MGHImage):
        raise TypeError(f"of type {type(scan).__name__}")
    scan.extra["assumed"] = ""
    with scan.file_map.get("header", scan.file_map["image"]).get_prepare_fileobj("rb") as stream:
        if isinstance(scan, nibabel.MGHImage):
            if not any(stream.read(GOOD_RAS.stop)[GOOD_RAS]):  # nibabel then replaces the voxel size, too
                raise ValueError("goodRASFlag is 0, so its axes and voxel size are unknown")
            return scan
        stored = scan.extra["stored"] = type(scan.header).from_fileobj(stream, check=False)  # nibabel replaces values
    if not stored["sform_code"] and 0 in stored["pixdim"][1:4]:
        raise ValueError("pixdim 0, so the size of its voxels is unknown")
    if (unit := int(stored["xyzt_units"]) & 7) in UNITS:
        raise ValueError(f"lengths in {UNITS[unit]}, not mm")
    if not scan.header["sform_code"] and not scan.header["qform_code"]:
        scan.extra["assumed"] = "sform_code and qform_code are 0, so left and right are a guess"
    return scan


def forms_of(scan: Any) -> bytes:
    """Return a NIfTI header, as bytes, with only the grid of a volume from `open_volume`, for results on that grid.

    Both forms, their codes, pixdim and the units are copied bit for bit. An assumed affine gets the code `ASSUMED`.
    """
    import nibabel

    if "stored" not in scan.extra or scan.extra["assumed"]:
        return bytes(header_on(scan.affine, ASSUMED if scan.extra["assumed"] else 1).binaryblock)
    stored = scan.extra["stored"]
    header = (nibabel.Nifti2Header if isinstance(stored, nibabel.Nifti2Header) else nibabel.Nifti1Header)()
    header["pixdim"][:4] = stored["pixdim"][:4]
    for field in FIELDS:
        header[field] = stored[field]
    return bytes(header.binaryblock)


def header_on(grid: NDArray[Any] | bytes, code: int = 1) -> Any:
    """Return a NIfTI header for `grid`, which is an affine [4, 4] to mm in RAS+, or the bytes from `forms_of`.

    An affine becomes sform and qform with form code `code`; a sheared affine becomes only sform.
    """
    import nibabel

    if isinstance(grid, bytes):
        return (nibabel.Nifti1Header if len(grid) == NIFTI_1 else nibabel.Nifti2Header)(grid, check=False)
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_sform(grid, code)
    header["pixdim"][1:4] = nibabel.affines.voxel_sizes(grid)
    rotated = header.copy()
    rotated.set_qform(grid, code)
    is_sheared = (np.abs(rotated.get_qform() - grid)[:3, :3] > ROTATION * header["pixdim"][1:4]).any()
    return header if is_sheared else rotated


def ambiguity(scan: Any) -> str:
    """Return why a volume's header leaves positions ambiguous, or "".

    Without both forms, the affine is assumed; or the qform, which some programs read, and the sform shift a voxel by
    more than half of it.
    """
    if scan.extra["assumed"] or "stored" not in scan.extra:
        return str(scan.extra["assumed"])
    if not scan.header["sform_code"] or not scan.header["qform_code"]:
        return ""
    try:
        qform = scan.header.get_qform()
    except ValueError:  # not a rotation, so no program can use it
        return ""
    corners = np.array([[*corner, 1] for corner in product(*((0, edge - 1) for edge in scan.shape[:3]))]).T
    if np.abs(np.linalg.solve(scan.affine, qform @ corners) - corners).max() <= 0.5:
        return ""
    shift = np.linalg.norm((qform - scan.affine) @ corners, axis=0).max()
    return f"sform and qform place voxels up to {shift:.3g} mm apart"


def is_made_up(path: str | Path) -> bool:
    """Whether a NIfTI file is marked as that of a synthetic subject."""
    return bool(_header_of(path).get("descrip") == MADE_UP)


def is_label_map(path: str | Path) -> bool:
    """Whether a NIfTI file is marked as a label map, as by `write_volume`."""
    return bool(_header_of(path).get("intent_code") == LABEL)


def _header_of(path: str | Path) -> Any:
    try:
        return open_volume(path).header
    except Exception:  # reading the voxels reports a damaged file
        return {}


def axes_of(affine: NDArray[Any]) -> NDArray[np.float64]:
    """Return nibabel's orientation [3, 2] of the stored axes: the nearest axis of RAS+, and 1 or -1 for its direction.

    Of orders that fit equally, as in scans tilted by 45 degrees, the stored order comes first, however the affine was
    rounded.
    """
    cosines = np.asarray(affine)[:3, :3] / np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    orders = [*permutations(range(3))]
    fits = [np.abs(cosines[order, range(3)]).sum() for order in orders]
    order = orders[int(np.argmax(np.array(fits) > max(fits) - TIED))]
    return np.column_stack([order, np.where(cosines[order, range(3)] < 0, -1.0, 1.0)])


def canonical(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient voxels [x, y, z] and affine to the orientation nearest to RAS (`axes_of`), without resampling."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    axes = axes_of(affine)
    return apply_orientation(voxels, axes), affine @ inv_ornt_aff(axes, voxels.shape[:3])


def write_volume(
    path: str | Path,
    voxels: np.ndarray,
    grid: NDArray[Any] | bytes,
    code: int = 1,
    compresslevel: int = 6,
    is_label: bool = False,
    description: bytes = b"",
) -> None:
    """Write voxels [x, y, z(, t)] as .nii.gz or .nii, depending on the path; equal content gives equal bytes.

    See `header_on` for `grid` and the form code (0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI). Label maps get
    the intent NIFTI_INTENT_LABEL; a description has up to 79 bytes.
    """
    header = header_on(grid, code)
    header["descrip"] = description
    if is_label:
        header.set_intent("label")
    content = content_of(voxels, header)
    with atomic_write(path) as file:
        file.write_bytes(gzip.compress(content, compresslevel, mtime=0) if str(path).endswith(".gz") else content)


def content_of(voxels: np.ndarray, header: Any, slope: float = 1.0, inter: float = 0.0) -> bytes:
    """Return the bytes of a NIfTI file; a voxel's value is its stored number x slope + inter.

    nibabel's writer would alter a header that must stay a bit-for-bit copy.
    """
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = header.single_vox_offset, slope, inter
    return bytes(header.binaryblock) + bytes(4) + voxels.astype(header.get_data_dtype()).tobytes(order="F")
