"""Patterns of paths, such as `{subject}/{session}/{modality}`, and the options that give them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from common.data.names import SPELLINGS, UNCLEAR, in_folders, modality_of
from common.errors import InputError
from scripts.layouts.listing import ImageFile, stem_of
from scripts.layouts.names import (
    ANATOMY,
    LABEL,
    SIGNS,
    Identity,
    beginnings,
    identify,
    kind_of_folder,
    name_of,
    parts_of,
)

EXAMPLE = "{subject}/{session}/{modality}"
FIELDS = {"subject", "session", "modality"}
_TOKEN = re.compile(r"(\{\w+\}|\*\*/|\*+|\?|\[[^\]/]+\])")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Pattern:
    """A pattern of paths with fields in braces; `*`, `?` and `[...]` match within a name, `**` also across folders.

    `fields` maps a field to the regular expression of its values, by default any name; named groups in the expression
    become fields, too.

    Example:
        >>> Pattern("{subject}/pre/{subject}_T1").match("P1/pre/P1_T1"), Pattern("*/T1").match("P1/T1")
        ({'subject': 'P1'}, {})
    """

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    flags: re.RegexFlag = re.NOFLAG

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts, seen = [], set()
        for part in _TOKEN.split(self.text):
            name = part[1:-1] if _TOKEN.fullmatch(part) and part.startswith("{") else ""
            if name in seen:
                parts.append(f"(?P={name})")
            elif name:
                parts.append(f"(?P<{name}>{self.fields.get(name, '[^/]+?')})")
                seen.add(name)
            else:
                literal = part.replace("[!", "[^") if _TOKEN.fullmatch(part) else re.escape(part)
                parts.append(_WILD.get(part, literal))
        return re.compile("".join(parts), self.flags | re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the values of the pattern's fields in a relative path; None if the path does not match."""
        match = self._regex.fullmatch(path)
        return match.groupdict() if match else None


def ending(words: str) -> Pattern:
    """Return the pattern of the paths that end with whole words, or with a pattern; case is ignored.

    Example:
        >>> [ending(words).match("P1/pre/P1_T1") is not None for words in ("T1", "pre/*", "orig/*", "1")]
        [True, True, False, False]
    """
    if _TOKEN.search(words):
        return Pattern(f"**/{words}", flags=re.IGNORECASE)
    start = rf"(?:.*[{re.escape(SIGNS)}/])?"
    return Pattern("{start}{words}", {"start": start, "words": re.escape(words)}, re.IGNORECASE)


@dataclass(frozen=True)
class Naming:
    """How a data set's files are named: `--modalities`, `--label` and `--pattern`.

    `modalities` lists modalities in channel order; None selects the modalities of every subject. `words` maps a kind to
    the words or the pattern that end its paths, in place of the usual spellings. `pattern` has {subject} and
    {modality}, and replaces the usual reading of folders and names. `labels` is whether label maps are wanted.
    """

    modalities: tuple[str, ...] | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    pattern: str | None = None
    labels: bool = True

    def takes(self, kind: str) -> bool:
        """Whether the usual spellings of a kind count, such as t1c for T1ce."""
        if kind == LABEL:
            return self.labels and LABEL not in self.words
        if kind == UNCLEAR:
            return self.takes("T1") or self.takes("T1ce")
        given = self.words.keys() - {LABEL}
        return kind not in given and (not given or self.modalities is None or kind in self.modalities)

    def identify(self, file: ImageFile) -> Identity | None:
        """Return what a file shows, and of whom; None if its path says nothing."""
        if found := self.stated(file):
            return found
        if self.pattern is not None:
            found = self._by_pattern(file, self.pattern)
        else:
            found = identify(file, self.modalities or ())
        return found if found and self.takes(found.kind) else None

    def stated(self, file: ImageFile) -> Identity | None:
        """Return the identity of a file that the user's words fit; the longest words come first."""
        for kind, words in sorted(self.words.items(), key=lambda item: (item[0] != LABEL, -len(item[1]))):
            before, usual = name_of(file.stem)
            end = re.split(r"[*?\]}]", words)[-1]  # after the last wildcard
            if usual == LABEL and kind != LABEL and not end:
                continue
            if modality_of(words) not in (None, in_folders(usual, file.folders)):
                continue
            if (fields := ending(words).match(file.bare)) is None:
                continue
            if "subject" in fields:
                return Identity(kind, *_subject(fields))
            if name := end.rpartition("/")[2]:
                before = file.stem[: -len(name)].rstrip(SIGNS)
            depth = len(file.folders) - words.count("/")
            folders = [folder for folder in file.folders[:depth] if kind_of_folder(folder) is None]
            return Identity(kind, [parts_of(folders, name) for name in beginnings(kind, before)])
        return None

    def _by_pattern(self, file: ImageFile, pattern: str) -> Identity | None:
        """Return the identity of a file by a pattern; {modality} is the end of the file's name, or a whole folder."""
        before, kind = name_of(file.stem, self.modalities or ())
        stated = [(kind, file.stem[len(start) :].lstrip(SIGNS)) for start in beginnings(kind or "", before)]
        stated += [(kind_of_folder(folder), folder) for folder in file.folders]
        for modality, words in stated:
            fields = Pattern(pattern, {"modality": re.escape(words)}).match(file.bare)
            if fields and modality not in (None, ANATOMY, "images"):
                return Identity(str(in_folders(modality, file.folders)), *_subject(fields))
        return None


def _subject(fields: Mapping[str, str]) -> tuple[list[list[str]], str | None]:
    subject, session = fields["subject"], fields.get("session")
    return [[subject, *filter(None, [session])]], subject if session else None


def naming(modalities: str | Sequence[str] | None, label: Any = None, pattern: Any = None) -> Naming:
    """Parse the options `--modalities`, `--label` and `--pattern`; raise `InputError` if they are invalid."""
    words = {} if label is None else {LABEL: words_of(str(label), f"--label={label}")}
    template = None if pattern is None else words_of(str(pattern), f"--pattern={pattern}")
    if template is not None and not ("{subject}" in template and "{modality}" in template):
        raise InputError(f"--pattern={pattern}", "no {subject} or no {modality}", f"a pattern such as {EXAMPLE}")
    if modalities is None:
        return Naming(None, words, template)
    listed = ",".join(map(str, modalities)) if isinstance(modalities, list | tuple) else str(modalities)
    option, usual = f"--modalities={listed}", {name.lower(): name for name in SPELLINGS}
    names = []
    for name, sign, text in (pair.partition("=") for pair in listed.split(",")):
        names.append(usual.get(name.strip().lower(), name.strip()))
        if sign:
            words[names[-1]] = words_of(text.strip(), option)
    if not all(names) or len(set(names)) < len(names):
        raise InputError(option, "a name is empty or occurs twice", "distinct names such as T1,FLAIR")
    return Naming(tuple(names), words, template)


def words_of(text: str, option: str) -> str:
    """Check words or a pattern in an option; return them without suffix and leading separators."""
    words = (stem_of(text) or text).removeprefix("./").lstrip(SIGNS + "/")
    if not words or not {*re.findall(r"\{([^}]*)\}?", words)} <= FIELDS:
        raise InputError(option, expected=f"the end of paths, such as lesion_mask, or a pattern such as {EXAMPLE}")
    return words
