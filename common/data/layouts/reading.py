"""Detect the layout of a data set, such as BIDS, and find its subjects' files."""

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
from .names import SIGNS, SUBJECT, Naming
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
    return replace(LAYOUTS[name].read(listing, naming), name=name)


def read_cohort(cohort: str, root: Path) -> DataSet:
    """Find a cohort's files below a root, with a progress bar; raise `InputError` unless exactly one layout fits."""
    layouts = COHORTS[cohort].layouts
    with reporting_path_errors(f"--root={root}"):
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


def suggest_layout(data: DataSet, naming: Naming) -> tuple[str, dict[str, str]]:
    """Return a layout, and words for `--modalities` and `--label`, that give most subjects one file per modality.

    Try the current layout and, unless it is `SPECIAL`, flat. Return ("", {}) if nothing helps.
    """
    best, most = ("", dict[str, str]()), 0
    for name in dict.fromkeys([data.name] if data.name in SPECIAL else [data.name, "flat"]):
        trial = data if name == data.name else _read(data.listing, naming, name)
        kinds = dict.fromkeys(clash.kind for clash in trial.clashing(naming.modalities))
        chosen = {kind: suggest_words(trial, naming, kind) for kind in kinds}
        count = min([count for _, count in chosen.values()] or [len(trial.subjects)])
        if count > most:
            best, most = (name, {kind: str(words) for kind, (words, _) in chosen.items()}), count
    return best


def suggest_words(data: DataSet, naming: Naming, kind: str) -> tuple[str | None, int]:
    """Return words that give most subjects one file for `kind`, a modality or `LABEL`, and how many subjects.

    Try the ends of the clashing paths, with `*` for the subject's name. Return (None, 0) if nothing helps.
    """
    best, most = None, 0
    clash = next(clash for clash in data.clashes if clash.kind == kind)
    for words in dict.fromkeys(words for file in clash.files for words in _ends(bare_of(file), clash.subject)):
        trial = _read(data.listing, naming.choose(kind, words), data.name)
        count = sum(kind in subject.files for subject in trial.subjects.values())
        if count > most and not any(clash.kind == kind for clash in trial.clashes):
            best, most = words, count
    return best, most


def _ends(bare: str, subject: str) -> list[str]:
    """Return the ends of a path, shortest first, then FOLDER/**/NAME for each of its folders, innermost first."""
    sign = f"[{re.escape(SIGNS)}/]"
    names = "|".join(map(re.escape, (subject, subject.partition("_ses-")[0])))
    general = re.sub(rf"(?:^|(?<={sign}))(?:{names})(?={sign}|$)", "*", bare)
    starts = sorted({match.end() for match in re.finditer(f"^|{sign}", general)}, reverse=True)
    starts.sort(key=lambda start: general[start - 1 : start] in "-.")  # last, as - and . seldom separate words
    *folders, name = general.split("/")
    below = [f"{folder}/**/{name}" for folder in reversed(folders)]
    return [general[start:] for start in starts if general[start:]] + below
