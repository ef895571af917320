"""Tell the kind of a scan, a modality or `LABEL`, and its subject by the names of its file and folders."""

import re
from collections.abc import Sequence

from common.data.names import PERSON, VISIT, has_number, modality_of, person_of, split_name

LABEL = "label"
ANATOMY = "anatomy"  # kind of a mask of anatomy, which is no label map
SIGNS = "-_. "  # between the words of a name; also a class of a regular expression
# Names that end with words for label maps, or, before these, with words for anatomy
_LABEL = re.compile(
    rf"(?is)(.*?)(?:(?:^|[{SIGNS}])(?:d?seg|segm|segmentations?|labels?|masks?|msk|lesions?|annotations?|roi|gt|gtv|"
    r"(?:ground)?truth|wmh)(?:-manual)?)+"
)
_ANATOMY = re.compile(
    rf"(?is)(?:.*[{SIGNS}])?(?:brain|bet|head|skull|wm|[cs]?gm|csf|parenchyma|aseg|aparcaseg|label-(?:bg?|bs|nb|st))"
)
# Words in the names of folders of any kind
_IMAGES = re.compile(rf"(?i)(?:^|[{SIGNS}])(?:images?|imgs|scans|volumes|anat|nifti|nii|structural)(?=$|[{SIGNS}])")
# The start of a registered scan's name, before the target: S1_FLAIR_to in S1_FLAIR_to_T1
_MOVED = re.compile(rf"(?i)(.+)[{SIGNS}](?:to|2|in)")
_IS_PERSON = re.compile(rf"{PERSON.pattern}|(?i:p|sub|subj|subject|pat|patient|case|id)[_-]?\d")


def name_of(stem: str) -> tuple[str, str | None]:
    """Split a file name without suffix into its beginning and the kind that its end states (None if it states none).

    Example:
        >>> [name_of(stem) for stem in ("S1_T1_Gd", "S1_lesion_mask", "S1_brain_mask", "S1_FLAIR_to_T1", "S1")]
        [('S1', 'T1ce'), ('S1', 'label'), ('S1_brain', 'anatomy'), ('S1', 'FLAIR'), ('S1', None)]
    """
    if label := _LABEL.fullmatch(stem):
        before = label[1].rstrip(SIGNS)
        return before, ANATOMY if _ANATOMY.fullmatch(before) else LABEL
    before, modality = split_name(stem)
    moved = _MOVED.fullmatch(before)
    source = split_name(moved[1]) if moved else (before, None)
    return source if source[1] else (before, modality)


def kind_of_folder(folder: str) -> str | None:
    """Return what a folder holds by its whole name: "images", `LABEL`, `ANATOMY` or a modality; None for any other.

    Example:
        >>> [kind_of_folder(name) for name in ("images_structural", "masks", "brain_masks", "T1_Gd", "Gd", "P1_T1")]
        ['images', 'label', 'anatomy', 'T1ce', 'T1ce', None]
    """
    text = _IMAGES.sub("", folder).strip(SIGNS)
    if not text:
        return "images"
    if name_of(f"{text}_T1") == ("", "T1ce"):  # Gd
        return "T1ce"
    before, kind = name_of(text)
    return kind if kind == ANATOMY or not before else None


def subjects_of(kind: str, folders: Sequence[str], before: str) -> dict[str, list[str]]:
    """Return the names of a file's subject and their parts, by its folders and the beginning of its name.

    Files in different folders are of different visits, except in folders of one kind, such as FLAIR or masks. In no
    other folder, the beginning of the file's name is the subject. That of a label map has alternatives.

    Example:
        >>> subjects_of("T1", ["P1", "late"], "P1_ax"), [*subjects_of("label", ["masks"], "P1_T1")]
        ({'P1_ses-late': ['P1', 'late']}, ['P1_T1', 'P1'])
    """
    own = [folder for folder in folders if kind_of_folder(folder) is None]
    return {visit_name(parts): parts for name in beginnings(kind, before) if (parts := _parts_of(own, name))}


def beginnings(kind: str, before: str) -> list[str]:
    """Return the beginnings of a file's name that may be its subject's: P1_T1 and P1 of the label map P1_T1_seg."""
    return [before, name_of(before)[0]] if kind == LABEL else [before]


def _parts_of(folders: list[str], before: str) -> list[str]:
    """Return folders and what a file's name adds: only a visit, v1 in P1/P1_v1_T1, but nothing in P1/ax_T1."""
    if not folders:
        return [before] if before else []
    known = "|".join(map(re.escape, folders))
    rest = re.sub(rf"(?:^|[{SIGNS}])(?:{known})(?=[{SIGNS}]|$)", "", before).strip(SIGNS)
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
        if has_number(person) and person_of(name) == name and not _IS_PERSON.match(parts[depth]):
            return f"{person}_ses-{'-'.join(parts[depth:])}"
    return name


def is_visit(word: str) -> bool:
    """Whether a part of a name states a visit, such as v2, baseline or ses-01."""
    visit = VISIT.fullmatch(f"P_{word}")
    return word.startswith("ses-") or (visit is not None and visit["person"] == "P")
