"""Parse file names: modality, label or neither, and the words before."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...errors import InputError
from ..modalities import SPELLINGS, split_name

LABEL = "label"
NO_LABELS = "\0"  # words that never end a name
LABEL_WORDS = {"seg", "segmentation", "dseg", "label", "labels", "mask", "masks", "lesion", "lesions", "annotation"}
LABEL_WORDS |= {"roi", "gt", "groundtruth", "truth"}
NOT_SEGMENTED = {"brain", "bet", "head", "skull", "wm", "gm", "csf"}  # before "mask": not a lesion mask
EXAMPLE = "names such as T1,FLAIR, or the words that end their files' names, such as T1=t1_mprage,FLAIR=flair_reg"
NIFTI = re.compile(r"([^.].*?)\.nii(?:\.gz)?", re.IGNORECASE | re.DOTALL)
SIGNS = "_-. "
# The words before the modality that a scan was registered to
MOVED = re.compile(rf"(.+)[{re.escape(SIGNS)}](?:to|2|in)", re.IGNORECASE)


class Name(NamedTuple):
    """A parsed file name: `before`, in a flat folder the subject, and `kind`: a modality, `LABEL`, or None."""

    before: str
    kind: str | None


def stem_of(file: str) -> str | None:
    """The name of a NIfTI file without extension; None for hidden and other files."""
    found = NIFTI.fullmatch(file)
    return found[1] if found else None


def ends_with(stem: str, words: str) -> bool:
    """Whether a name ends with whole words, or matches a pattern with `*`, ignoring case."""
    if "*" in words:
        return fnmatch.fnmatchcase(stem.lower(), words.lower())
    start = len(stem) - len(words)
    return stem.lower().endswith(words.lower()) and (start == 0 or not words or stem[start - 1] in SIGNS)


@dataclass(frozen=True)
class Naming:
    """How a data set names its files: `modalities` in order (None: those that every subject has), and words for each.

    `spelled` maps a modality to the last words of its names or a pattern with `*`, in place of `SPELLINGS`; a modality
    in neither is its own word. `label` replaces `LABEL_WORDS`.
    """

    modalities: tuple[str, ...] | None = None
    spelled: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None

    def parse(self, stem: str) -> Name:
        """Parse a name without extension.

        Example:
            >>> Naming().parse("S1_T1_Gd"), Naming().parse("S1_lesion_mask"), Naming().parse("S1_brain_mask")
            (Name(before='S1', kind='T1ce'), Name(before='S1', kind='label'), Name(before='S1_brain_mask', kind=None))
            >>> Naming().parse("S1_FLAIR_to_T1")
            Name(before='S1', kind='FLAIR')
        """
        if self.label is not None and ends_with(stem, self.label):
            return Name(_cut(stem, self.label), LABEL)
        for modality, words in sorted(self.spelled.items(), key=lambda item: -len(item[1])):
            if words and ends_with(stem, words):
                return Name(_cut(stem, words), modality)
        before = before_label(stem)
        if before is not None:
            last = re.split(r"[_.\- ]", before)[-1].lower()
            return Name(stem, None) if self.label is not None or last in NOT_SEGMENTED else Name(before, LABEL)
        found = Name(*split_name(stem))
        if moved := MOVED.fullmatch(found.before):  # S1_FLAIR_to_T1 is a FLAIR
            of_its_own = Name(*split_name(moved[1]))
            found = of_its_own if of_its_own.kind else found
        if found.kind is not None and self.takes(found.kind):
            return found
        own = next((name for name in self.modalities or () if self.takes(name) and ends_with(stem, name)), None)
        if own is not None:
            return Name(_cut(stem, own), own)
        bare = next((modality for modality, words in self.spelled.items() if not words), None)
        return Name(stem, bare)

    def has_pattern_of(self, stem: str) -> bool:
        """Whether the whole name matches a pattern with `*`."""
        words = (self.label or "", *self.spelled.values())
        return any("*" in pattern and ends_with(stem, pattern) for pattern in words)

    def takes(self, modality: str) -> bool:
        """Whether the usual names of a modality apply."""
        if modality in self.spelled:
            return False
        return not self.spelled or modality in (self.modalities or ())

    def subject_of_label(self, before: str, subjects: Mapping[str, Any]) -> str:
        """The subject of a label map whose name may contain a modality, as in S1_FLAIR_lesion."""
        if before in subjects:
            return before
        shorter = self.parse(before).before
        return shorter if shorter in subjects else before


def _cut(stem: str, words: str) -> str:
    """A name without its last words, or the part after a pattern's last `*`, without the separator."""
    if "*" in words:
        end = words.rpartition("*")[2]
        return stem[: len(stem) - len(end)].rstrip(SIGNS) if end else ""
    return stem[: max(0, len(stem) - len(words) - 1)] if words else stem


def before_label(stem: str) -> str | None:
    """The part of a name before its label words; None without label words."""
    rest = stem
    while (parts := re.fullmatch(r"(?:(.*)[_.\- ])?([^_.\- ]+)", rest, re.DOTALL)) and parts[2].lower() in LABEL_WORDS:
        rest = parts[1] or ""
        if not rest:
            break
    return None if rest == stem else rest


def naming(modalities: str | Sequence[str] | None, label: Any) -> Naming:
    """Check and convert the options `--modalities` and `--label`."""
    words = None if label is None else _cleaned(str(label))
    if words == "":
        raise InputError(f"--label={label}: expected the words that end the names of label maps, such as lesion_mask")
    if modalities is None:
        return Naming(label=words)
    given = ",".join(map(str, modalities)) if isinstance(modalities, list | tuple) else str(modalities)
    pairs = [[part.strip() for part in pair.partition("=")] for pair in given.split(",")]
    names = tuple(next((known for known in SPELLINGS if known.lower() == name.lower()), name) for name, _, _ in pairs)
    spelled = {name: _cleaned(text) for name, (_, sign, text) in zip(names, pairs, strict=True) if sign}
    are_distinct = len(set(names)) == len(names) and len({text.lower() for text in spelled.values()}) == len(spelled)
    if not (all(names) and are_distinct and len(spelled) in (0, len(names))):
        raise InputError(f"--modalities={given}: expected different {EXAMPLE}")
    return Naming(names, spelled, words)


def _cleaned(words: str) -> str:
    """Words without a leading separator or an extension."""
    return (stem_of(words) or words).lstrip(SIGNS)


def plain_name(name: str) -> str:
    """A region's name in letters, digits, _ and -, with a letter first.

    Example:
        >>> plain_name("Gray Matter"), plain_name("3rd ventricle")
        ('Gray_Matter', 'region_3rd_ventricle')
    """
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
