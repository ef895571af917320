"""Datalists of cohorts in their own folder layouts: `python -m scripts.datalists ukb|brats|atlas`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import datalists
from common.preflight import InputError
from scripts.cli import run

__all__ = ["atlas", "brats", "ukb"]


@dataclass(frozen=True)
class _Cohort:
    """Where a cohort keeps its files.

    Attributes:
        name: of the cohort.
        folder: pattern of a subject's folder in the root. Its groups make up the subject's name, and the group
            `person` says whose scans these are; other groups tell apart the visits of a person.
        images: modality -> path below the root, with the pattern's groups in braces.
        label: path of the lesion mask in the same form, if the cohort has one.
        convention: what the mask's values mean.
    """

    name: str
    folder: re.Pattern[str]
    images: dict[str, str]
    label: str | None = None
    convention: str | None = None


BRATS_FILE = "{person}/{person}_%s.nii.gz"
ATLAS_FILE = "{person}/ses-1/anat/{person}_ses-1_space-MNI152NLin2009aSym_%s.nii.gz"
UKB = _Cohort(
    name="ukb",
    folder=re.compile(r"(?P<person>\d+)_2025[23]_(?P<visit>\d+_\d+)"),
    images={
        "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI.nii.gz",
        "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
    },
)
BRATS = _Cohort(
    name="brats",
    folder=re.compile(r"(?P<person>BraTS2021_\d{5})"),
    images={modality: BRATS_FILE % modality.lower() for modality in ("FLAIR", "T1ce", "T1", "T2")},
    label=BRATS_FILE % "seg",
    convention="brats2021",
)
ATLAS = _Cohort(
    name="atlas",
    folder=re.compile(r"(?P<person>sub-r\d{3}s\d{3})"),
    images={"T1": ATLAS_FILE % "T1w"},
    label=ATLAS_FILE % "label-L_desc-T1lesion_mask",
    convention="atlas",
)


def ukb(root: str, output: str, validation: float = 0.1, testing: float = 0, seed: int = 0) -> None:
    """Write the datalist of a UK Biobank folder: T1 and T2-FLAIR, brain only, in MNI space.

    A subject is a person's visit, such as 1000012_2_0; all visits of a person are in the same split.

    Args:
        root: folder with EID_20252_2_0/T1/T1_brain_to_MNI.nii.gz and
            EID_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz.
        output: the datalist, a JSON file; replaced where it exists.
        validation: so many people, or such a fraction of them, are for validation.
        testing: so many people, or such a fraction of them, are for testing.
        seed: of the random choice, 0 or more.
    """
    _write(UKB, root, output, validation, testing, seed)


def brats(root: str, output: str, validation: float = 0.1, testing: float = 0, seed: int = 0) -> None:
    """Write the datalist of a BraTS 2021 folder: FLAIR, T1ce, T1, T2 and the labels 1, 2, 4.

    Args:
        root: folder with BraTS2021_00000/BraTS2021_00000_flair.nii.gz, and so on.
        output: the datalist, a JSON file; replaced where it exists.
        validation: so many subjects, or such a fraction of them, are for validation.
        testing: so many subjects, or such a fraction of them, are for testing.
        seed: of the random choice, 0 or more.
    """
    _write(BRATS, root, output, validation, testing, seed)


def atlas(root: str, output: str, validation: float = 0.1, testing: float = 0, seed: int = 0) -> None:
    """Write the datalist of an ATLAS v2.0 folder: T1 and the label 1.

    Args:
        root: folder with sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz, and so on.
        output: the datalist, a JSON file; replaced where it exists.
        validation: so many subjects, or such a fraction of them, are for validation.
        testing: so many subjects, or such a fraction of them, are for testing.
        seed: of the random choice, 0 or more.
    """
    _write(ATLAS, root, output, validation, testing, seed)


def _write(cohort: _Cohort, root: str, output: str, validation: float, testing: float, seed: int) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"--seed={seed}: expected a whole number from 0")
    people = _scan(cohort, Path(str(root)).expanduser())
    splits = _split(sorted(people), validation, testing, seed)
    head = {"name": cohort.name, "modalities": list(cohort.images), "label_convention": cohort.convention}
    entries = {split: [entry for person in members for entry in people[person]] for split, members in splits.items()}
    datalists.write(head | entries, str(output))
    print(f"{output}: " + ", ".join(f"{len(entries[split])} {split}" for split in entries))


def _scan(cohort: _Cohort, root: Path) -> dict[str, list[dict[str, Any]]]:
    """Person -> entries of a datalist, one per visit; says which subjects are left out because a file is missing."""
    try:
        names = sorted(path.name for path in root.iterdir())
    except OSError as error:
        raise InputError(f"--root={root}: {error.strerror}; expected the folder of the {cohort.name} cohort") from error
    matches = filter(None, map(cohort.folder.fullmatch, names))
    visits = {"_".join(match.groups()): match.groupdict() for match in matches}
    people: dict[str, list[dict[str, Any]]] = {}
    for subject, groups in sorted(visits.items()):
        files = {modality: path.format(**groups) for modality, path in cohort.images.items()}
        entry: dict[str, Any] = {"subject": subject, "image": list(files.values())}
        if cohort.label is not None:
            files["label"] = entry["label"] = cohort.label.format(**groups)
        missing = [what for what, path in files.items() if not (root / path).is_file()]
        if missing:
            print(f"left out: {subject} lacks {', '.join(missing)}")
        else:
            people.setdefault(groups["person"], []).append(entry)
    if not people:
        example = next(iter(cohort.images.values())).format(
            **{group: group.upper() for group in cohort.folder.groupindex}
        )
        raise InputError(f"--root={root}: no complete subject of {cohort.name}; expected files such as {example}")
    return people


def _split(people: Sequence[str], validation: float, testing: float, seed: int) -> dict[str, list[str]]:
    """Split -> people, sorted; a change of `validation` leaves the people for testing as they are."""
    test = _count("testing", testing, len(people))
    rest = test + _count("validation", validation, len(people))
    if rest >= len(people):
        taken = f"--validation={validation} --testing={testing}"
        raise InputError(f"{taken}: nobody is left for training; expected fewer than the {len(people)} people")
    drawn = [people[index] for index in np.random.default_rng(seed).permutation(len(people))]
    return {"training": sorted(drawn[rest:]), "validation": sorted(drawn[test:rest]), "testing": sorted(drawn[:test])}


def _count(option: str, value: float, people: int) -> int:
    """How many people an option asks for; a fraction above zero asks for one at least."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and value >= 0) and not (isinstance(value, float) and 0 <= value < 1):
        raise InputError(f"--{option}={value}: expected a number of people, or a fraction from 0 to below 1")
    return int(value) if whole else max(round(value * people), int(value > 0))


if __name__ == "__main__":
    run({"ukb": ukb, "brats": brats, "atlas": atlas}, "datalists")
