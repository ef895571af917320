"""Recognise a data set's layout, and find the files of its subjects."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import shortened, show
from .bids import is_bids, read_bids
from .folders import is_flat, is_folders, read_flat, read_folders
from .found import DataSet
from .names import Naming
from .nnunet import is_nnunet, read_nnunet, regions_in


class Layout(NamedTuple):
    """A layout of scans: the test that recognises a root folder, and the reader of its subjects."""

    fits: Callable[[str], bool]
    read: Callable[[Path, Naming], DataSet]


# The first two come first, as their folders also pass later tests
LAYOUTS: Mapping[str, Layout] = {
    "nnunet": Layout(is_nnunet, read_nnunet),
    "bids": Layout(is_bids, read_bids),
    "folders": Layout(is_folders, read_folders),
    "flat": Layout(is_flat, read_flat),
}
SPECIAL = ("nnunet", "bids")


def layouts_of(root: str | Path) -> list[str]:
    """Layouts in `LAYOUTS` that a folder may have: one, none, or both folders and flat."""
    found = [name for name in SPECIAL if LAYOUTS[name].fits(str(root))]
    return found or [name for name in LAYOUTS if name not in SPECIAL and LAYOUTS[name].fits(str(root))]


def read_layout(name: str, root: Path, naming: Naming, states_regions: bool) -> DataSet:
    """Find the files of a data set; `states_regions` takes the regions from nnU-Net's dataset.json."""
    data = LAYOUTS[name].read(root, naming)
    if files := data.misnamed:
        show(f"warning: named as of another subject than their folder's: {shortened(files, most=3)}", error=True)
    if name == "nnunet" and states_regions:
        data.convention = regions_in(root)
    return data
