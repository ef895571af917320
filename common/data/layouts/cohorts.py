"""The layouts of the cohorts as distributed: UK Biobank, BraTS and ATLAS; no image is opened."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...bars import tqdm
from ...errors import InputError, shortened, show
from ...files import reporting_path_errors
from .found import DataSet, SubjectFiles, folders_in
from .names import LABEL

BRATS_FILE = "{folder}/{visit}%s.nii.gz"
ATLAS_FILE = "{folder}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s.nii.gz"


@dataclass(frozen=True)
class CohortLayout:
    """The places of a cohort's files.

    `folder` is a regular expression of a visit's folder below the root; its named groups fill the templates `subject`,
    `images` and `label`, in which `{folder}` is the whole path, and the group `person` identifies the person.
    """

    title: str
    folder: str
    example: str
    subject: str
    images: Mapping[str, str]
    label: str | None
    convention: str | None


def _brats(title: str, folder: str, example: str, kinds: Mapping[str, str], mask: str, convention: str) -> CohortLayout:
    return CohortLayout(
        title=title,
        folder=folder,
        example=example,
        subject="{visit}",
        images={modality: BRATS_FILE % kind for modality, kind in kinds.items()},
        label=BRATS_FILE % mask,
        convention=convention,
    )


def _atlas(title: str, above: str, example: str) -> CohortLayout:
    return CohortLayout(
        title=title,
        folder=above + r"(?P<person>sub-r\d{3}s\d{3})/ses-(?P<session>\d+)",
        example=example,
        subject="{person}_ses-{session}",
        images={"T1": ATLAS_FILE % "T1w"},
        label=ATLAS_FILE % "label-L_desc-T1lesion_mask",
        convention="atlas",
    )


COHORTS = {
    "ukb": (
        CohortLayout(
            title="UK Biobank",
            folder=r"(?P<person>\d+)_2025[23]_(?P<visit>\d+_\d+)",
            example="1000012_20252_2_0",
            subject="{person}_{visit}",
            images={
                "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI.nii.gz",
                "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
            },
            label=None,
            convention=None,
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
        _atlas("subjects", "", "sub-r001s001/ses-1"),
        _atlas("sites", r"R\d{3}/", "R001/sub-r001s001/ses-1"),
        _atlas("release", r"(?:Training|Testing)/R\d{3}/", "Training/R001/sub-r001s001/ses-1"),
    ),
}


def read_cohort(cohort: str, root: Path) -> DataSet:
    """The visits below a root, even without images; shows progress, and prints unmatched folders.

    `cohort` is a key of `COHORTS`; the names of the folders decide between its layouts.
    """
    with reporting_path_errors(f"--root={root}"):
        layout, folders = _detect(cohort, root)
        data = DataSet(str(root), layout.title, order=list(layout.images), convention=layout.convention)
        templates = {**layout.images, **({} if layout.label is None else {LABEL: layout.label})}
        claims: dict[str, tuple[str, dict[str, str]]] = {}
        for match in folders:
            groups = match.groupdict()
            # the first session has the person's name, as in single-session cohorts
            subject = layout.subject.format(**groups).removesuffix("_ses-1")
            paths = {kind: template.format(folder=match.string, **groups) for kind, template in templates.items()}
            _, known = claims.setdefault(subject, (groups["person"], paths))
            if known != paths:
                twice = f"{next(iter(known.values()))} and {next(iter(paths.values()))}"
                raise InputError(f"--root={root}: {subject} exists twice: {twice}")
        for name in tqdm(sorted(claims), desc=layout.title, unit="visit"):
            person, paths = claims[name]
            found = {kind: path for kind, path in paths.items() if Path(root, path).is_file()}
            label = found.pop(LABEL, None)
            data.subjects[name] = SubjectFiles(name, person, found, label)
    return data


def _detect(cohort: str, root: Path) -> tuple[CohortLayout, list[re.Match[str]]]:
    """The layout whose pattern some folders match, and the matches; prints folders of the same depth that do not."""
    found: list[tuple[CohortLayout, list[re.Match[str]], list[str]]] = []
    for layout in COHORTS[cohort]:
        folders = {path: re.fullmatch(layout.folder, path) for path in _below(str(root), "", layout.folder.count("/"))}
        if matches := [match for match in folders.values() if match]:
            found.append((layout, matches, [path for path, match in folders.items() if match is None]))
    if len(found) > 1:
        examples = ", ".join(f"{matches[0].string} ({layout.title})" for layout, matches, _ in found)
        why = "because a subject could exist twice, or labels could differ"
        raise InputError(f"--root={root}: layouts are mixed: {examples}; expected a single one, {why}")
    if not found:
        expected = " or ".join(layout.example for layout in COHORTS[cohort])
        there = shortened(sorted(path.name for path in root.iterdir()), most=4) or "nothing"
        raise InputError(f"--root={root}: no subject of {cohort}; expected folders such as {expected}; found {there}")
    layout, matches, others = found[0]
    if others:
        show(f"skipped, not a folder of the layout: {shortened(others, most=4)}")
    return layout, matches


def _below(root: str, folder: str, levels: int) -> Iterator[str]:
    """The folders in a folder or, with `levels`, that many levels further below it."""
    for name in folders_in(f"{root}/{folder}"):
        path = f"{folder}/{name}".lstrip("/")
        if levels:
            yield from _below(root, path, levels - 1)
        else:
            yield path
