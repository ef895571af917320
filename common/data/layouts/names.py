"""Parse file names: modality, label or neither, and the words before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from ...errors import InputError
from ..modalities import SPELLINGS, split_name
from .listing import stem_of
from .templates import Template

LABEL = "label"
ANATOMY = "anatomy"  # kind of a folder
NO_LABELS = "\0"  # words that never end a name
LABEL_WORDS = {"seg", "segm", "segmentation", "dseg", "label", "labels", "mask", "masks", "msk", "lesion", "lesions"}
LABEL_WORDS |= {"annotation", "roi", "gt", "gtv", "groundtruth", "truth", "wmh"}
# Words before "mask" that say that it is none of lesions
NOT_SEGMENTED = {"brain", "bet", "head", "skull", "wm", "gm", "csf", "parenchyma"}
IMAGES = ("images", "image", "imgs", "scans", "volumes")  # folders of the images of all subjects
LABELS = ("labels", "label", "masks", "mask", "segmentations", "annotations", "lesions")  # and of their label maps
EXAMPLE = "names such as T1,FLAIR, or the words that end their files' names, such as T1=t1_mprage,FLAIR=flair_reg"
SIGNS = "_-. "
SUBJECT = "{subject}"
WILD = f"a pattern such as masks/* or {SUBJECT}/pre/T1"
# The words before the modality that a scan was registered to
MOVED = re.compile(rf"(.+)[{re.escape(SIGNS)}](?:to|2|in)", re.IGNORECASE)


class Name(NamedTuple):
    """A parsed file name: the part `before` the words of its kind, and the kind: a modality, `LABEL` or None.

    `is_given` tells that a user named the words, `subject` the subject as a template states it.
    """

    before: str
    kind: str | None
    is_given: bool = False
    subject: str | None = None


def fits(bare: str, words: str) -> bool:
    """Whether a path without suffix ends with whole words or matches a template, ignoring case.

    Example:
        >>> fits("P1/pre/P1_T1", "T1"), fits("P1/pre/T1", "pre/T1"), fits("P1/pre/T1", "orig/*"), fits("P1_T1", "1")
        (True, True, False, False)
    """
    return _fields(bare, words) is not None


def _fields(bare: str, words: str) -> dict[str, str] | None:
    """The fields of a template that a path fits, none for words that end it; None if they do not fit."""
    return _template(words).match(bare)


@lru_cache
def _template(words: str) -> Template:
    if "*" in words or "{" in words:
        return Template(f"**/{words}", flags=re.IGNORECASE)
    return Template(
        "{start}{words}", {"start": f"(?:.*[{re.escape(SIGNS)}/])?", "words": re.escape(words)}, re.IGNORECASE
    )


@dataclass(frozen=True)
class Naming:
    """How a data set names its files: `modalities` in order (None: those that every subject has), and words for each.

    `spelled` maps a modality to the last words of its names or a pattern with `*`, in place of `SPELLINGS`; a modality
    in neither is its own word. Empty words are for names that state no modality. `label` replaces `LABEL_WORDS`.
    """

    modalities: tuple[str, ...] | None = None
    spelled: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None

    @property
    def states_subjects(self) -> bool:
        """Whether a template says where the subject's name is."""
        return any(SUBJECT in words for words in (self.label or "", *self.spelled.values()))

    def parse(self, stem: str, bare: str = "", folder: str | None = None) -> Name:
        """Parse a name without suffix; `bare` is the path that ends with it, `folder` the modality of its folder.

        Example:
            >>> [Naming().parse(name).kind for name in ("S1_T1_Gd", "S1_lesion_mask", "S1_brain_mask")]
            ['T1ce', 'label', None]
            >>> Naming().parse("S1_FLAIR_to_T1")[:2]
            ('S1', 'FLAIR')
        """
        given = sorted(self.spelled.items(), key=lambda item: -len(item[1]))
        for kind, words in [(LABEL, self.label or ""), *given]:
            if words and (fields := _fields(bare or stem, words)) is not None:
                before = _cut((bare or stem).rpartition("/")[2], words.rpartition("/")[2])
                return Name(before, kind, is_given=True, subject=fields.get("subject"))
        if (start := before_label(stem)) is not None:
            return Name(stem, None) if self.label is not None or is_of_anatomy(stem) else Name(start, LABEL)
        found = Name(*split_name(stem))
        if moved := MOVED.fullmatch(found.before):  # S1_FLAIR_to_T1 is a FLAIR
            of_its_own = Name(*split_name(moved[1]))
            found = of_its_own if of_its_own.kind else found
        if found.kind is not None and self.takes(found.kind):
            return found
        own = next((name for name in self.modalities or () if self.takes(name) and fits(stem, name)), None)
        if own is not None:
            return Name(_cut(stem, own), own)
        if found.kind is not None or (folder and not self.takes(folder)):
            return Name(stem, None)
        return Name(stem, folder or self.wordless)

    @property
    def wordless(self) -> str | None:
        """The modality of names that state none."""
        return next((modality for modality, words in self.spelled.items() if not words), None)

    def takes(self, modality: str) -> bool:
        """Whether the usual names of a modality apply."""
        if self.spelled.get(modality):
            return False
        return not self.spelled or modality in (self.modalities or ())

    def choose(self, kind: str, words: str) -> "Naming":
        """The naming in which words name the files of a modality or of the label maps."""
        if kind == LABEL:
            return replace(self, label=words)
        return replace(self, modalities=(*(self.modalities or ()), kind), spelled={**self.spelled, kind: words})

    def subject_of_label(self, before: str, subjects: Mapping[str, Any]) -> str:
        """The subject of a label map whose name may contain a modality, as in S1_FLAIR_lesion."""
        if before in subjects:
            return before
        shorter = self.parse(before).before
        return shorter if shorter in subjects else before


def _cut(stem: str, words: str) -> str:
    """A name without its last words, or without the part after a template's last wildcard."""
    if end := re.split(r"[*?\]}]", words)[-1]:
        return stem[: -len(end)].rstrip(SIGNS)
    before = before_label(stem)
    return split_name(stem)[0] if before is None else before


def is_of_anatomy(stem: str) -> bool:
    """Whether the words before those of a label map say that it shows no lesions."""
    return re.split(r"[_.\- ]", before_label(stem) or "")[-1].lower() in NOT_SEGMENTED


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
    words = None if label is None else words_of(str(label), f"--label={label}")
    if modalities is None:
        return Naming(label=words)
    given = ",".join(map(str, modalities)) if isinstance(modalities, list | tuple) else str(modalities)
    pairs = [[part.strip() for part in pair.partition("=")] for pair in given.split(",")]
    names = tuple(next((known for known in SPELLINGS if known.lower() == name.lower()), name) for name, _, _ in pairs)
    option = f"--modalities={given}"
    spelled = {
        name: words_of(text, option) if text else "" for name, (_, sign, text) in zip(names, pairs, strict=True) if sign
    }
    are_distinct = len(set(names)) == len(names) and len({text.lower() for text in spelled.values()}) == len(spelled)
    if not (all(names) and are_distinct):
        raise InputError(f"{option}: expected different {EXAMPLE}")
    return Naming(names, spelled, words)


def words_of(text: str, option: str) -> str:
    """Check the words or the template of an option, and return them without suffix and leading separator."""
    words = (stem_of(text) or text).removeprefix("./").lstrip(SIGNS + "/")
    try:
        fields = set(re.findall(r"\{[^}]*\}?", words)) - {SUBJECT}
        if words and not fields and ".." not in words.split("/"):
            _template(words).match("")  # compiles it
            return words
    except re.error:
        pass
    raise InputError(f"{option}: expected the words that end names or paths, such as lesion_mask or pre/T1, or {WILD}")


def plain_name(name: str) -> str:
    """A region's name in letters, digits, _ and -, with a letter first.

    Example:
        >>> plain_name("Gray Matter"), plain_name("3rd ventricle")
        ('Gray_Matter', 'region_3rd_ventricle')
    """
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
