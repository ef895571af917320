"""The subjects of a data set: the files of each, conflicts between files, and files that are not used."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.data.people import person_of
from common.errors import InputError, shortened, show
from scripts.layouts.listing import ImageFile
from scripts.layouts.names import LABEL, name_of
from scripts.layouts.patterns import EXAMPLE

OPTION = f"--pattern='{EXAMPLE}'"


@dataclass
class SubjectFiles:
    """The files of a subject, or of one visit: relative paths by modality, and by `LABEL` for the label map.

    `origin` is what the paths say of the subject; all files of a subject have the same. `is_test` is whether the layout
    reserves the subject for testing.
    """

    name: str
    person: str
    files: dict[str, str] = field(default_factory=dict)
    origin: Any = None
    is_test: bool = False

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
    """The subjects of a data set by name.

    Attributes:
        root: Folder of the data set.
        images: All images in the folder.
        order: Modalities in channel order, if the layout defines it.
        convention: Label convention, if the layout defines it.
        clashes: Paths by subject and kind, where two or more files fit; the subject keeps the first.
    """

    root: str
    images: Sequence[ImageFile]
    order: Sequence[str] = ()
    convention: str | None = None
    subjects: dict[str, SubjectFiles] = field(default_factory=dict)
    clashes: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, name: str, kind: str, path: str, origin: Any, person: str | None = None) -> None:
        """Give a file to a subject; raise `InputError` if the subject's other files are of another origin."""
        subject = self.subjects.setdefault(name, SubjectFiles(name, person or person_of(name), origin=origin))
        if subject.origin != origin:
            first = next(iter(subject.files.values()))
            raise InputError(f"--root={self.root}", f"{first} and {path} would both be of {name}", "distinct names")
        if (first := subject.files.setdefault(kind, path)) != path:
            self.clashes.setdefault((name, kind), [first]).append(path)

    def paths(self, name: str, kind: str) -> list[str]:
        """Return all files of a kind of a subject."""
        return self.clashes.get((name, kind)) or [self.subjects[name].files[kind]]

    def problem(self, name: str, kind: str) -> str | None:
        """Describe two files that fit the same kind of a subject; None without a clash."""
        if (name, kind) not in self.clashes:
            return None
        return f"two files for the {kind} of {name}: {' and '.join(self.clashes[name, kind][:2])}"

    def show_unused(self, modalities: Collection[str], takes_labels: bool = True, option: str = OPTION) -> None:
        """Print the number of images that are not used, and some of them, those whose names say nothing first."""
        kinds = {*modalities, *([LABEL] if takes_labels else [])}
        complete = [it.files for it in self.subjects.values() if not it.files.keys().isdisjoint(modalities)]
        used = {path for files in complete for kind, path in files.items() if kind in kinds}
        unused = [file for file in self.images if file.path not in used]
        unused.sort(key=lambda file: name_of(file.stem)[1] is not None)
        if unused:
            text = f"{len(unused)} files, such as {shortened([file.path for file in unused], most=3)}"
            show(f"not used: {text}; if they are needed, give a pattern such as {option}")
