"""Patterns of paths, such as `{subject}/{session}/{modality}`, and the options that give them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.data.names import SPELLINGS, SUFFIX, UNCLEAR, in_folders, modality_of
from common.errors import InputError
from scripts.layouts.names import ANATOMY, LABEL, SIGNS, beginnings, kind_of_folder, name_of, subjects_of, visit_name

EXAMPLE = "{subject}/{session}/{modality}"
FIELDS = {"subject", "session", "modality"}
_TOKEN = re.compile(r"(\{\w+\}|\*\*/|\*+|\?|\[[^\]/]+\])")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


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
        if kind == UNCLEAR:
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
            if modality not in SPELLINGS and ending(modality).fullmatch(name):
                before, usual = name[: -len(modality)].rstrip(SIGNS), modality
        kinds = [(usual, "", before), *((kind_of_folder(folder), folder, name) for folder in reversed(folders))]
        if any(kind == ANATOMY for kind, *_ in kinds):
            return None
        for kind, folder, before in sorted(kinds, key=lambda item: item[0] != LABEL):
            kind = in_folders(kind, [*folders, name] if folder else folders)
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
            if match is None or is_mask or modality_of(words) not in (None, in_folders(usual, folders)):
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
    option, usual, names = f"--modalities={listed}", {name.lower(): name for name in SPELLINGS}, []
    for name, sign, text in (pair.partition("=") for pair in listed.split(",")):
        names.append(usual.get(name.strip().lower(), name.strip()))
        if sign:
            words[names[-1]] = words_of(text.strip(), option)
    if not all(names) or len(set(names)) < len(names):
        raise InputError(option, "a name is empty or occurs twice", "distinct names such as T1,FLAIR")
    return Naming(tuple(names), words, template)


def words_of(text: str, option: str) -> str:
    """Check words or a pattern in an option; return them without suffix and leading separators."""
    words = SUFFIX.sub("", text).removeprefix("./").lstrip(SIGNS + "/")
    if not words or not {*re.findall(r"\{([^}]*)\}?", words)} <= FIELDS:
        raise InputError(option, expected=f"the end of paths, such as lesion_mask, or a pattern such as {EXAMPLE}")
    return words
