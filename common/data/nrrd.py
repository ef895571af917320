"""Read NRRD files as nibabel images, without ITK or pynrrd, which bundle packages lack.

https://teem.sourceforge.net/nrrd/format.html defines the format.
"""

import gzip
import re
import zlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGEST_HEADER = 2**16  # bytes
# Space -> signs of its first two axes along RAS+; the third is superior
SPACES = {"right-anterior-superior": (1, 1), "left-anterior-superior": (-1, 1), "left-posterior-superior": (-1, -1)}
SPACES |= {"".join(word[0] for word in space.split("-")): signs for space, signs in SPACES.items()}  # ras, las, lps
TYPES = {"char": "i1", "short": "i2", "int": "i4", "longlong": "i8", "float": "f4", "double": "f8"}
TYPES |= {f"int{8 * size}": f"i{size}" for size in (1, 2, 4, 8)}
TYPES |= {f"u{name}": code.replace("i", "u") for name, code in TYPES.items() if code[0] == "i"}
ENCODINGS = {"raw": False, "gzip": True, "gz": True}


def read_to_end(stream: BinaryIO | gzip.GzipFile, length: int, surplus: int = 0) -> bytes:
    """Read a whole stream, which must hold `length` bytes, or up to `surplus` bytes more.

    Raises EOFError for a shorter stream, OSError for a longer or damaged stream.
    """
    try:
        content = stream.read(length + surplus + 1)
    except zlib.error as error:
        raise OSError(f"damaged: {error}") from error
    if len(content) < length:
        raise EOFError(f"{len(content)} of {length} bytes")
    if len(content) > length + surplus:
        raise OSError(f"more than {length + surplus} bytes, although its header declares {length}")
    return content


class Voxels:
    """Voxels of an NRRD file, read on demand, in place of nibabel's `ArrayProxy`."""

    is_proxy, offset, ndim = True, 352, 3  # offset: the smallest in a NIfTI file

    def __init__(self, path: Path, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], is_gzip: bool) -> None:
        self.path, self.start, self.shape, self.dtype, self.is_gzip = path, start, shape, dtype, is_gzip

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the array [x, y, z]; raise EOFError or OSError if the file is damaged (`read_to_end`)."""
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            voxels: Any = gzip.GzipFile(fileobj=stream) if self.is_gzip else stream
            content = read_to_end(voxels, prod(self.shape) * self.dtype.itemsize)
        return np.asarray(np.frombuffer(content, self.dtype).reshape(self.shape, order="F"), dtype)


def open_nrrd(path: str | Path) -> Any:
    """Open an NRRD file as a NIfTI image, with the sform from NRRD's space; voxels are read on demand.

    Raises:
        ValueError: the header is damaged, names a separate data file, or states an unsupported space, unit, number of
            dimensions, type or encoding.
    """
    import nibabel  # slow

    with Path(path).open("rb") as stream:
        content = stream.read(LARGEST_HEADER)
    end = re.search(rb"\r?\n\r?\n", content)
    if not content.startswith(b"NRRD000") or end is None:
        raise ValueError("no NRRD header")
    text = content[: end.start()].decode("latin-1").replace("\r", "")
    fields = {key.lower(): value.strip() for key, value in re.findall(r"^(\w[\w ]*?): (.*)$", text, re.MULTILINE)}
    if file := fields.get("data file") or fields.get("datafile"):
        raise ValueError(f"its voxels are in a separate file, {file}")
    space = fields.get("space", "none").lower()
    vectors = [_numbers(vector) for vector in re.findall(r"\((.*?)\)", fields.get("space directions", ""))]
    if space not in SPACES or list(map(len, vectors)) != [3, 3, 3]:
        raise ValueError(f"space {space}, or axes without directions, so that left and right are unknown")
    if units := set(re.findall(r'"(.*?)"', fields.get("space units", ""))) - {"mm", ""}:
        raise ValueError(f"space units {', '.join(sorted(units))}, not mm")
    sizes = tuple(int(size) for size in fields.get("sizes", "").split())
    if fields.get("dimension") != "3" or len(sizes) != 3:
        raise ValueError(f"{fields.get('dimension', 'no')} dimensions, not 3")
    kind = re.sub(" int$|_t$", "", fields.get("type", "none").lower().replace("unsigned ", "u").removeprefix("signed "))
    if (code := TYPES.get(kind.replace(" ", ""))) is None:
        raise ValueError(f"type {fields.get('type')}, not one of {', '.join(TYPES)}")
    if fields.get("encoding") not in ENCODINGS:
        raise ValueError(f"encoding {fields.get('encoding')}, not one of {', '.join(ENCODINGS)}")
    assumed = "" if "space origin" in fields else "no space origin, so its position is a guess"
    origin = _numbers(fields.get("space origin", "0,0,0").strip("()"))
    affine = nibabel.affines.from_matvec(np.transpose(vectors), origin)
    dtype = np.dtype(code).newbyteorder(">" if fields.get("endian") == "big" else "<")
    voxels = Voxels(Path(path), end.end(), sizes, dtype, ENCODINGS[fields["encoding"]])
    scan = nibabel.Nifti1Image(voxels, np.diag([*SPACES[space], 1, 1]) @ affine, dtype=dtype)
    scan.extra["assumed"] = assumed
    return scan


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
