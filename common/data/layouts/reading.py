"""Detect the layout of a data set, such as BIDS, and find its subjects' files."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError, shortened, show
from ..cohorts import COHORTS
from ..modalities import UNCLEAR
from .bids import is_bids, read_bids
from .folders import is_flat, is_folders, read_flat, read_folders
from .listing import Listing, list_images
from .names import SUBJECT, Naming
from .nnunet import convention_in, is_nnunet, read_nnunet
from .subjects import DataSet


class Layout(NamedTuple):
    """A layout of data sets: whether it fits a listed folder, and how to find the subjects' files."""

    fits: Callable[[Listing], bool]
    read: Callable[[Listing, Naming], DataSet]


# nnU-Net and BIDS come first, as their folders also pass the later tests
LAYOUTS: Mapping[str, Layout] = {
    "nnunet": Layout(is_nnunet, read_nnunet),
    "bids": Layout(is_bids, read_bids),
    "folders": Layout(is_folders, read_folders),
    "flat": Layout(is_flat, read_flat),
}
SPECIAL = ("nnunet", "bids")


def layouts_of(listing: Listing, naming: Naming) -> list[str]:
    """Return the names of the layouts, such as "bids", that fit a listed folder: none, one or several.

    A template with {subject} in the options selects "flat", the only layout that uses it.
    """
    if any(SUBJECT in words for words in (naming.label or "", *naming.spelled.values())):
        return ["flat"]
    special = [name for name in SPECIAL if LAYOUTS[name].fits(listing)]
    return special or [name for name in LAYOUTS if name not in SPECIAL and LAYOUTS[name].fits(listing)]


def read_layout(
    listing: Listing, naming: Naming, name: str | None = None, states_regions: bool = False, option: str = ""
) -> DataSet:
    """Find the subjects' files in a data set of the layout `name`, by default the only layout that fits.

    If no layout fits, the result has no subjects. If several fit, read the folder as "flat" or, with `option` (the
    command's option for the folder), raise an InputError that asks for --layout. With `states_regions`, the regions in
    nnU-Net's dataset.json are read, too.
    """
    names = layouts_of(listing, naming) if name is None else [name]
    if len(names) > 1 and option:
        expected = " or ".join(f"--layout={name}" for name in names)
        raise InputError(option, f"looks like {' and '.join(names)}", expected)
    if not names:
        return DataSet(listing, "no layout")
    data = _read(listing, naming, names[0] if len(names) == 1 else "flat")
    show(*data.remarks)
    if files := data.misnamed:
        show(f"warning: files named after a different subject: {shortened(files, most=3)}", error=True)
    if data.name == "nnunet" and states_regions:
        data.convention = convention_in(Path(listing.root))
    return data


def _read(listing: Listing, naming: Naming, name: str) -> DataSet:
    data = replace(LAYOUTS[name].read(listing, naming), name=name)
    wanted = {*(naming.modalities or ("T1",))} & {"T1", "T1ce"} - {
        name for name, words in naming.spelled.items() if words
    }
    if unclear := [subject.files[UNCLEAR] for subject in data.subjects.values() if UNCLEAR in subject.files and wanted]:
        problem = "a T1 after contrast agent (T1ce), or a plain T1 after surgery?"
        raise InputError(f"{listing.root}/{unclear[0]}", problem, "a name that says so, or T1ce=WORDS or T1=WORDS")
    return data


def read_cohort(cohort: str, root: Path) -> DataSet:
    """Find a cohort's files below a root, with a progress bar; raise `InputError` unless exactly one layout fits."""
    layouts = COHORTS[cohort].layouts
    listing = list_images(root, lambda folder: any(layout.enters(folder) for layout in layouts))
    matches = [data for data in (layout.read(listing) for layout in layouts) if data.subjects]
    if len(matches) > 1:
        examples = ", ".join(f"{next(iter(data.subjects))} ({data.layout})" for data in matches)
        raise InputError(f"--root={root}", f"layouts are mixed: {examples}", "one, as their labels could differ")
    if not matches:
        expected = " or ".join(layout.example for layout in layouts)
        content = shortened(sorted(path.name for path in root.iterdir()), most=4) or "nothing"
        raise InputError(f"--root={root}", f"no scan of {cohort} among {content}", f"folders such as {expected}")
    return matches[0]


def recognised(listing: Listing, naming: Naming) -> DataSet:
    """Find the subjects' files in a folder, whatever its layout.

    The first of these applies: a cohort's layout that fits; the only layout that fits, if no image has two files; flat.
    """
    for layout in (layout for cohort in COHORTS.values() for layout in cohort.layouts):
        if layout.fits(listing):
            return layout.read(listing)
    names = layouts_of(listing, naming)
    if len(names) == 1 and not (data := _read(listing, naming, names[0])).clashes:
        return data
    return _read(listing, naming, "flat")
