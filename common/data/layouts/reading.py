"""Recognise a data set's layout, and find the files of its subjects; no image is opened but a BIDS diffusion series."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError, shortened, show
from ...files import reporting_path_errors
from ..cohorts import COHORTS
from .bids import is_bids, read_bids
from .folders import is_flat, is_folders, read_flat, read_folders
from .listing import Listing, bare_of, list_images
from .names import SIGNS, Naming
from .nnunet import is_nnunet, read_nnunet, regions_in
from .subjects import DataSet


class Layout(NamedTuple):
    """A layout of scans: the test that recognises it, and the reader of its subjects."""

    fits: Callable[[Listing], bool]
    read: Callable[[Listing, Naming], DataSet]


# The first two come first, as their folders also pass later tests
LAYOUTS: Mapping[str, Layout] = {
    "nnunet": Layout(is_nnunet, read_nnunet),
    "bids": Layout(is_bids, read_bids),
    "folders": Layout(is_folders, read_folders),
    "flat": Layout(is_flat, read_flat),
}
SPECIAL = ("nnunet", "bids")


def layouts_of(listing: Listing, naming: Naming) -> list[str]:
    """The layouts in `LAYOUTS` that a folder may have: one, none, or both folders and flat.

    A template that states the subject decides for flat, which takes it from there.
    """
    if naming.states_subjects:
        return ["flat"]
    special = [name for name in SPECIAL if LAYOUTS[name].fits(listing)]
    return special or [name for name in LAYOUTS if name not in SPECIAL and LAYOUTS[name].fits(listing)]


def read_layout(
    listing: Listing, naming: Naming, name: str | None = None, states_regions: bool = False, option: str = ""
) -> DataSet:
    """Find the files of a data set in the layout `name`, or else in the one that fits; none fits without subjects.

    `states_regions` takes the regions from nnU-Net's dataset.json. `option` is the folder's, of commands
    with --layout.
    """
    names = layouts_of(listing, naming) if name is None else [name]
    if len(names) > 1:
        expected = " or ".join(f"--layout={name}" for name in names) if option else "one of the two"
        raise InputError(option or listing.root, f"looks like {' and '.join(names)}", expected)
    if not names:
        return DataSet(listing, "no layout")
    data = _read(listing, naming, *names)
    show(*data.remarks)
    if files := data.misnamed:
        show(f"warning: named as of another subject than their folder's: {shortened(files, most=3)}", error=True)
    if data.name == "nnunet" and states_regions:
        data.convention = regions_in(Path(listing.root))
    return data


def _read(listing: Listing, naming: Naming, name: str) -> DataSet:
    return replace(LAYOUTS[name].read(listing, naming), name=name)


def read_cohort(cohort: str, root: Path) -> DataSet:
    """The visits below a root; shows progress. The names of the files decide between the layouts of the cohort."""
    layouts = COHORTS[cohort].layouts
    with reporting_path_errors(f"--root={root}"):
        listing = list_images(root, lambda folder: any(layout.enters(folder) for layout in layouts))
    found = [data for data in (layout.read(listing) for layout in layouts) if data.subjects]
    if len(found) > 1:
        examples = ", ".join(f"{next(iter(data.subjects))} ({data.layout})" for data in found)
        raise InputError(f"--root={root}", f"layouts are mixed: {examples}", "one, as their labels could differ")
    if not found:
        expected = " or ".join(layout.example for layout in layouts)
        there = shortened(sorted(path.name for path in root.iterdir()), most=4) or "nothing"
        raise InputError(f"--root={root}", f"no scan of {cohort} among {there}", f"folders such as {expected}")
    return found[0]


def recognised(listing: Listing, naming: Naming) -> DataSet:
    """The subjects of a folder in a cohort's layout, else in the one of `LAYOUTS` that fits.

    Where that has two files for an image, or several fit, the files' names tell the subjects.
    """
    for layout in (layout for cohort in COHORTS.values() for layout in cohort.layouts):
        if layout.fits(listing):
            return layout.read(listing)
    names = layouts_of(listing, naming)
    for name in ["flat"] if len(names) > 1 else [*names, "flat"]:
        data = _read(listing, naming, name)
        if not data.clashes:
            break
    return data


def remedy(data: DataSet, naming: Naming) -> tuple[str, dict[str, str]]:
    """The layout, and the words or the template for each kind, with which most subjects have one file of each kind.

    Found by trying this layout and names in place of folders; no words if nothing helps.
    """
    best, most = ("", dict[str, str]()), 0
    for name in dict.fromkeys([data.name] if data.name in SPECIAL else [data.name, "flat"]):
        again = data if name == data.name else _read(data.listing, naming, name)
        kinds = dict.fromkeys(clash.kind for clash in again.clashing(naming.modalities))
        chosen = {kind: choosing(again, naming, kind) for kind in kinds}
        count = min([count for _, count in chosen.values()] or [len(again.subjects)])
        if count > most:
            best, most = (name, {kind: str(words) for kind, (words, _) in chosen.items()}), count
    return best


def choosing(data: DataSet, naming: Naming, kind: str) -> tuple[str | None, int]:
    """The words or the template that give the most subjects one file of a kind with several, and their number.

    They are found by trying: the ends of the files' paths, in which a subject's name becomes `*`.
    """
    best, most = None, 0
    clash = next(clash for clash in data.clashes if clash.kind == kind)
    for words in dict.fromkeys(words for file in clash.files for words in _ends(bare_of(file), clash.subject)):
        again = _read(data.listing, naming.choose(kind, words), data.name)
        count = sum(kind in subject.files for subject in again.subjects.values())
        if count > most and not any(clash.kind == kind for clash in again.clashes):
            best, most = words, count
    return best, most


def _ends(bare: str, subject: str) -> list[str]:
    """The ends of a path, the shortest first, and those of its name below each of its folders."""
    sign = f"[{re.escape(SIGNS)}/]"
    names = "|".join(map(re.escape, (subject, subject.partition("_ses-")[0])))
    general = re.sub(rf"(?:^|(?<={sign}))(?:{names})(?={sign}|$)", "*", bare)
    starts = sorted({found.end() for found in re.finditer(f"^|{sign}", general)}, reverse=True)
    starts.sort(key=lambda start: general[start - 1 : start] in "-.")  # these seldom separate words
    *folders, name = general.split("/")
    below = [f"{folder}/**/{name}" for folder in reversed(folders)]
    return [general[start:] for start in starts if general[start:]] + below
