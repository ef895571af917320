"""Data sets without a standard: a folder for each subject, or all files in one folder."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...bars import tqdm
from .found import DataSet, files_in, folders_in
from .names import LABEL, Naming

IMAGES = ("images", "image", "imgs", "scans", "volumes")  # names of folders of a flat data set
LABELS = ("labels", "label", "masks", "mask", "segmentations", "annotations", "lesions")


def has_scans(root: str, folder: str = "") -> bool:
    """Whether a folder directly holds a NIfTI file."""
    return next(iter(files_in(root, folder)), None) is not None


def is_folders(root: str) -> bool:
    """Whether the root has folders with NIfTI files, but not the folders of a flat data set."""
    names = [name for name in folders_in(root) if name.lower() not in (*IMAGES, *LABELS)]
    return any(has_scans(root, name) for name in names)


def is_flat(root: str) -> bool:
    """Whether NIfTI files are in the root itself, or in a folder of images."""
    return has_scans(root) or any(name.lower() in IMAGES and has_scans(root, name) for name in folders_in(root))


def read_folders(root: Path, naming: Naming) -> DataSet:
    """The subjects of a root with a folder for each, which holds MODALITY or SUBJECT_MODALITY files.

    Files in its subfolders count for modalities that the folder itself lacks.
    """
    data = DataSet(str(root), "a folder for each subject")
    for folder in tqdm(folders_in(str(root)), desc=data.layout, unit="folder"):
        direct = _claims(data, folder, files_in(str(root), folder), naming)
        nested = _claims(data, folder, _files_below(str(root), folder), naming)
        for kind, files in (nested | direct).items():
            data.put(folder, kind, files)
    return data


def _claims(data: DataSet, subject: str, files: Iterable[tuple[str, str]], naming: Naming) -> dict[str, list[str]]:
    """Modality or label -> candidate files; a match of the whole name beats a match of its last words."""
    claims: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    for path, stem in files:
        own = stem[len(subject) + 1 :] if re.match(rf"{re.escape(subject)}[_.\- ]", stem) else stem
        name = naming.parse(stem if naming.has_pattern_of(stem) else own)
        if name.kind is None:
            data.skipped.append(path)
        else:
            claims[name.kind].append((name.before == "", path))
    found = {}
    for kind, claimed in claims.items():
        named = kind in naming.spelled or (kind == LABEL and naming.label is not None)
        exact = [path for is_exact, path in claimed if is_exact and named]
        found[kind] = exact or [path for _, path in claimed]
    return found


def _files_below(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """The NIfTI files in the subfolders of a folder; links to folders are not followed."""
    for name in folders_in(f"{root}/{folder}"):
        below = f"{folder}/{name}"
        if not Path(root, below).is_symlink():
            yield from files_in(root, below)
            yield from _files_below(root, below)


def read_flat(root: Path, naming: Naming) -> DataSet:
    """The subjects of a root with SUBJECT_MODALITY files, or with folders of images and labels that hold them."""
    data = DataSet(str(root), "SUBJECT_MODALITY files")
    labels: list[tuple[str, str]] = []
    folders = folders_in(str(root))
    for folder in ["", *(name for name in folders if name.lower() in IMAGES)]:
        for path, stem in files_in(str(root), folder):
            name = naming.parse(stem)
            if name.kind == LABEL:
                labels.append((name.before, path))
            elif name.kind is None or not name.before:
                data.skipped.append(path)
            else:
                data.put(name.before, name.kind, [path])
    for folder in (name for name in folders if name.lower() in LABELS):
        for path, stem in files_in(str(root), folder):
            name = naming.parse(stem)
            if name.kind == LABEL or naming.label is None:
                labels.append((name.before if name.kind == LABEL else stem, path))
    for before, path in labels:
        data.put(naming.subject_of_label(before, data.subjects), LABEL, [path])
    return data
