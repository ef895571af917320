"""DICOM results: each module of this package makes one of them, such as segmentation.py for segmentation.dcm.

A module defines `STEP` and `make(case, made)`. `STEP` orders the objects and is the last digit of the series number.
`make` returns the object; its argument `made` maps names to the objects of lower steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deploy.bundle import Bundle
from scripts.prepare.volumes import Volume

NAMES = tuple(module.name for module in iter_modules(__path__))


@dataclass(frozen=True)
class Case:
    """The results of a segmentation, from which the DICOM objects are made."""

    segments: NDArray[Any]  # segment numbers [columns, rows, slices] on the grid of the reference
    reference: Volume  # scan that gives the grid
    slices: Sequence[Dataset]  # images of the reference, in the order of the last axis
    volumes: Mapping[str, float]  # of each segment in mL, by label
    bundle: Bundle  # model of the segmentation
    remarks: Sequence[str] = ()  # texts for the results
    burned_in: str | None = None  # value of BurnedInAnnotation; None omits it


def make_all(case: Case) -> dict[str, Any]:
    """Make all DICOM objects of a case; return them by module name, such as segmentation."""
    modules = {name: import_module(f"{__name__}.{name}") for name in NAMES}
    made: dict[str, Any] = {}
    for name in sorted(NAMES, key=lambda name: modules[name].STEP):
        made[name] = modules[name].make(case, made)
    return made
