"""NRRD files, by SimpleITK, as images of nibabel."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

HEADER = 2**16  # bytes, in which a header must end
SPACES = {"right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps"}
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # from LPS+, which ITK uses, to RAS+
TYPES = "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float32 float64"


class Voxels:
    """The voxels of a file, read on demand, as nibabel's proxies do; `offset` is that of NIfTI, as NRRD has none."""

    is_proxy, offset, slope, inter = True, 352, 1.0, 0.0

    def __init__(self, path: str | Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.path, self.shape, self.ndim, self.dtype = str(path), shape, len(shape), np.dtype(dtype)

    def get_unscaled(self) -> NDArray[Any]:
        """Read the array [x, y, z]; a damaged file raises OSError."""
        import SimpleITK as sitk  # noqa: N813, the field's name for it

        try:
            return sitk.GetArrayFromImage(sitk.ReadImage(self.path, imageIO="NrrdImageIO")).T
        except RuntimeError as error:
            raise OSError("damaged: it cannot be read to its end") from error

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.get_unscaled(), dtype)

    def __getitem__(self, part: Any) -> Any:
        return self.get_unscaled()[part]


def open_nrrd(path: str | Path) -> Any:
    """Read the header of a file with a single volume, voxels included, as a NIfTI image whose sform is its space.

    Raises:
        ValueError: the header states no space in mm, several values a voxel, or voxels in another file.
    """
    import nibabel
    import SimpleITK as sitk  # noqa: N813

    with Path(path).open("rb") as stream:
        text = stream.read(HEADER).partition(b"\n\n")[0].replace(b"\r", b"").decode("latin-1")
    stated = {
        key.strip().lower(): value.strip() for key, value in re.findall(r"^(\w[\w ]*): (.*)$", text, re.MULTILINE)
    }
    if not text.startswith("NRRD000"):
        raise ValueError("no NRRD file")
    if file := stated.get("data file") or stated.get("datafile"):
        raise ValueError(f"its voxels are in another file, {file}")
    space = stated.get("space", "none").lower()
    if space not in SPACES or "none" in stated.get("space directions", "none"):
        raise ValueError(f"space {space}, or axes without directions, so that left and right are unknown")
    if units := set(re.findall(r'"(.*?)"', stated.get("space units", ""))) - {"mm", ""}:
        raise ValueError(f"space units {', '.join(sorted(units))}, where mm was expected")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError("its header is damaged") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise ValueError(f"{reader.GetDimension()} dimensions, {reader.GetNumberOfComponents()} values a voxel")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    kinds = {getattr(sitk, f"sitk{name.capitalize().replace('Uint', 'UInt')}"): name for name in TYPES.split()}
    return nibabel.Nifti1Image(Voxels(path, reader.GetSize(), kinds[reader.GetPixelIDValue()]), FLIP @ affine)
