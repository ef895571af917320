"""The DICOM objects that a run makes: a module for each, whose name is its file's. To add one, add a module.

A module has STEP, the order in which it is made and the last digit of its series number, and `make(case, made)`, which
returns the object; `made` has those of lower steps by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # keeps PyTorch and pydicom out of the long-running service
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from common.prepare.volumes import Volume
    from deploy.bundle import Bundle

NAMES = tuple(module.name for module in iter_modules(__path__))


@dataclass(frozen=True)
class Case:
    """What a run has found.

    Attributes:
        segments: numbers of segments [columns, rows, slices], on the grid of the reference.
        reference: the scan that gives the grid.
        slices: its images, which follow the last axis.
        volumes: mL of each segment, by label.
        bundle: the bundle that segmented it.
        remarks: texts.
        replaced: earlier results of the study.
        burned_in: BurnedInAnnotation; None leaves it out.
    """

    segments: "NDArray[Any]"
    reference: "Volume"
    slices: "Sequence[Dataset]"
    volumes: Mapping[str, float]
    bundle: "Bundle"
    remarks: Sequence[str] = ()
    replaced: "Sequence[Dataset]" = ()
    burned_in: str | None = None


def make_all(case: Case) -> "dict[str, Any]":
    """All objects of a case by name."""
    modules = {name: import_module(f"{__name__}.{name}") for name in NAMES}
    made: dict[str, Any] = {}
    for name in sorted(NAMES, key=lambda name: modules[name].STEP):
        made[name] = modules[name].make(case, made)
    return made
