"""Recognise the layout of a data set, and find the files of its subjects."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from .bids import is_bids, read_bids
from .folders import is_flat, is_folders, read_flat, read_folders
from .found import DataSet
from .names import Naming
from .nnunet import is_nnunet, read_nnunet

# Layout -> how a root is recognised; the first two have folders that would be taken for the others
LAYOUTS: Mapping[str, Callable[[str], bool]] = {
    "nnunet": is_nnunet,
    "bids": is_bids,
    "folders": is_folders,
    "flat": is_flat,
}
SPECIAL = ("nnunet", "bids")


def layouts_of(root: str | Path) -> list[str]:
    """The layouts that a folder may have, names of `LAYOUTS`: one, none, or folders and flat."""
    found = [name for name in SPECIAL if LAYOUTS[name](str(root))]
    return found or [name for name in LAYOUTS if name not in SPECIAL and LAYOUTS[name](str(root))]


def read_layout(name: str, root: Path, naming: Naming, states_regions: bool) -> DataSet:
    """The files of a data set.

    Args:
        name: of its layout, one of `LAYOUTS`.
        root: the folder.
        naming: of its files.
        states_regions: whether its own tables state the regions, if there are some; otherwise the user does.

    Raises:
        InputError: a table or a description of the data set is invalid.
        OSError: a folder cannot be read.
    """
    readers: Mapping[str, Callable[[Path, Naming], DataSet]] = {
        "nnunet": partial(read_nnunet, states_regions=states_regions),
        "bids": partial(read_bids, states_regions=states_regions),
        "folders": read_folders,
        "flat": read_flat,
    }
    return readers[name](root, naming)
