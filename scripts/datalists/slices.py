"""Count the axial slices of volumes that contain signal."""

from collections.abc import Sequence
from pathlib import Path

from common.data.scan_checks import read_scan
from common.data.volumes import canonical
from common.errors import InputError
from scripts.datalists.scan import Visit
from scripts.pools import map_in_processes


def count_slices(visits: Sequence[Visit], root: str | Path, workers: int = 0) -> list[tuple[int | None, ...]]:
    """For each visit, the number of slices with signal in each of its images; None for an image that cannot be read.

    Reads every voxel of every image: 82,800 images take one core an hour. Each process holds one image at a time. An
    image whose process is killed, as for lack of memory, counts as one that cannot be read. Shows progress.

    Args:
        visits: to read; no file may be missing.
        root: folder that the paths are relative to.
        workers: processes; 0 for one per core.
    """
    paths = [f"{root}/{path}" for visit in visits for path in visit.image]
    counts = iter(map_in_processes(slices_with_signal, paths, workers, "image", "slices with signal"))
    return [tuple(next(counts) for _ in visit.image) for visit in visits]


def slices_with_signal(path: str | Path) -> int | None:
    """The number of axial slices with a voxel above zero; None if the file is not a readable volume.

    Axial slices are perpendicular to the voxel axis nearest to the world's z axis. Volumes registered to a template all
    have the template's number of slices; in a scan that was cut short, some are empty.

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
