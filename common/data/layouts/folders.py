"""Read data sets without a standard layout: a folder for each subject, or the subject in each file's name."""

import re
from collections import Counter, defaultdict
from fnmatch import fnmatchcase

from ...errors import InputError
from ..modalities import in_folders, modality_of, split_name
from .listing import ImageFile, Listing, stem_of
from .names import ANATOMY, IMAGES, LABEL, Name, Naming, before_label, is_of_anatomy
from .people import is_visit, visit_name
from .subjects import Claim, DataSet

AGENT_ONLY = ("", "T1ce")  # what a folder such as Gd makes of a T1


def kind_of_folder(name: str) -> str | None:
    """Return what a folder holds by its name: "images", `LABEL`, `ANATOMY` or a modality; None if it does not say.

    Example:
        >>> [kind_of_folder(name) for name in ("images_structural", "masks", "IXI-T1", "P1")]
        ['images', 'label', 'T1', None]
    """
    words = re.split(r"[_.\- ]", name.lower())
    if before_label(name) is not None:
        return ANATOMY if is_of_anatomy(name) else LABEL
    if {words[0], words[-1]} & {*IMAGES}:
        return IMAGES[0]
    return "T1ce" if split_name(f"{name}_T1") == AGENT_ONLY else split_name(stem_of(name) or name)[1]


def _kinds(listing: Listing) -> dict[str, str]:
    """Map the paths of folders that do not name a visit to their content (`kind_of_folder`).

    A folder named after a modality counts only if none of its files states a different kind. If the name of a top
    folder merely ends with the modality (IXI-T1, or the timepoint P1_T1), it must also hold several files.
    """
    below: dict[str, list[ImageFile]] = {folder: [] for folder in listing.folders}
    for file in listing.files:
        for depth in range(len(file.folders)):
            below["/".join(file.folders[: depth + 1])].append(file)
    kinds = {}
    for path, files in below.items():
        folder = path.rpartition("/")[2]
        kind = in_folders(kind_of_folder(folder), path.split("/")[:-1])
        is_modality = kind not in (None, IMAGES[0], LABEL, ANATOMY)
        agrees = {Naming().parse(file.stem, file.bare).kind for file in files} <= {kind, None, LABEL}
        if kind and (not is_modality or (agrees and (modality_of(folder) or "/" in path or len(files) > 1))):
            kinds[path] = kind
    return kinds


def _tops(listing: Listing) -> dict[str, str]:
    return {path: kind for path, kind in _kinds(listing).items() if "/" not in path}


def is_folders(listing: Listing) -> bool:
    """Whether a data set has a folder for each subject, rather than for each modality."""
    kinds = _tops(listing)
    is_named = any(kind not in (IMAGES[0], LABEL, ANATOMY) for kind in kinds.values())
    return not is_named and any(files for folder, files in listing.tops.items() if folder not in kinds)


def is_flat(listing: Listing) -> bool:
    """Whether images lie in the data set's folder itself, or in folders that all subjects share."""
    return any(not file.folders for file in listing.files) or any(
        listing.tops[folder] for folder, kind in _tops(listing).items() if kind not in (LABEL, ANATOMY)
    )


def _of_visit(file: ImageFile, kinds: dict[str, str], words: str) -> list[str]:
    """Return the names of a file's folders that name its visit.

    Of a folder of a kind, such as baseline_T1, only the rest of its name counts; folders in the user's words do not.
    """
    named = [word for word in words.split("/")[:-1] if word.strip("*") and "{" not in word]
    paths = ["/".join(file.folders[: depth + 1]) for depth in range(len(file.folders))]
    parts = [
        _rest(folder, kinds[path]) if path in kinds else folder
        for folder, path in zip(file.folders, paths, strict=True)
        if not any(fnmatchcase(folder.lower(), word.lower()) for word in named)
    ]
    return [part for part in dict.fromkeys(parts) if part]


def _rest(folder: str, kind: str) -> str:
    """Return the name of a folder of a kind without the words of its kind."""
    if split_name(f"{folder}_T1") == AGENT_ONLY:
        return ""
    start = before_label(folder) if kind in (LABEL, ANATOMY) else folder if kind == IMAGES[0] else split_name(folder)[0]
    return "_".join(word for word in re.split(r"[_.\- ]", start or "") if word.lower() not in IMAGES)


def _visit_in(before: str, file: ImageFile) -> str:
    """Return the visit at the end of a file's name, such as v1 in P1_v1_T1; "" if there is none."""
    start = split_name(before)[0] or before  # P1_v1 of the label map P1_v1_FLAIR_lesion
    word = re.sub(rf"^{re.escape(file.folders[0])}[_.\- ]", "", start)
    is_numbered = word.isdecimal() and file.stem.startswith(file.folders[0])
    return word if modality_of(word) is None and (is_visit(word) or is_numbered) else ""


def _words(naming: Naming, name: Name) -> str:
    """Return the user's words or pattern that a file's name fits; "" if it fits none."""
    if not name.is_given:
        return ""
    return (naming.label if name.kind == LABEL else naming.spelled.get(str(name.kind))) or ""


def read_folders(listing: Listing, naming: Naming) -> DataSet:
    """Find the files in a folder for each visit, named MODALITY, SUBJECT_MODALITY or MODALITY/FILE.

    Each folder is a visit of its own, except folders of one kind, such as FLAIR or masks. A name that equals the user's
    words ranks before a longer name that ends with them.
    """
    data = DataSet(listing, "a folder for each subject")
    inside = Counter(file.path.rpartition("/")[0] for file in listing.files)
    kinds = {path: kind for path, kind in _kinds(listing).items() if "/" in path}
    claims, places = [], dict[str, list[str]]()
    for file in (file for file in listing.files if file.folders):
        stem = re.sub(rf"^{re.escape(file.folders[0])}[_.\- ]", "", file.stem)
        is_alone = len(file.folders) > 1 and inside[file.path.rpartition("/")[0]] == 1
        is_named = is_alone and modality_of(file.folders[-1])
        name = naming.parse(stem, file.bare, split_name(file.folders[-1])[1] if is_named else None)
        if name.kind is not None:
            folders = _of_visit(file, kinds, _words(naming, name)) or file.folders[:1]
            visit = "" if name.is_given else _visit_in(name.before, file)
            folders += [visit] if visit and visit not in folders else []
            subject = visit_name(folders)
            _check_place(listing, places, subject, folders)
            claims.append(Claim(subject, name.kind, file.path, (name.is_given and name.before not in ("", *folders),)))
    data.assign(claims)
    return data


def _check_place(listing: Listing, places: dict[str, list[str]], subject: str, folders: list[str]) -> None:
    if (first := places.setdefault(subject, folders)) != folders:
        problem = f"folders {'/'.join(first)} and {'/'.join(folders)} would both be the subject {subject}"
        raise InputError(f"--root={listing.root}", problem, "distinct names")


def read_flat(listing: Listing, naming: Naming) -> DataSet:
    """Find each subject's files by names such as SUBJECT_MODALITY, in any folder, or MODALITY/SUBJECT.

    Files of one name in different folders are different subjects, except folders of one kind, such as FLAIR or masks.
    If a file's name is only a modality, the folders give the subject; if it has no modality, a folder gives it.
    """
    data = DataSet(listing, "the subject in each file's name")
    kinds, places = _kinds(listing), dict[str, list[str]]()
    files: list[tuple[Name, ImageFile, list[str]]] = []
    for file in listing.files:
        paths = ["/".join(file.folders[:depth]) for depth in range(len(file.folders), 0, -1)]
        folder_kind = next((kinds[path] for path in paths if kinds.get(path, IMAGES[0]) != IMAGES[0]), None)
        name = naming.parse(file.stem, file.bare, None if folder_kind in (LABEL, ANATOMY) else folder_kind)
        if folder_kind == LABEL and name.kind != LABEL:
            name = Name(file.stem, LABEL if naming.label is None else None)
        if name.kind:
            files.append((name, file, _of_visit(file, kinds, _words(naming, name))))
    claims = defaultdict(list)
    shared = {folders[0] if folders and name.before else "" for name, _, folders in files if name.kind != LABEL}
    for name, file, folders in files:
        parts = folders[1:] if {*folders[:1]} == shared else folders  # one folder holds all images
        before = name.before or (file.stem if naming.default_modality and not parts else "")
        subject = name.subject or (_subject(parts, before) if parts or before else "")
        if subject:
            if name.kind != LABEL or folders:
                _check_place(listing, places, subject, [folder for folder in folders if folder != name.subject])
            claims[name.kind == LABEL].append(Claim(subject, str(name.kind), file.path))
    data.assign(claims[False])
    data.assign(claim._replace(subject=naming.subject_of_label(claim.subject, data.subjects)) for claim in claims[True])
    return data


def _subject(folders: list[str], before: str) -> str:
    """Return the subject of a file from its folders and the start of its name, which may repeat a folder's name."""
    if not before or before in folders:
        return visit_name(folders)
    words = re.sub(r"[-. ]", "_", f"_{before}_")
    apart = [folder for folder in folders if re.sub(r"[-. ]", "_", f"_{folder}_") not in words]
    return "_".join([*apart, before])
