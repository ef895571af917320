"""The layouts of the cohorts as distributed: UK Biobank, BraTS and ATLAS; no image is opened."""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bars import tqdm
from ...errors import InputError, shortened, show
from .found import DataSet, SubjectFiles, folders_in
from .names import LABEL

BRATS_FILE = "{folder}/{visit}%s.nii.gz"
ATLAS_FILE = "{folder}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s.nii.gz"


@dataclass(frozen=True)
class CohortLayout:
    """The places of a cohort's files.

    `levels` are patterns of the nested folders down to a visit; their named groups fill the templates `subject`,
    `images` and `label`, in which `{folder}` is the innermost folder, and the group `person` identifies the person. If
    `common.data.describe` does not begin with `measures`, the images lack the owner's `preparation`, whatever their
    folders are named.
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


ONE_MM = "voxels of 1 x 1 x 1 mm"


def _patterns(*levels: str) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, levels))


def _brats(title: str, level: str, example: str, kinds: Mapping[str, str], mask: str, convention: str) -> CohortLayout:
    return CohortLayout(
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


def _atlas(title: str, *above: str, example: str) -> CohortLayout:
    return CohortLayout(
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
        CohortLayout(
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


def read_cohort(cohort: str, root: Path) -> DataSet:
    """The visits below a root, even without images; shows progress, and prints unmatched folders.

    `cohort` is a key of `COHORTS`; the names of the folders decide between its layouts.
    """
    layout = _detect(cohort, root)
    data = DataSet(str(root), layout.title, order=list(layout.images), convention=layout.convention)
    data.preparation, data.measures = layout.preparation, layout.measures
    skipped: list[str] = []
    claims: dict[str, tuple[str, dict[str, str]]] = {}
    for folder, groups in _walk(data.root, "", layout.levels, skipped):
        # the first session has the person's name, as in single-session cohorts
        subject = layout.subject.format(**groups).removesuffix("_ses-1")
        templates = {**layout.images, **({} if layout.label is None else {LABEL: layout.label})}
        paths = {kind: template.format(folder=folder, **groups) for kind, template in templates.items()}
        _, known = claims.setdefault(subject, (groups["person"], paths))
        if known != paths:
            twice = f"{next(iter(known.values()))} and {next(iter(paths.values()))}"
            raise InputError(f"--root={root}: {subject} exists twice: {twice}; expected it once")
    if skipped:
        show(f"skipped, not a folder of the layout: {shortened(skipped, most=4)}")
    for name in tqdm(sorted(claims), desc=layout.title, unit="visit"):
        person, paths = claims[name]
        found = {kind: path for kind, path in paths.items() if _is_file(f"{root}/{path}")}
        label = found.pop(LABEL, None)
        data.subjects[name] = SubjectFiles(name, person, found, label)
    return data


def _detect(cohort: str, root: Path) -> CohortLayout:
    """Recognise a cohort's layout by the names of the folders in the root."""
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
        why = "as the same subject could exist twice, or labels differ"
        raise InputError(f"--root={root}: layouts are mixed: {found}; expected one, {why}")
    expected = " or ".join(layout.example for layout in COHORTS[cohort])
    there = shortened(sorted(path.name for path in root.iterdir()), most=4) or "nothing"
    raise InputError(f"--root={root}: no subject of {cohort}; expected folders such as {expected}; found {there}")


def _walk(
    root: str, folder: str, levels: Sequence[re.Pattern[str]], skipped: list[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Folders that match the levels, with the patterns' named groups; adds the rest to `skipped`."""
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


def _is_file(path: str) -> bool:
    """Whether a file exists; a lookup without permission is an error, not a missing file."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 Path is slow
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file that can be read, or none") from error
