"""The folder layouts in which the cohorts are distributed, and what is found in one.

A layout says which folders lead to a visit and which files a visit has. Finding visits opens no image; only
`slices_with_signal` does.
"""

import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import numpy as np
from tqdm import tqdm

from common.files import reading_json
from common.preflight import InputError

__all__ = ["COHORTS", "Layout", "Visit", "count_slices", "detect", "find", "read_folds", "slices_with_signal"]

SHOWN = 4  # names that a message lists of many
CHUNK = 8  # visits that a process takes at once
BRATS_FILE = "{folder}/{visit}%s.nii.gz"
ATLAS_FILE = "{folder}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s.nii.gz"
FOLDS_SCHEMA = {
    "type": "object",
    "required": ["training"],
    "properties": {
        "training": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["fold", "image"],
                "properties": {
                    "fold": {"type": "integer", "minimum": 0},
                    "image": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "array", "minItems": 1, "prefixItems": [{"type": "string"}]},
                        ]
                    },
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Layout:
    """Where a cohort keeps its files.

    Attributes:
        title: what messages call it.
        levels: patterns of the folders, one below the other, that lead to a visit's files. Their named groups are
            what the templates below are filled with; the group `person` says whose scan it is.
        example: a path of such folders, for messages.
        subject: template of a visit's name.
        images: modality -> template of its path below the root; `{folder}` is what `levels` have led to.
        label: template of the lesion mask's path in the same form, if the cohort has one.
        convention: what the mask's values mean.
        preparation: what the cohort's owner has done to the images.
    """

    title: str
    levels: tuple[re.Pattern[str], ...]
    example: str
    subject: str
    images: Mapping[str, str]
    label: str | None
    convention: str | None
    preparation: str


@dataclass(frozen=True, slots=True, order=True)
class Visit:
    """A person's scans of one day; visits are in the order of their names.

    Attributes:
        subject: the visit's name.
        person: whose.
        image: a path below the root for each modality of the layout, in its order.
        label: path of the lesion mask, where there is one.
        missing: modalities of which there is no file.
    """

    subject: str
    person: str
    image: tuple[str, ...]
    label: str | None
    missing: tuple[str, ...]


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


def detect(cohort: str, root: str | Path) -> Layout:
    """The layout of a folder, told by the names of the folders in it.

    Args:
        cohort: one of `COHORTS`.
        root: the folder.

    Raises:
        InputError: it cannot be read, has none of the cohort's layouts, or has more than one.
    """
    names = _folders(str(root))
    examples: dict[str, str] = {}
    for layout in COHORTS[cohort]:
        example = next(filter(layout.levels[0].fullmatch, names), None)
        if example is not None:
            examples[layout.title] = example
    if len(examples) == 1:
        return next(layout for layout in COHORTS[cohort] if layout.title in examples)
    if examples:
        found = ", ".join(f"{example} ({title})" for title, example in examples.items())
        raise InputError(f"--root={root}: layouts are mixed: {found}; expected one, as {_why(cohort)}")
    expected = " or ".join(layout.example for layout in COHORTS[cohort])
    there = _few(sorted(path.name for path in Path(root).iterdir())) or "nothing"
    raise InputError(f"--root={root}: no subject of {cohort}; expected folders such as {expected}; found {there}")


def _why(cohort: str) -> str:
    return "their labels differ" if cohort == "brats" else "the same subject could be there twice"


def find(layout: Layout, root: str | Path) -> list[Visit]:
    """All visits below a root, by name; files that are missing are told by `Visit.missing`.

    Folders that fit no pattern are passed over, and the first of them printed. Shows its progress.

    Raises:
        InputError: a folder cannot be read, or a visit is there twice.
    """
    root = str(root)
    strangers: list[str] = []
    files: dict[str, tuple[str, dict[str, str]]] = {}
    for folder, groups in _walk(root, "", layout.levels, strangers):
        # the first session goes by the person's name, as in the cohorts of one session
        subject = layout.subject.format(**groups).removesuffix("_ses-1")
        paths = {modality: template.format(folder=folder, **groups) for modality, template in layout.images.items()}
        if layout.label is not None:
            paths["label"] = layout.label.format(folder=folder, **groups)
        _, known = files.setdefault(subject, (groups["person"], paths))
        if known != paths:
            twice = f"{next(iter(known.values()))} and {next(iter(paths.values()))}"
            raise InputError(f"--root={root}: {subject} is there twice: {twice}; expected it once")
    if strangers:
        print(f"passed over, as no folder of the layout: {_few(strangers)}")
    return [_visit(subject, *files[subject], root) for subject in tqdm(sorted(files), desc=layout.title, unit="visit")]


def _walk(
    root: str, folder: str, levels: Sequence[re.Pattern[str]], strangers: list[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Folders that fit the levels, each with the patterns' named groups; others are added to `strangers`."""
    for name in _folders(f"{root}/{folder}"):
        path = f"{folder}/{name}".lstrip("/")
        match = levels[0].fullmatch(name)
        if match is None:
            strangers.append(path)
        elif len(levels) == 1:
            yield path, match.groupdict()
        else:
            for below, groups in _walk(root, path, levels[1:], strangers):
                yield below, match.groupdict() | groups


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:  # of the folder, or of a link in it
        culprit = error.filename or path
        raise InputError(f"--root={culprit}: {error.strerror}; expected a folder of a cohort") from error


def _visit(subject: str, person: str, paths: Mapping[str, str], root: str) -> Visit:
    there = {what: path for what, path in paths.items() if _is_file(f"{root}/{path}")}
    images = [what for what in paths if what != "label"]
    return Visit(
        person=person,
        subject=subject,
        image=tuple(paths[modality] for modality in images),
        label=there.get("label"),
        missing=tuple(modality for modality in images if modality not in there),
    )


def _is_file(path: str) -> bool:
    """Whether there is one; a file that may not be looked up is an error, and not missing."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 Path is slow
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file that can be read, or none") from error


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name if name.isprintable() else ascii(name) for name in names[:SHOWN]) + more


def count_slices(visits: Sequence[Visit], root: str | Path, workers: int = 0) -> list[tuple[int | None, ...]]:
    """For each visit, and each of its images, how many slices have a signal; None where it cannot be read.

    Every voxel of every image is read: for 82,800 images that is an hour of one core. Each process holds one image at
    a time. An image whose process is killed, as for want of memory, is one that cannot be read. Shows its progress.

    Args:
        visits: whose images to read; no file may be missing.
        root: the folder that paths are relative to.
        workers: processes; 0 for one per core.
    """
    paths = [[f"{root}/{path}" for path in visit.image] for visit in visits]
    processes = max(1, min(workers or os.cpu_count() or 1, len(paths)))
    counted: list[tuple[int | None, ...]] = []
    with tqdm(total=len(paths), desc="slices with signal", unit="visit") as progress:
        while len(counted) < len(paths):
            try:
                with ProcessPoolExecutor(processes) as pool:
                    for slices in pool.map(_slices, paths[len(counted) :], chunksize=CHUNK):
                        counted.append(slices)
                        progress.update()
            except BrokenProcessPool:  # by one of the visits that were read just now, which are taken one by one
                for images in paths[len(counted) :][: processes * CHUNK]:
                    counted.append(tuple(map(_slices_apart, images)))
                    progress.update()
    return counted


def _slices_apart(path: str) -> int | None:
    """`slices_with_signal` in a process that may die."""
    try:
        with ProcessPoolExecutor(1) as pool:
            return pool.submit(slices_with_signal, path).result()
    except BrokenProcessPool:
        return None


def _slices(paths: Sequence[str]) -> tuple[int | None, ...]:
    return tuple(map(slices_with_signal, paths))


def slices_with_signal(path: str | Path) -> int | None:
    """In how many of a volume's axial slices a voxel is above zero; None for a file that is no readable volume.

    The axial slices are those across the voxel axis that is nearest to the world's z. Volumes that were registered to
    a template all have as many slices as the template has; a scan that was cut short shows in empty ones.

    Example:
        >>> slices_with_signal("1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz")  # doctest: +SKIP
        146
    """
    import nibabel  # here, as the other ways to make a datalist need no image

    try:
        image: Any = nibabel.load(path)
        data = np.asanyarray(image.dataobj)
        axis = list(nibabel.io_orientation(image.affine)[:, 0]).index(2)
        if data.ndim != 3 or data.dtype.kind not in "biuf":  # colours are no signal
            return None
    except (OSError, EOFError, MemoryError, OverflowError, ValueError, zlib.error):
        return None
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError):
        return None
    return sum(bool((plane > 0).any()) for plane in np.moveaxis(data, axis, 0))


def read_folds(path: Path) -> tuple[dict[str, int], str]:
    """Subject -> fold, from a JSON file in the form in which SwinUNETR publishes its five folds of BraTS 2021.

        {"training": [{"fold": 0, "image": ["TrainingData/BraTS2021_01146/BraTS2021_01146_flair.nii.gz", ...]}, ...]}

    A subject is known by the folder that its first image is in; which images the file names does not matter.

    Returns:
        The folds, and the file's SHA-256.

    Raises:
        InputError: the file is missing, no JSON or of another form, or a subject is in two folds.
    """
    with reading_json(f"--folds={path}", "a file of folds", "a JSON file, or a number of folds"):
        text = path.read_bytes()
        content = json.loads(text)
        problem = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(FOLDS_SCHEMA).iter_errors(content))
    if problem is not None:
        raise InputError(f"--folds={path}: {problem.json_path}: {problem.message[:160]}; expected a file of folds")
    folds: dict[str, int] = {}
    for entry in content["training"]:
        image = entry["image"] if isinstance(entry["image"], str) else entry["image"][0]
        subject = PurePosixPath(image).parent.name
        if not subject:
            raise InputError(f"--folds={path}: image {image} is in no folder; expected one that has the subject's name")
        if folds.setdefault(subject, entry["fold"]) != entry["fold"]:
            raise InputError(f"--folds={path}: {subject} is in fold {folds[subject]} and in {entry['fold']}")
    return folds, hashlib.sha256(text).hexdigest()
