"""Count the axial slices of volumes that contain signal."""

from collections.abc import Sequence
from pathlib import Path

from common.data.scan_checks import read_scan
from common.data.volumes import canonical
from common.errors import InputError
from scripts.datalists.scan import Visit
from scripts.pools import map_in_processes


def count_slices(visits: Sequence[Visit], root: str | Path, workers: int = 0) -> list[tuple[int | None, ...]]:
    """The number of slices with signal in each image of each visit; None for an unreadable image. Shows progress.

    Reads every voxel: 82,800 images take one core an hour. An image counts as unreadable if its process is killed, for
    example for lack of memory.
    """
    paths = [f"{root}/{path}" for visit in visits for path in visit.image]
    counts = iter(map_in_processes(slices_with_signal, paths, workers, "image", "slices with signal"))
    return [tuple(next(counts) for _ in visit.image) for visit in visits]


def slices_with_signal(path: str | Path) -> int | None:
    """The number of axial slices with a voxel above zero; None if the file is not a readable volume.

    Axial slices are perpendicular to the voxel axis nearest to the world's z axis.

    Example:
        >>> slices_with_signal("1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz")  # doctest: +SKIP
        146
    """
    try:
        scan, voxels = read_scan(path)
    except InputError:
        return None
    upright, _ = canonical(voxels, scan.affine)
    return int((upright > 0).any(axis=(0, 1)).sum())
