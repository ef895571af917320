"""Parse file names such as S1_FLAIR or S1_lesion_mask into subject and modality, or subject and label map."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from ...errors import InputError
from ..modalities import SPELLINGS, UNCLEAR, in_folders, split_name
from .listing import stem_of
from .templates import Template

LABEL = "label"
ANATOMY = "anatomy"  # kind of a folder with masks of anatomy
MIXED = "MR"  # modality of --modalities=each: every scan is a subject, whatever it shows
NO_LABELS = "\0"  # label words that match no file
LABEL_WORDS = {"seg", "segm", "segmentation", "dseg", "label", "labels", "mask", "masks", "msk", "lesion", "lesions"}
LABEL_WORDS |= {"segmentations", "annotation", "annotations", "roi", "gt", "gtv", "groundtruth", "truth", "wmh"}
# Words before "mask" that mark a mask of anatomy
NOT_SEGMENTED = {"brain", "bet", "head", "skull", "wm", "gm", "csf", "parenchyma"}
IMAGES = ("images", "image", "imgs", "scans", "volumes", "anat", "nifti", "nii")  # folders of images of any kind
EXAMPLE = "names such as T1,FLAIR, or endings of file names such as T1=t1_mprage,FLAIR=flair_reg"
SIGNS = "_-. "
SUBJECT = "{subject}"
WILD = f"a pattern such as masks/* or {SUBJECT}/pre/T1"
# The start of a registered scan's name, before the target: S1_FLAIR_to in S1_FLAIR_to_T1
MOVED = re.compile(rf"(.+)[{re.escape(SIGNS)}](?:to|2|in)", re.IGNORECASE)


class Name(NamedTuple):
    """A parsed file name: its `kind` (a modality, `LABEL` or None) and the text before the words that state it.

    `is_given`: the words are from --modalities or --label. `subject` is the match of a template's {subject}.
    """

    before: str
    kind: str | None
    is_given: bool = False
    subject: str | None = None


def fits(bare: str, words: str) -> bool:
    """Whether a path without suffix ends with whole `words`, or matches them as a template; case is ignored.

    Example:
        >>> fits("P1/pre/P1_T1", "T1"), fits("P1/pre/T1", "pre/T1"), fits("P1/pre/T1", "orig/*"), fits("P1_T1", "1")
        (True, True, False, False)
    """
    return _template(words).match(bare) is not None


@lru_cache
def _template(words: str) -> Template:
    if "*" in words or "{" in words:
        return Template(f"**/{words}", flags=re.IGNORECASE)
    return Template(
        "{start}{words}", {"start": f"(?:.*[{re.escape(SIGNS)}/])?", "words": re.escape(words)}, re.IGNORECASE
    )


@dataclass(frozen=True)
class Naming:
    """How a data set's files are named, by the options `--modalities` and `--label`.

    `modalities` lists modalities in channel order; None selects the modalities of every subject. `spelled` maps a
    modality to the words that end its file names, or to a pattern, and replaces `SPELLINGS`; empty words match names
    without a modality. A listed modality not in `spelled` also matches its own name. `label` replaces `LABEL_WORDS`.
    """

    modalities: tuple[str, ...] | None = None
    spelled: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None

    def parse(self, stem: str, bare: str = "", folder: str | None = None) -> Name:
        """Parse a file name without suffix; `bare` is the path without suffix, `folder` the modality of the folder.

        Example:
            >>> [Naming().parse(name).kind for name in ("S1_T1_Gd", "S1_lesion_mask", "S1_brain_mask")]
            ['T1ce', 'label', None]
            >>> Naming().parse("S1_FLAIR_to_T1")[:2]
            ('S1', 'FLAIR')
        """
        longest_first = sorted(self.spelled.items(), key=lambda item: -len(item[1]))
        for kind, words in [(LABEL, self.label or ""), *longest_first]:
            if words and (fields := _template(words).match(bare or stem)) is not None:
                before = _cut((bare or stem).rpartition("/")[2], words.rpartition("/")[2])
                return Name(before, kind, is_given=True, subject=fields.get("subject"))
        if (start := before_label(stem)) is not None:
            return Name(stem, None) if self.label is not None or is_of_anatomy(stem) else Name(start, LABEL)
        name = Name(*split_name(stem))
        if moved := MOVED.fullmatch(name.before):  # S1_FLAIR_to_T1 is a FLAIR image
            source = Name(*split_name(moved[1]))
            name = source if source.kind else name
        folders = bare.split("/")[:-1]
        name = name._replace(kind=in_folders(name.kind, folders))
        folder = in_folders(folder, [*folders, stem])
        if name.kind is not None and self.takes(name.kind):
            return name
        matches = (modality for modality in self.modalities or () if modality not in SPELLINGS and fits(stem, modality))
        if (modality := next(matches, None)) is not None:
            return Name(_cut(stem, modality), modality)
        if name.kind is not None or (folder and not self.takes(folder)):
            return Name(stem, None)
        if self.modalities == (MIXED,):
            return Name("", folder or stem) if "/" in bare else Name(stem, MIXED)
        return Name(stem, folder or self.default_modality)

    @property
    def default_modality(self) -> str | None:
        """The modality of files without a modality in their names, as in `--modalities=T1=`; None if not set."""
        return next((modality for modality, words in self.spelled.items() if not words), None)

    def takes(self, modality: str) -> bool:
        """Whether usual spellings of a modality in file names count, such as t1c for T1ce."""
        if modality == UNCLEAR:
            return self.takes("T1") or self.takes("T1ce")
        if self.spelled.get(modality):
            return False
        return not self.spelled or modality in (self.modalities or ())

    def subject_of_label(self, before: str, subjects: Mapping[str, Any]) -> str:
        """Return a label map's subject from the text before its label words, such as S1_FLAIR in S1_FLAIR_lesion."""
        if before in subjects:
            return before
        shorter = self.parse(before).before
        return shorter if shorter in subjects else before


def _cut(stem: str, words: str) -> str:
    """Return a name without the `words` that end it; for a template, without the text after the last wildcard.

    If the template ends with a wildcard, the name ends before its label words or, without these, before its modality.
    """
    if end := re.split(r"[*?\]}]", words)[-1]:
        return stem[: -len(end)].rstrip(SIGNS)
    before = before_label(stem)
    return split_name(stem)[0] if before is None else before


def is_of_anatomy(stem: str) -> bool:
    """Whether a label map shows anatomy, not lesions, by its name, such as S1_brain_mask."""
    return re.split(r"[_.\- ]", before_label(stem) or "")[-1].lower() in NOT_SEGMENTED


def before_label(stem: str) -> str | None:
    """Return a file name without the label words at its end, such as lesion_mask; None if it has none."""
    rest = stem
    while (parts := re.fullmatch(r"(?:(.*)[_.\- ])?([^_.\- ]+)", rest, re.DOTALL)) and parts[2].lower() in LABEL_WORDS:
        rest = parts[1] or ""
        if not rest:
            break
    return None if rest == stem else rest


def naming(modalities: str | Sequence[str] | None, label: Any) -> Naming:
    """Parse the options `--modalities` and `--label`; raise `InputError` if they are invalid."""
    words = None if label is None else words_of(str(label), f"--label={label}")
    if modalities is None:
        return Naming(label=words)
    listed = ",".join(map(str, modalities)) if isinstance(modalities, list | tuple) else str(modalities)
    pairs = [[part.strip() for part in pair.partition("=")] for pair in listed.split(",")]
    canonical = {"each": MIXED, **{modality.lower(): modality for modality in SPELLINGS}}
    names = tuple(canonical.get(name.lower(), name) for name, _, _ in pairs)
    option = f"--modalities={listed}"
    spelled = {
        name: words_of(text, option) if text else "" for name, (_, sign, text) in zip(names, pairs, strict=True) if sign
    }
    if not all(names):
        raise InputError(f"{option}: a name is empty; expected {EXAMPLE}")
    if len(set(names)) < len(names):
        raise InputError(f"{option}: a name occurs twice; expected distinct {EXAMPLE}")
    check_distinct(spelled, option)
    return Naming(names, spelled, words)


def check_distinct(spelled: Mapping[str, str], option: str) -> None:
    """Raise `InputError` if `option` gives two modalities the same words or pattern, and thus the same files."""
    names: dict[str, str] = {}
    for name, words in spelled.items():
        if (first := names.setdefault(words.lower(), name)) != name:
            raise InputError(f"{option}: the same words or pattern for {first} and {name}; expected distinct ones")


def words_of(text: str, option: str) -> str:
    """Check the words or path template in an option; return them without suffix and leading separators."""
    words = (stem_of(text) or text).removeprefix("./").lstrip(SIGNS + "/")
    try:
        fields = set(re.findall(r"\{[^}]*\}?", words)) - {SUBJECT}
        if words and not fields and ".." not in words.split("/"):
            _template(words).match("")  # compiles the pattern
            return words
    except re.error:
        pass
    raise InputError(f"{option}: expected the end of file names or paths, such as lesion_mask or pre/T1, or {WILD}")


def plain_name(name: str) -> str:
    """Convert a region's name to up to 40 letters, digits, _ and -, starting with a letter.

    Example:
        >>> plain_name("Gray Matter"), plain_name("3rd ventricle")
        ('Gray_Matter', 'region_3rd_ventricle')
    """
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
