"""Layouts whose files have known names, such as those of the cohorts as distributed; no image is opened."""

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
    """The templates of a data set's files by kind, a modality or `LABEL`, without suffixes, and of a subject's name.

    All files of a subject have the same values of the templates' fields; `person` among these identifies the person.
    """

    title: str
    files: Mapping[str, str]
    subject: str
    fields: Mapping[str, str]  # field -> regular expression of its values
    example: str = ""  # a subject's folder
    convention: str | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)  # beginning of subjects' names -> remark
    first: str = ""  # end of the name of a person's first session, which subjects of a single session lack
    skims: bool = False  # whether folders that no template names stay unread, as there are many

    @property
    def modalities(self) -> list[str]:
        """The modalities in order."""
        return [kind for kind in self.files if kind != LABEL]

    @cached_property
    def templates(self) -> dict[str, Template]:
        """The templates by kind."""
        return {kind: Template(text, self.fields) for kind, text in self.files.items()}

    @cached_property
    def _folders(self) -> list[Template]:
        parts = [text.split("/")[:-1] for text in self.files.values()]
        return [
            Template("/".join(folders[: depth + 1]), self.fields) for folders in parts for depth in range(len(folders))
        ]

    def enters(self, folder: str) -> bool:
        """Whether a folder is to be listed."""
        return not self.skims or "/" not in folder or any(each.match(folder) is not None for each in self._folders)

    def fits(self, listing: Listing) -> bool:
        """Whether each folder of the root that has files has one of the layout."""
        ours = {file.folders[0] for file in listing.files if file.folders and self._fields_of(file.bare)}
        return bool(ours) and all(file.folders and file.folders[0] in ours for file in listing.files)

    def _fields_of(self, bare: str) -> list[tuple[str, dict[str, str]]]:
        matches = ((kind, template.match(bare)) for kind, template in self.templates.items())
        return [(kind, fields) for kind, fields in matches if fields is not None]

    def read(self, listing: Listing) -> DataSet:
        """The subjects of a listing."""
        data = DataSet(listing, self.title, order=self.modalities, convention=self.convention)
        data.leave("not of the layout", [file.path for file in listing.files])
        firsts: dict[str, tuple[dict[str, str], str]] = {}
        claims = []
        for file in listing.files:
            for kind, fields in self._fields_of(file.bare):
                subject = self.subject.format(**fields).removesuffix(self.first)
                known, path = firsts.setdefault(subject, (fields, file.path))
                if known != fields:
                    raise InputError(f"--root={listing.root}", f"{subject} exists twice: {path} and {file.path}")
                claims.append(Claim(subject, kind, file.path, person=fields.get("person")))
        data.take(sorted(claims))
        for start, remark in self.remarks.items():
            if any(subject.startswith(start) for subject in data.subjects):
                data.remarks.append(f"{start}*: {remark}")
        return data
