"""Data sets without a standard: a folder for each subject, or all files in one folder."""

import re
from collections import defaultdict
from collections.abc import Iterator
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

    Files in its subfolders count for modalities that the folder itself lacks, and a match of the whole name beats one
    of its last words.
    """
    data = DataSet(str(root), "a folder for each subject")
    for subject in tqdm(folders_in(str(root)), desc=data.layout, unit="folder"):
        claims: dict[str, list[tuple[bool, bool, str]]] = defaultdict(list)
        for path, stem in _files_below(str(root), subject):
            own = stem[len(subject) + 1 :] if re.match(rf"{re.escape(subject)}[_.\- ]", stem) else stem
            name = naming.parse(stem if naming.has_pattern_of(stem) else own)
            if name.kind is None:
                data.skipped.append(path)
            else:
                is_named = name.kind in naming.spelled or (name.kind == LABEL and naming.label is not None)
                claims[name.kind].append((path.count("/") > 1, is_named and name.before != "", path))
        for kind, found in claims.items():
            best = min(found)[:2]  # in the folder itself; with the given words, the whole name
            data.put(subject, kind, [path for *rank, path in found if tuple(rank) == best])
    return data


def _files_below(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """The NIfTI files in a folder and its subfolders; links to folders are not followed."""
    yield from files_in(root, folder)
    for name in folders_in(f"{root}/{folder}"):
        if not Path(root, folder, name).is_symlink():
            yield from _files_below(root, f"{folder}/{name}")


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
