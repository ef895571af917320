"""A data set: the images below a folder, the subjects and their files, and files that clash or are not used."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.data.names import SUFFIX, person_of
from common.errors import InputError, shortened, show
from scripts.layouts.names import LABEL, name_of
from scripts.layouts.patterns import EXAMPLE, Identity


def list_images(root: Path, folders: str = ".*") -> list[str]:
    """List the paths of images below a root, sorted; `folders` is a regular expression of the folders to search.

    Hidden ones are left out. Links to folders are followed if they lead out of the root. Raise OSError for a folder
    that cannot be read.
    """
    base, images = root.resolve(), []

    def is_wanted(folder: Path) -> bool:
        path = root / folder
        if path.is_symlink():
            target = path.resolve()
            is_loop = path.parent.resolve().is_relative_to(target)
            if is_loop or target.is_relative_to(base):  # images in the root are listed in their place
                return False
        return folder.name[0] != "." and re.fullmatch(folders, folder.as_posix(), re.DOTALL) is not None

    for path, names, members in os.walk(root, onerror=_fail, followlinks=True):
        folder = Path(path).relative_to(root)
        names[:] = [name for name in names if is_wanted(folder / name)]
        images += [(folder / name).as_posix() for name in members if SUFFIX.search(name) and name[0] != "."]
    return sorted(images, key=lambda image: image.split("/"))


def _fail(error: OSError) -> None:
    raise error


@dataclass
class Subject:
    """A person at one visit."""

    name: str
    person: str
    files: dict[str, str] = field(default_factory=dict)  # relative paths by modality, and by `LABEL` for the label map
    origin: Any = None  # what the paths say of the subject; all files of a subject have the same
    is_test: bool = False  # whether the layout reserves the subject for testing
    sequence: str | None = None  # what a single scan shows, "" if nothing states it; None for other subjects

    @property
    def images(self) -> dict[str, str]:
        """Path of the image of each modality."""
        return {kind: path for kind, path in self.files.items() if kind != LABEL}

    @property
    def label(self) -> str | None:
        """Path of the label map; None without a label map."""
        return self.files.get(LABEL)


@dataclass
class DataSet:
    """The subjects of a data set by name."""

    root: str
    images: Sequence[str]  # paths of all images in the folder
    modalities: Sequence[str] = ()  # in channel order
    convention: str | None = None  # label convention as text; None without label maps
    name: str = ""  # of the datalist
    subjects: dict[str, Subject] = field(default_factory=dict)
    clashes: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # paths that fit one kind of a subject

    def add(self, identify: Callable[[str], Identity | None]) -> None:
        """Give each image to the subject that `identify` returns, a label map to the first that has an image.

        Raise `InputError` if a subject's files are of different origins, such as two folders.
        """
        found = [(path, identity) for path in self.images if (identity := identify(SUFFIX.sub("", path)))]
        for path, (kind, options, person) in sorted(found, key=lambda item: item[1].kind == LABEL):
            with_images = [name for name in options if name in self.subjects and self.subjects[name].images]
            for name in [*with_images, *options][:1]:
                subject = self.subjects.setdefault(name, Subject(name, person or person_of(name), origin=options[name]))
                if subject.origin != options[name]:
                    problem = f"{next(iter(subject.files.values()))} and {path} would both be of {name}"
                    raise InputError(f"--root={self.root}", problem, "distinct names")
                if kind in subject.files:
                    self.clashes.setdefault((name, kind), [subject.files[kind]]).append(path)
                subject.files.setdefault(kind, path)
        self.subjects = dict(sorted(self.subjects.items()))

    def clash(self, name: str, kind: str) -> str | None:
        """Describe two files that fit the same kind of a subject; None without a clash."""
        files = self.clashes.get((name, kind))
        return f"two files for the {kind} of {name}: {files[0]} and {files[1]}" if files else None

    def refuse_clashes(self, modalities: Collection[str]) -> None:
        """Raise an InputError if two files fit the same label map or image of these modalities."""
        for name, kind in self.clashes:
            if kind in (LABEL, *modalities):
                option = "--label=WORDS" if kind == LABEL else f"--modalities={kind}=WORDS"
                expected = f"one, by the end or a pattern of its path ({option}), or --pattern to tell subjects apart"
                raise InputError(f"--root={self.root}", self.clash(name, kind), expected)

    def show_unused(self, modalities: Collection[str], option: str = f"--pattern='{EXAMPLE}'") -> None:
        """Print the number of images that are not used, and some of them, those whose names say nothing first."""
        complete = [it.files for it in self.subjects.values() if not it.files.keys().isdisjoint(modalities)]
        used = {path for files in complete for kind, path in files.items() if kind in (LABEL, *modalities)}
        unused = [path for path in self.images if path not in used]
        unused.sort(key=lambda path: name_of(SUFFIX.sub("", path).rpartition("/")[2])[1] is not None)
        if unused:
            text = f"{len(unused)} files, such as {shortened(unused, most=3)}"
            show(f"not used: {text}; if they are needed, give a pattern such as {option}")

    def people(self, subjects: Iterable[Subject]) -> list[str]:
        """Return the people of these subjects, sorted, without those whom the layout reserves for testing."""
        reserved = {subject.person for subject in self.subjects.values() if subject.is_test}
        return sorted({subject.person for subject in subjects} - reserved)

    def only(self, text: str, subjects: Sequence[Subject]) -> "DataSet":
        """Return a data set of some of the subjects; if they are fewer, print how many people and visits remain."""
        if len(subjects) < len(self.subjects):
            people, everyone = (len({it.person for it in group}) for group in (subjects, self.subjects.values()))
            show(f"{text}: {people} of {everyone} people, {len(subjects)} of {len(self.subjects)} visits")
        return replace(self, subjects={subject.name: subject for subject in subjects})
