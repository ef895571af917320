"""Tell the subject and the kind of a scan, a modality or `LABEL`, by the names of its file and folders."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from common.data.names import PERSON, SPELLINGS, VISIT, has_number, in_folders, modality_of, person_of, split_name
from scripts.layouts.listing import ImageFile

LABEL = "label"
ANATOMY = "anatomy"  # kind of a mask of anatomy, which is no label map
IMAGES = {"images", "image", "imgs", "scans", "volumes", "anat", "nifti", "nii", "structural"}  # folders of any kind
LABEL_WORDS = {"seg", "segm", "segmentation", "dseg", "label", "labels", "mask", "masks", "msk", "lesion", "lesions"}
LABEL_WORDS |= {"segmentations", "annotation", "annotations", "roi", "gt", "gtv", "groundtruth", "truth", "wmh"}
# Words before "mask" that mark a mask of anatomy
NOT_SEGMENTED = {"brain", "bet", "head", "skull", "wm", "gm", "csf", "parenchyma"}
IS_PERSON = re.compile(rf"{PERSON.pattern}|(?i:p|sub|subj|subject|pat|patient|case|id)[_-]?\d")
SIGNS = "_-. "
# The start of a registered scan's name, before the target: S1_FLAIR_to in S1_FLAIR_to_T1
MOVED = re.compile(rf"(.+)[{re.escape(SIGNS)}](?:to|2|in)", re.IGNORECASE)
_WORDS = re.compile(rf"[{re.escape(SIGNS)}]")


def name_of(stem: str, modalities: Sequence[str] = ()) -> tuple[str, str | None]:
    """Split a file name without suffix into its beginning and the kind that its end states (None if it states none).

    `modalities` may have names of their own, which count, too.

    Example:
        >>> [name_of(stem) for stem in ("S1_T1_Gd", "S1_lesion_mask", "S1_brain_mask", "S1_FLAIR_to_T1", "S1")]
        [('S1', 'T1ce'), ('S1', 'label'), ('S1_brain', 'anatomy'), ('S1', 'FLAIR'), ('S1', None)]
    """
    words = _WORDS.split(stem)
    modality: str | None
    for modality in modalities:
        if modality not in SPELLINGS and words[-1].lower() == modality.lower():
            return stem[: -len(modality)].rstrip(SIGNS), modality
    start = len(words)
    while start and words[start - 1].lower() in LABEL_WORDS:
        start -= 1
    if start < len(words):
        before = stem[: sum(len(word) + 1 for word in words[:start])].rstrip(SIGNS)
        return before, ANATOMY if start and words[start - 1].lower() in NOT_SEGMENTED else LABEL
    before, modality = split_name(stem)
    moved = MOVED.fullmatch(before)
    source = split_name(moved[1]) if moved else (before, None)
    return source if source[1] else (before, modality)


def kind_of_folder(folder: str) -> str | None:
    """Return what a folder holds by its whole name: "images", `LABEL`, `ANATOMY` or a modality; None for any other.

    Example:
        >>> [kind_of_folder(name) for name in ("images_structural", "masks", "brain_masks", "T1_Gd", "Gd", "P1_T1")]
        ['images', 'label', 'anatomy', 'T1ce', 'T1ce', None]
    """
    words = [word for word in _WORDS.split(folder) if word.lower() not in IMAGES]
    if not words:
        return "images"
    if name_of("_".join([*words, "T1"])) == ("", "T1ce"):  # Gd
        return "T1ce"
    before, kind = name_of("_".join(words))
    return kind if kind == ANATOMY or not before else None


class Identity(NamedTuple):
    """The kind of a file (a modality or `LABEL`), and the parts of its subject's name; label maps have alternatives.

    `person` is who was scanned, if known; otherwise the subject's name tells.
    """

    kind: str
    subjects: list[list[str]]
    person: str | None = None


def identify(file: ImageFile, modalities: Sequence[str] = ()) -> Identity | None:
    """Return what a file shows, and of whom, by the names of the file and its folders; None if no name states a kind.

    Files in different folders are of different visits, except in folders of one kind, such as FLAIR or masks. In no
    other folder, the beginning of a file's name is the subject.

    Example:
        >>> [identify(ImageFile(f"{path}.nii", path.split("/")[-1]))[:2] for path in ("P1/v1/t1", "T1/P1", "P1_T1_seg")]
        [('T1', [['P1', 'v1']]), ('T1', [['P1']]), ('label', [['P1_T1'], ['P1']])]
    """
    before, kind = name_of(file.stem, modalities)
    kind = in_folders(kind, file.folders)
    kinds = [kind_of_folder(folder) for folder in file.folders]
    folders = [folder for folder, shown in zip(file.folders, kinds, strict=True) if shown is None]
    if ANATOMY in (kind, *kinds):
        return None
    if kind is None or (LABEL in kinds and kind != LABEL):  # the folder states the kind
        stated = [LABEL] if LABEL in kinds else [shown for shown in kinds if shown not in (None, "images")]
        if not stated:
            return None
        before, kind = file.stem, str(in_folders(stated[-1], [*file.folders, file.stem]))
    return Identity(kind, [parts_of(folders, name) for name in beginnings(kind, before)])


def beginnings(kind: str, before: str) -> list[str]:
    """Return the beginnings of a file's name that may be its subject's: P1_T1 and P1 of the label map P1_T1_seg."""
    return [before, name_of(before)[0]] if kind == LABEL else [before]


def parts_of(folders: list[str], before: str) -> list[str]:
    """Return the parts of a subject's name: folders, and what the beginning of a file's name adds to them.

    In folders, a name adds only a visit: v1 in P1/P1_v1_T1, but nothing in P1/ax_T1.
    """
    if not folders:
        return [before] if before else []
    rest = before
    for folder in folders:
        rest = re.sub(rf"(?:^|[_.\- ]){re.escape(folder)}(?=[_.\- ]|$)", "", rest)
    rest = rest.strip(SIGNS)
    if not is_visit(rest) and not (rest.isdecimal() and rest != before):
        rest = "_".join(word for word in rest.split("_") if is_visit(word) and not modality_of(word))
    return [*folders, *filter(None, [rest])]


def visit_name(parts: Sequence[str]) -> str:
    """Return the name of a visit from the parts of its path, such as P01/late, so that `person_of` finds the person.

    Example:
        >>> [visit_name(path.split("/")) for path in ("sub_1/ses_2", "P01/late", "baseline/P01", "HGG/a")]
        ['sub_1_ses_2', 'P01_ses-late', 'P01_ses-baseline', 'HGG_a']
    """
    is_above = is_visit(parts[0]) or re.fullmatch(r"(?:19|20)\d\d", parts[0])  # baseline/P01, 2020/P01
    if len(parts) > 1 and is_above and not is_visit(parts[1]):
        return f"{'_'.join(parts[1:])}_ses-{parts[0].removeprefix('ses-')}"
    name = "_".join(parts)
    for depth in range(1, len(parts)):
        person = "_".join(parts[:depth])
        if has_number(person) and person_of(name) == name and not IS_PERSON.match(parts[depth]):
            return f"{person}_ses-{'-'.join(parts[depth:])}"
    return name


def is_visit(word: str) -> bool:
    """Whether a part of a name states a visit, such as v2, baseline or ses-01."""
    visit = VISIT.fullmatch(f"P_{word}")
    return word.startswith("ses-") or (visit is not None and visit["person"] == "P")
