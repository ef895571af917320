"""Faults for the embedded cohort: damage that a real cohort may have.

Each fault damages real bytes on disk and gets a subject of its own. A file outside the cohort's folder records the
faults: `data/brats.faults.json` for `data/brats`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data.regions import CONVENTIONS, regions_of
from common.data.volumes import write_volume
from common.errors import InputError
from common.files import atomic_write, write_json
from scripts.phantoms.files import FAST, copy_file, read_volume
from scripts.phantoms.layouts import Case

__all__ = ["FAULTS", "assign", "break_cohort", "chosen", "manifest"]

SHIFT = (3.0, -4.0, 5.0)  # mm, of a wrong affine's origin
NAN_EDGE = 3  # voxels: edge of the cube of NaN in the volume's middle


@dataclass(frozen=True)
class Fault:
    """A way to break a case.

    Attributes:
        what: description.
        files: which of a case's files it damages.
        damage: damages one file; None copies the files of another case instead.
        needs: "mask", "tumour", "grid" (a second file on the grid), or nothing.
    """

    what: str
    files: Callable[[Case], list[str]]
    damage: Callable[[Path, Case], None] | None
    needs: str = ""

    def fits(self, case: Case) -> bool:
        """Whether the fault can be given to a case."""
        return {
            "": True,
            "grid": len(case.files) > 1,
            "mask": case.label is not None,
            "tumour": case.label is not None and case.enhancing > 0,
        }[self.needs]


def _truncate(path: Path, case: Case) -> None:
    """Keep half of the gzip stream: nibabel reads the header, and fails in the voxels."""
    content = path.read_bytes()
    with atomic_write(path) as file:
        file.write_bytes(content[: len(content) // 2])


def _shift(path: Path, case: Case) -> None:
    volume, affine = read_volume(path)
    affine[:3, 3] += SHIFT
    write_volume(path, volume, affine, compresslevel=FAST)


def _flip(path: Path, case: Case) -> None:
    """Reverse the first axis within the same box, which swaps left and right."""
    volume, affine = read_volume(path)
    affine[:3, 3] += affine[:3, 0] * (volume.shape[0] - 1)
    affine[:3, 0] *= -1
    write_volume(path, volume, affine, compresslevel=FAST)


def _add_nan(path: Path, case: Case) -> None:
    volume, affine = read_volume(path)
    volume = volume.astype(np.float32)  # integers have no NaN
    x, y, z = ((side - NAN_EDGE) // 2 for side in volume.shape)
    volume[x : x + NAN_EDGE, y : y + NAN_EDGE, z : z + NAN_EDGE] = np.nan
    write_volume(path, volume, affine, compresslevel=FAST)


def _remove(path: Path, case: Case) -> None:
    path.unlink()


def _other_convention(path: Path, case: Case) -> None:
    """Relabel enhancing tumour as in the other convention of BraTS: 3 for 4, or 4 for 3."""
    volume, affine = read_volume(path)
    known = {min(regions["ET"]) for regions in map(regions_of, CONVENTIONS) if "ET" in regions}
    (other,) = known - {case.enhancing}
    volume[volume == case.enhancing] = other
    write_volume(path, volume, affine, compresslevel=FAST)


def _add_axis(path: Path, case: Case) -> None:
    volume, affine = read_volume(path)
    write_volume(path, np.stack([volume, volume], axis=-1), affine, compresslevel=FAST)


def _clear(path: Path, case: Case) -> None:
    volume, affine = read_volume(path)
    write_volume(path, np.zeros_like(volume), affine, compresslevel=FAST)


FAULTS = {
    "truncated": Fault("the file ends in the middle of the voxels", lambda case: [case.first], _truncate),
    "affine": Fault(f"the grid is shifted by {SHIFT} mm", lambda case: [case.second], _shift, "grid"),
    "flipped": Fault("the affine's first axis is reversed", lambda case: [case.second], _flip, "grid"),
    "nan": Fault("a cube of NaN in the volume's middle", lambda case: [case.first], _add_nan),
    "missing": Fault("there is no such file", lambda case: [case.last], _remove),
    "label": Fault("the mask follows the other convention", lambda case: [case.mask], _other_convention, "tumour"),
    "duplicate": Fault("the files of another subject", lambda case: case.files, None),
    "4d": Fault("the volume has a fourth axis of 2", lambda case: [case.first], _add_axis),
    "empty": Fault("the mask is zero everywhere", lambda case: [case.mask], _clear, "mask"),
}


def manifest(output: str | Path) -> Path:
    """The file that records the faults of the cohort in the folder `output`."""
    root = Path(output).expanduser().resolve()
    return root.with_name(f"{root.name}.faults.json")


def chosen(faults: str | Sequence[str]) -> tuple[str, ...]:
    """The names in an option such as `nan,4d`, which python-fire may already have split.

    Raises:
        InputError: a name is unknown or given twice.
    """
    given = (faults.split(",") if faults else []) if isinstance(faults, str) else faults
    if not isinstance(given, list | tuple):
        raise InputError(f"--faults={faults}: expected names of {', '.join(FAULTS)}")
    names = tuple(str(name).strip() for name in given)
    for place, name in enumerate(names):
        if name not in FAULTS:
            raise InputError(f"--faults={','.join(names)}: {name or 'no name'}: expected names of {', '.join(FAULTS)}")
        if name in names[:place]:
            raise InputError(f"--faults={','.join(names)}: {name} is named twice; expected each fault once")
    return names


def assign(faults: Sequence[str], cases: Sequence[Case]) -> dict[str, Case]:
    """A case of its own for each fault, in their order, and for a duplicate one more, "original", to be copied.

    Args:
        faults: names.
        cases: those that may be broken.

    Raises:
        InputError: there are too few cases, or they lack what a fault needs.
    """
    option = f"--faults={','.join(faults)}"
    roles = [*faults, *(["original"] if "duplicate" in faults else [])]
    if len(roles) > len(cases):
        raise InputError(
            f"{option}: {len(cases)} subjects have no other oddity; expected {len(roles)}, "
            f"one for each fault{' and one to duplicate' if 'duplicate' in faults else ''}"
        )
    given = dict(zip(roles, cases, strict=False))
    for name in faults:
        if not FAULTS[name].fits(given[name]):
            needs = {"mask": "a mask", "tumour": "a mask of a tumour", "grid": "a second file on the grid"}
            raise InputError(f"{option}: {name} needs {needs[FAULTS[name].needs]}, which the layout's subjects lack")
    return given


def break_cohort(root: Path, faults: Sequence[str], cases: Sequence[Case]) -> dict[str, Any]:
    """Give each fault to a subject of its own (see `assign`), and write down beside the cohort which.

    Args:
        root: the cohort's folder.
        faults: names.
        cases: those that may be broken.

    Returns:
        What was written: fault -> {"what" it is, "person", "subject", "files" below the root}, of a duplicate also
        "copy_of".
    """
    if not faults:
        manifest(root).unlink(missing_ok=True)  # of a cohort that was here before
        return {}
    given = assign(faults, cases)
    done: dict[str, Any] = {}
    for name in faults:
        fault, case = FAULTS[name], given[name]
        done[name] = {"what": fault.what, "person": case.person, "subject": case.subject, "files": fault.files(case)}
        if fault.damage is None:
            original = given["original"]
            done[name]["copy_of"] = original.subject
            for source, path in zip(original.files, case.files, strict=True):
                copy_file(root / source, root / path)
        else:
            for path in done[name]["files"]:
                fault.damage(root / path, case)
    write_json(manifest(root), done)
    return done
