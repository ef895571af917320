"""Tell the kind of a scan, a modality or `LABEL`, and its subject by its path: by usual names, words or a pattern."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.data import names
from common.errors import InputError

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
_IS_PERSON = re.compile(rf"{names.PERSON.pattern}|(?i:p|sub|subj|subject|pat|patient|case|id)[_-]?\d")
EXAMPLE = "{subject}/{session}/{modality}"
_TOKEN = re.compile(r"(\{\w+\}|\*\*/|\*+|\?|\[[^\]/]+\])")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def name_of(stem: str) -> tuple[str, str | None]:
    """Split a file name without suffix into its beginning and the kind that its end states (None if it states none).

    Example:
        >>> [name_of(stem) for stem in ("S1_T1_Gd", "S1_lesion_mask", "S1_brain_mask", "S1_FLAIR_to_T1", "S1")]
        [('S1', 'T1ce'), ('S1', 'label'), ('S1_brain', 'anatomy'), ('S1', 'FLAIR'), ('S1', None)]
    """
    if label := _LABEL.fullmatch(stem):
        before = label[1].rstrip(SIGNS)
        return before, ANATOMY if _ANATOMY.fullmatch(before) else LABEL
    return names.split_name(stem)


def kind_of_folder(folder: str) -> str | None:
    """Return what a folder holds by its whole name: "images", `LABEL`, `ANATOMY` or a modality; None for any other."""
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
    """
    own = [folder for folder in folders if kind_of_folder(folder) is None]
    known, subjects = "|".join(map(re.escape, own)), {}
    for name in beginnings(kind, before):
        rest = name
        if own:  # a name adds only a visit: v1 in P1/P1_v1_T1, but nothing in P1/ax_T1
            rest = re.sub(rf"(?:^|[{SIGNS}])(?:{known})(?=[{SIGNS}]|$)", "", name).strip(SIGNS)
            if not is_visit(rest) and not (rest.isdecimal() and rest != name):
                rest = "_".join(word for word in rest.split("_") if is_visit(word) and not names.modality_of(word))
        if parts := [*own, *filter(None, [rest])]:
            subjects[visit_name(parts)] = parts
    return subjects


def beginnings(kind: str, before: str) -> list[str]:
    """Return the beginnings of a file's name that may be its subject's: P1_T1 and P1 of the label map P1_T1_seg."""
    return [before, name_of(before)[0]] if kind == LABEL else [before]


def visit_name(parts: Sequence[str]) -> str:
    """Return the name of a visit from the parts of its path, such as P01/late, so that `person_of` finds the person."""
    first, *others = parts
    if others and not is_visit(others[0]) and (is_visit(first) or re.fullmatch(r"(?:19|20)\d\d", first)):
        return f"{'_'.join(others)}_ses-{first.removeprefix('ses-')}"
    name = "_".join(parts)
    for depth in range(1, len(parts)):
        person = "_".join(parts[:depth])
        if names.has_number(person) and names.person_of(name) == name and not _IS_PERSON.match(parts[depth]):
            return f"{person}_ses-{'-'.join(parts[depth:])}"
    return name


def is_visit(word: str) -> bool:
    """Whether a part of a name states a visit, such as v2, baseline or ses-01."""
    visit = names.VISIT.fullmatch(f"P_{word}")
    return word.startswith("ses-") or (visit is not None and visit["person"] == "P")


def compile_pattern(text: str, fields: Mapping[str, str] | None = None, flags: int = 0) -> re.Pattern[str]:
    """Compile a pattern of paths with {fields}; `*`, `?` and `[...]` match within a name, `**` also across folders.

    `fields` maps a field to the regular expression of its values, by default any name.

    Example:
        >>> compile_pattern("{subject}/pre/{subject}_T?").fullmatch("P1/pre/P1_T1").groupdict()
        {'subject': 'P1'}
    """
    regex = ""
    for part in _TOKEN.split(text):
        name = part.strip("{}")
        if not _TOKEN.fullmatch(part):
            regex += re.escape(part)
        elif name == part:
            regex += _WILD.get(part, part.replace("[!", "[^"))
        elif f"(?P<{name}>" in regex:
            regex += f"(?P={name})"
        else:
            regex += f"(?P<{name}>{(fields or {}).get(name, '[^/]+?')})"
    return re.compile(regex, flags | re.DOTALL)


def ending(words: str) -> re.Pattern[str]:
    """Compile the pattern of the paths that end with whole words, or with a pattern; case is ignored."""
    if _TOKEN.search(words):
        return compile_pattern(f"**/{words}", flags=re.IGNORECASE)
    return re.compile(rf"(?is)(?:.*[{SIGNS}/])?{re.escape(words)}")


class Identity(NamedTuple):
    """What a file shows, and of whom."""

    kind: str  # a modality or `LABEL`
    subjects: Mapping[str, Any]  # what the path says of the subject, by name; a label map has alternatives
    person: str | None = None  # None if the subject's name tells


@dataclass(frozen=True)
class Naming:
    """How a data set's files are named: `--modalities`, `--label` and `--pattern`."""

    modalities: tuple[str, ...] | None = None  # in channel order; None selects the modalities of every subject
    words: Mapping[str, str] = field(default_factory=dict)  # by kind, the end of its paths, instead of usual spellings
    pattern: str | None = None  # has {subject} and {modality}, instead of the usual reading of folders and names
    labels: bool = True  # whether label maps are wanted

    def takes(self, kind: str) -> bool:
        """Whether the usual spellings of a kind count, such as t1c for T1ce."""
        if kind == LABEL:
            return self.labels and LABEL not in self.words
        if kind == names.UNCLEAR:
            return self.takes("T1") or self.takes("T1ce")
        given = self.words.keys() - {LABEL}
        return kind not in given and (not given or self.modalities is None or kind in self.modalities)

    def identify(self, path: str) -> Identity | None:
        """Return what a file shows, and of whom, by its path without suffix; None if the path does not say.

        The user's words come first. Otherwise the end of the name states the kind, or the innermost folder of a kind,
        which is {modality} in a pattern; in a folder of label maps, all files are label maps.
        """
        if stated := self.stated(path):
            return stated
        *folders, name = path.split("/")
        before, usual = name_of(name)
        for modality in self.modalities or ():
            if modality not in names.SPELLINGS and ending(modality).fullmatch(name):
                before, usual = name[: -len(modality)].rstrip(SIGNS), modality
        kinds = [(usual, "", before), *((kind_of_folder(folder), folder, name) for folder in reversed(folders))]
        if any(kind == ANATOMY for kind, *_ in kinds):
            return None
        for kind, folder, before in sorted(kinds, key=lambda item: item[0] != LABEL):
            kind = names.in_folders(kind, [*folders, name] if folder and self.pattern is None else folders)
            if kind in (None, "images"):
                continue
            if not self.takes(kind):
                return None
            if self.pattern is None:
                return Identity(kind, subjects_of(kind, folders, before))
            for start in beginnings(kind, before):
                end = folder or name[len(start) :].lstrip(SIGNS)
                if match := compile_pattern(self.pattern, {"modality": re.escape(end)}).fullmatch(path):
                    return _identity(kind, match)
        return None

    def stated(self, path: str) -> Identity | None:
        """Return the identity of a file that the user's words fit; the longest words come first."""
        *folders, name = path.split("/")
        before, usual = name_of(name)
        for kind, words in sorted(self.words.items(), key=lambda item: (item[0] != LABEL, -len(item[1]))):
            match, end = ending(words).fullmatch(path), re.split(r"[*?\]}]", words)[-1]  # after the last wildcard
            is_mask = usual == LABEL and kind != LABEL and not end
            if match is None or is_mask or names.modality_of(words) not in (None, names.in_folders(usual, folders)):
                continue
            if "subject" in match.re.groupindex:
                return _identity(kind, match)
            if last := end.rpartition("/")[2]:
                before = name[: -len(last)].rstrip(SIGNS)
            return Identity(kind, subjects_of(kind, folders[: len(folders) - words.count("/")], before))
        return None


def _identity(kind: str, match: re.Match[str]) -> Identity:
    """Return the identity of a file by {subject} and {session}."""
    session = match.groupdict().get("session")
    visits = [[subject, *filter(None, [session])] for subject in beginnings(kind, match["subject"])]
    return Identity(kind, {visit_name(visit): visit for visit in visits}, match["subject"] if session else None)


def naming(modalities: str | Sequence[str] | None, label: Any = None, pattern: Any = None) -> Naming:
    """Parse the options `--modalities`, `--label` and `--pattern`; raise `InputError` if they are invalid."""
    words = {} if label is None else {LABEL: words_of(str(label), f"--label={label}")}
    template = None if pattern is None else words_of(str(pattern), f"--pattern={pattern}")
    if template is not None and not ("{subject}" in template and "{modality}" in template):
        raise InputError(f"--pattern={pattern}", "no {subject} or no {modality}", f"a pattern such as {EXAMPLE}")
    if modalities is None:
        return Naming(None, words, template)
    listed = ",".join(map(str, modalities)) if isinstance(modalities, list | tuple) else str(modalities)
    option, usual, kinds = f"--modalities={listed}", {name.lower(): name for name in names.SPELLINGS}, list[str]()
    for name, sign, text in (pair.partition("=") for pair in listed.split(",")):
        kinds.append(usual.get(name.strip().lower(), name.strip()))
        if sign:
            words[kinds[-1]] = words_of(text.strip(), option)
    if not all(kinds) or len(set(kinds)) < len(kinds):
        raise InputError(option, "a name is empty or occurs twice", "distinct names such as T1,FLAIR")
    return Naming(tuple(kinds), words, template)


def words_of(text: str, option: str) -> str:
    """Check words or a pattern in an option; return them without suffix and leading separators."""
    words = names.SUFFIX.sub("", text).removeprefix("./").lstrip(SIGNS + "/")
    if not words or not {*re.findall(r"\{([^}]*)\}?", words)} <= {"subject", "session", "modality"}:
        raise InputError(option, expected=f"the end of paths, such as lesion_mask, or a pattern such as {EXAMPLE}")
    return words
