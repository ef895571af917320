"""NIfTI-1 files by the letter of the standard (nifti1.h): their bytes written and read without any library."""

import gzip
import struct

import numpy as np

PLACES = {  # byte, format
    "pixdim": (76, "<4f"),
    "xyzt_units": (123, "<B"),
    "codes": (252, "<2h"),  # qform, sform
    "quatern": (256, "<3f"),
    "qoffset": (268, "<3f"),
    "srow": (280, "<12f"),
}


def written(voxels, pixdim, codes, quatern=(0, 0, 0), qoffset=(0, 0, 0), sform=None, units=2):
    """A file with float32 voxels [x, y, z]; `codes` are those of qform and sform."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *voxels.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)  # float32
    struct.pack_into("<f", header, 108, 352)
    rows = np.zeros((3, 4)) if sform is None else np.array(sform)[:3]
    values = {"pixdim": pixdim, "xyzt_units": [units], "codes": codes, "quatern": quatern, "qoffset": qoffset}
    for field, numbers in (values | {"srow": rows.ravel()}).items():
        struct.pack_into(PLACES[field][1], header, PLACES[field][0], *numbers)
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.astype("<f4").tobytes(order="F")


def contradict(path):
    """Give a .nii.gz file an sform in MNI space, a qform 40 mm away in scanner space, and a rounded pixdim."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    x, y, z = read(content, "qoffset")
    qfac, *edges = read(content, "pixdim")
    values = {"codes": (1, 4), "qoffset": (x, y + 40, z), "pixdim": (qfac, *np.array(edges) * (1 + 4e-5))}
    for field, numbers in values.items():
        struct.pack_into(PLACES[field][1], content, PLACES[field][0], *numbers)
    path.write_bytes(gzip.compress(content))


def forms(content):
    """The bytes of the fields that place the voxels of a file, which may be compressed."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    return {field: content[at : at + struct.calcsize(kind)] for field, (at, kind) in PLACES.items()}


def read(content, field):
    at, kind = PLACES[field]
    return np.array(struct.unpack_from(kind, content, at))


def sform(content):
    return np.vstack([read(content, "srow").reshape(3, 4), [0, 0, 0, 1]])


def qform(content):
    """Method 2 of the standard."""
    b, c, d = read(content, "quatern")
    a = np.sqrt(max(0, 1 - b * b - c * c - d * d))
    turn = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    qfac, *edges = read(content, "pixdim")
    affine = np.eye(4)
    affine[:3, :3] = np.array(turn) * edges * [1, 1, -1 if qfac < 0 else 1]
    affine[:3, 3] = read(content, "qoffset")
    return affine


def affine(content):
    """The affine that this repository reads: sform, else qform, else voxels around 0 mm with x to the left."""
    qform_code, sform_code = read(content, "codes")
    if sform_code:
        return sform(content)
    if qform_code:
        return qform(content)
    edges = read(content, "pixdim")[1:] * [-1, 1, 1]
    assumed = np.diag([*edges, 1])
    assumed[:3, 3] = -edges * (np.array(struct.unpack_from("<3h", content, 42)) - 1) / 2
    return assumed
