"""Read data sets with fixed file names, such as BraTS; no image is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ...errors import InputError
from .listing import Listing
from .names import LABEL
from .subjects import Claim, DataSet
from .templates import Template


@dataclass(frozen=True)
class FileLayout:
    """A data set's file names: a template of the path for each modality and the label map.

    Attributes:
        title: Name of the layout.
        files: Template of the path, without suffix, of each modality and `LABEL`; a subject's files agree in fields.
        subject: Template of a subject's name.
        fields: Regular expression of each template field's values.
        example: Folder of a subject, for messages.
        convention: Label convention.
        remarks: Line to print if a subject's name begins with the key.
        first: Suffix of a person's first session, omitted from the subject's name.
        skims: Whether to skip folders below the top folders that no template matches, as they are many.
    """

    title: str
    files: Mapping[str, str]
    subject: str
    fields: Mapping[str, str]
    example: str = ""
    convention: str | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)
    first: str = ""
    skims: bool = False

    @property
    def modalities(self) -> list[str]:
        """The modalities in channel order."""
        return [kind for kind in self.files if kind != LABEL]

    @cached_property
    def templates(self) -> dict[str, Template]:
        return {kind: Template(text, self.fields) for kind, text in self.files.items()}

    @cached_property
    def _folders(self) -> list[Template]:
        parts = [text.split("/")[:-1] for text in self.files.values()]
        return [
            Template("/".join(folders[: depth + 1]), self.fields) for folders in parts for depth in range(len(folders))
        ]

    def enters(self, folder: str) -> bool:
        """Whether to search a folder; with `skims`, only if it may hold files of this layout."""
        return not self.skims or "/" not in folder or any(parent.match(folder) is not None for parent in self._folders)

    def fits(self, listing: Listing) -> bool:
        """Whether a listed folder has this layout: every image is in a subfolder with a file of this layout."""
        tops = {file.folders[0] for file in listing.files if file.folders and self._fields_of(file.bare)}
        return bool(tops) and all(file.folders and file.folders[0] in tops for file in listing.files)

    def _fields_of(self, bare: str) -> list[tuple[str, dict[str, str]]]:
        matches = ((kind, template.match(bare)) for kind, template in self.templates.items())
        return [(kind, fields) for kind, fields in matches if fields is not None]

    def read(self, listing: Listing) -> DataSet:
        """Find the subjects' files in a listed folder; raise `InputError` if a subject is in two places."""
        data = DataSet(listing, self.title, order=self.modalities, convention=self.convention)
        firsts: dict[str, tuple[dict[str, str], str]] = {}
        claims = []
        for file in listing.files:
            for kind, fields in self._fields_of(file.bare):
                subject = self.subject.format(**fields).removesuffix(self.first)
                first_fields, path = firsts.setdefault(subject, (fields, file.path))
                if first_fields != fields:
                    raise InputError(f"--root={listing.root}", f"{subject} exists twice: {path} and {file.path}")
                claims.append(Claim(subject, kind, file.path))
        data.assign(sorted(claims))
        for start, remark in self.remarks.items():
            if any(subject.startswith(start) for subject in data.subjects):
                data.remarks.append(f"{start}*: {remark}")
        return data
