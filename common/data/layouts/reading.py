"""Recognise a data set's layout, and find the files of its subjects."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from .bids import is_bids, read_bids
from .folders import is_flat, is_folders, read_flat, read_folders
from .found import DataSet
from .names import Naming
from .nnunet import is_nnunet, read_nnunet

# Layout -> test of a root; the first two come first, as their folders also pass later tests
LAYOUTS: Mapping[str, Callable[[str], bool]] = {
    "nnunet": is_nnunet,
    "bids": is_bids,
    "folders": is_folders,
    "flat": is_flat,
}
SPECIAL = ("nnunet", "bids")


def layouts_of(root: str | Path) -> list[str]:
    """Layouts in `LAYOUTS` that a folder may have: one, none, or both folders and flat."""
    found = [name for name in SPECIAL if LAYOUTS[name](str(root))]
    return found or [name for name in LAYOUTS if name not in SPECIAL and LAYOUTS[name](str(root))]


def read_layout(name: str, root: Path, naming: Naming, states_regions: bool) -> DataSet:
    """Find the files of a data set; `states_regions` takes the regions from its own tables, if there are any."""
    readers: Mapping[str, Callable[[Path, Naming], DataSet]] = {
        "nnunet": partial(read_nnunet, states_regions=states_regions),
        "bids": partial(read_bids, states_regions=states_regions),
        "folders": read_folders,
        "flat": read_flat,
    }
    return readers[name](root, naming)
