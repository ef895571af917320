"""The folder layouts of the cohorts as they are distributed, and the scan of a folder for its visits.

A layout says which folders lead to a visit and which files a visit has. Finding visits opens no image.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.bars import tqdm
from common.data.layouts.found import folders_in
from common.errors import InputError, shortened, show

__all__ = ["COHORTS", "Cohort", "Layout", "Visit", "detect", "find", "person_of", "scan"]

VISIT = re.compile(  # names of visits that begin with the person: UK Biobank, BraTS from 2023, BIDS (ATLAS)
    r"(?P<person>\d+(?=_\d+_\d+$)|BraTS-[A-Za-z]+-\d+(?=-\d+$)|sub-[A-Za-z0-9]+(?=$|_ses-[A-Za-z0-9]+$)).*"
)
BRATS_FILE = "{folder}/{visit}%s.nii.gz"
ATLAS_FILE = "{folder}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s.nii.gz"


@dataclass(frozen=True)
class Layout:
    """The places of a cohort's files.

    Attributes:
        title: name for messages.
        levels: patterns of the nested folders that lead to a visit's files. Their named groups fill the templates
            below; the group `person` identifies the person.
        example: such a path, for messages.
        subject: template of a visit's name.
        images: modality -> template of the path below the root; `{folder}` is the innermost folder of `levels`.
        label: template of the lesion mask's path, if the cohort has masks.
        convention: label convention of the masks, a key of `common.data.CONVENTIONS`.
        preparation: preprocessing by the cohort's owner.
        measures: how what `common.data.describe` says of such images begins; images of which it says anything else have
            not been prepared like that, whatever their folders are named.
    """

    title: str
    levels: tuple[re.Pattern[str], ...]
    example: str
    subject: str
    images: Mapping[str, str]
    label: str | None
    convention: str | None
    preparation: str
    measures: str


@dataclass(frozen=True, slots=True, order=True)
class Visit:
    """A person's scans of one day; visits sort by name.

    Attributes:
        subject: name of the visit.
        person: name of the person.
        image: a path below the root for each modality of the layout, in its order.
        label: path of the lesion mask, if there is one.
        missing: modalities without a file.
    """

    subject: str
    person: str
    image: tuple[str, ...]
    label: str | None
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Cohort:
    """A scanned folder.

    Attributes:
        name: of the cohort.
        title: of its layout.
        modalities: in the order of each visit's images.
        convention: label convention of the masks, as text; None if the cohort has no masks.
        preparation: preprocessing by the cohort's owner, if it is known.
        visits: sorted by name.
        held_out: people that the layout itself keeps for testing.
        measures: see `Layout`.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    convention: str | None
    preparation: str | None
    visits: list[Visit]
    held_out: frozenset[str] = frozenset()
    measures: str = ""


ONE_MM = "voxels of 1 x 1 x 1 mm"


def _patterns(*levels: str) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, levels))


def _brats(title: str, level: str, example: str, kinds: Mapping[str, str], mask: str, convention: str) -> Layout:
    return Layout(
        title=title,
        levels=_patterns(level),
        example=example,
        subject="{visit}",
        images={modality: BRATS_FILE % kind for modality, kind in kinds.items()},
        label=BRATS_FILE % mask,
        convention=convention,
        preparation="by the BraTS organisers: modalities co-registered, SRI24 space, 1 mm, skull stripped",
        measures=f"{ONE_MM}, brains without skull, background 0",
    )


def _atlas(title: str, *above: str, example: str) -> Layout:
    return Layout(
        title=title,
        levels=_patterns(*above, r"(?P<person>sub-r\d{3}s\d{3})", r"ses-(?P<session>\d+)"),
        example=example,
        subject="{person}_ses-{session}",
        images={"T1": ATLAS_FILE % "T1w"},
        label=ATLAS_FILE % "label-L_desc-T1lesion_mask",
        convention="atlas",
        preparation="by the ATLAS authors: intensity normalised, MNI152NLin2009aSym space, 1 mm, defaced; with skull",
        measures=f"{ONE_MM}, whole heads",
    )


COHORTS = {
    "ukb": (
        Layout(
            title="UK Biobank",
            levels=_patterns(r"(?P<person>\d+)_2025[23]_(?P<visit>\d+_\d+)"),
            example="1000012_20252_2_0",
            subject="{person}_{visit}",
            images={
                "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI.nii.gz",
                "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
            },
            label=None,
            convention=None,
            preparation="by UK Biobank: defaced, brain extracted, FLAIR aligned to T1, MNI152 space, 1 mm",
            measures=f"{ONE_MM}, brains without skull, background 0",
        ),
    ),
    "brats": (
        _brats(
            "BraTS 2021",
            r"(?P<visit>(?P<person>BraTS2021_\d{5}))",
            "BraTS2021_00000",
            {"FLAIR": "_flair", "T1ce": "_t1ce", "T1": "_t1", "T2": "_t2"},
            "_seg",
            "brats2021",
        ),
        _brats(
            "BraTS 2023 and 2024",
            r"(?P<visit>(?P<person>BraTS-GLI-\d{5})-\d{3})",
            "BraTS-GLI-00000-000",
            {"FLAIR": "-t2f", "T1ce": "-t1c", "T1": "-t1n", "T2": "-t2w"},
            "-seg",
            "brats2023",
        ),
    ),
    "atlas": (
        _atlas("subjects", example="sub-r001s001/ses-1"),
        _atlas("sites", r"R\d{3}", example="R001/sub-r001s001/ses-1"),
        _atlas("release", r"Training|Testing", r"R\d{3}", example="Training/R001/sub-r001s001/ses-1"),
    ),
}


REASONS = {  # why a root must hold one layout
    "ukb": "the same subject could exist twice",
    "brats": "their labels differ",
    "atlas": "the same subject could exist twice",
}


def scan(cohort: str, root: Path) -> Cohort:
    """Scan the folder of a cohort, in whichever of its layouts; see `detect` and `find`."""
    layout = detect(cohort, root)
    visits = find(layout, root)
    images = tuple(layout.images)
    return Cohort(cohort, layout.title, images, layout.convention, layout.preparation, visits, measures=layout.measures)


def person_of(subject: str) -> str:
    """The person whose visit a datalist's subject is, by its name; a name of another form is a person's own.

    Example:
        >>> person_of("BraTS-GLI-00007-001"), person_of("patient 7")
        ('BraTS-GLI-00007', 'patient 7')
    """
    visit = VISIT.fullmatch(subject)
    return visit["person"] if visit else subject


def detect(cohort: str, root: str | Path) -> Layout:
    """The layout of a cohort's folder, recognised by the names of the folders in it.

    Args:
        cohort: one of `COHORTS`.
        root: the folder.

    Raises:
        InputError: the folder cannot be read, or has none or several of the cohort's layouts.
    """
    names = _folders_in(str(root))
    examples: dict[str, str] = {}
    for layout in COHORTS[cohort]:
        example = next(filter(layout.levels[0].fullmatch, names), None)
        if example is not None:
            examples[layout.title] = example
    if len(examples) == 1:
        return next(layout for layout in COHORTS[cohort] if layout.title in examples)
    if examples:
        found = ", ".join(f"{example} ({title})" for title, example in examples.items())
        raise InputError(f"--root={root}: layouts are mixed: {found}; expected one, as {REASONS[cohort]}")
    expected = " or ".join(layout.example for layout in COHORTS[cohort])
    there = shortened(sorted(path.name for path in Path(root).iterdir()), most=4) or "nothing"
    raise InputError(f"--root={root}: no subject of {cohort}; expected folders such as {expected}; found {there}")


def find(layout: Layout, root: str | Path) -> list[Visit]:
    """All visits below a root, sorted by name; `Visit.missing` names modalities without a file.

    Skips folders that match no pattern, and prints the first of them. Shows progress.

    Raises:
        InputError: a folder cannot be read, or a visit exists twice.
    """
    root = str(root)
    skipped: list[str] = []
    files: dict[str, tuple[str, dict[str, str]]] = {}
    for folder, groups in _walk(root, "", layout.levels, skipped):
        # the first session has the person's name, as in cohorts with a single session
        subject = layout.subject.format(**groups).removesuffix("_ses-1")
        paths = {modality: template.format(folder=folder, **groups) for modality, template in layout.images.items()}
        if layout.label is not None:
            paths["label"] = layout.label.format(folder=folder, **groups)
        _, known = files.setdefault(subject, (groups["person"], paths))
        if known != paths:
            twice = f"{next(iter(known.values()))} and {next(iter(paths.values()))}"
            raise InputError(f"--root={root}: {subject} exists twice: {twice}; expected it once")
    if skipped:
        show(f"skipped, not a folder of the layout: {shortened(skipped, most=4)}")
    return [_visit(subject, *files[subject], root) for subject in tqdm(sorted(files), desc=layout.title, unit="visit")]


def _walk(
    root: str, folder: str, levels: Sequence[re.Pattern[str]], skipped: list[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Folders that match the levels, each with the patterns' named groups; adds the others to `skipped`."""
    for name in _folders_in(f"{root}/{folder}"):
        path = f"{folder}/{name}".lstrip("/")
        match = levels[0].fullmatch(name)
        if match is None:
            skipped.append(path)
        elif len(levels) == 1:
            yield path, match.groupdict()
        else:
            for below, groups in _walk(root, path, levels[1:], skipped):
                yield below, match.groupdict() | groups


def _folders_in(path: str) -> list[str]:
    try:
        return folders_in(path)
    except OSError as error:  # the folder itself, or a link in it
        culprit = error.filename or path
        raise InputError(f"--root={culprit}: {error.strerror}; expected a folder of a cohort") from error


def _visit(subject: str, person: str, paths: Mapping[str, str], root: str) -> Visit:
    existing = {name: path for name, path in paths.items() if _is_file(f"{root}/{path}")}
    images = [name for name in paths if name != "label"]
    return Visit(
        person=person,
        subject=subject,
        image=tuple(paths[modality] for modality in images),
        label=existing.get("label"),
        missing=tuple(modality for modality in images if modality not in existing),
    )


def _is_file(path: str) -> bool:
    """Whether a file exists; a lookup without permission is an error, not a missing file."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 Path is slow
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file that can be read, or none") from error
