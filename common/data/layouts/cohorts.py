"""Layouts whose files have known names, such as those of the cohorts as distributed; no image is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ...errors import InputError, shortened
from ...files import reporting_path_errors
from .listing import Listing, list_images
from .names import LABEL
from .subjects import Claim, DataSet
from .templates import Template

BRATS_FILE = "{visit}/{visit}%s"
ATLAS_FILE = "{above}{person}/ses-{session}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s"


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
        return [Template("/".join(folders[:depth]), self.fields) for folders in parts for depth in range(2, 9)]

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
                # the first session has the person's name, as in single-session cohorts
                subject = self.subject.format(**fields).removesuffix("_ses-1")
                known, path = firsts.setdefault(subject, (fields, file.path))
                if known != fields:
                    raise InputError(f"--root={listing.root}: {subject} exists twice: {path} and {file.path}")
                claims.append(Claim(subject, kind, file.path, person=fields.get("person")))
        data.take(sorted(claims))
        for start, remark in self.remarks.items():
            if any(subject.startswith(start) for subject in data.subjects):
                data.remarks.append(f"{start}*: {remark}")
        return data


def _brats(title: str, visit: str, example: str, kinds: Mapping[str, str], convention: str) -> FileLayout:
    return FileLayout(
        title=title,
        files={kind: BRATS_FILE % end for kind, end in kinds.items()},
        subject="{visit}",
        fields={"visit": visit},
        example=example,
        convention=convention,
        remarks={"BraTS-PED-": "labels read as in 2023 (3: enhancing); from 2024 on: --label_convention=brats2024peds"},
    )


COHORTS = {
    "ukb": (
        FileLayout(
            title="UK Biobank",
            files={
                "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI",
                "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI",
            },
            subject="{person}_{visit}",
            fields={"person": r"\d+", "visit": r"\d+_\d+"},
            example="1000012_20252_2_0",
            skims=True,
        ),
    ),
    "brats": (
        _brats(
            "BraTS 2021",
            r"(?P<person>BraTS2021_\d{5})",
            "BraTS2021_00000",
            {"FLAIR": "_flair", "T1ce": "_t1ce", "T1": "_t1", "T2": "_t2", LABEL: "_seg"},
            "brats2021",
        ),
        _brats(
            "BraTS 2023 and 2024",
            r"(?P<person>BraTS-(?:GLI|MEN|MET|PED|SSA|GoAT)-\d{5})(?:-\d{3})?",
            "BraTS-GLI-00000-000",
            {"FLAIR": "-t2f", "T1ce": "-t1c", "T1": "-t1n", "T2": "-t2w", LABEL: "-seg"},
            "brats2023",
        ),
    ),
    "atlas": (
        FileLayout(
            title="ATLAS",
            files={"T1": ATLAS_FILE % "T1w", LABEL: ATLAS_FILE % "label-L_desc-T1lesion_mask"},
            subject="{person}_ses-{session}",
            fields={
                "above": r"(?:(?:(?:Training|Testing)/)?R\d{3}/)?",
                "person": r"sub-r\d{3}s\d{3}",
                "session": r"\d+",
            },
            example="sub-r001s001/ses-1, R001/sub-r001s001/ses-1 or Training/R001/sub-r001s001/ses-1",
            convention="atlas",
        ),
    ),
}


def read_cohort(cohort: str, root: Path) -> DataSet:
    """The visits below a root; shows progress. The names of the files decide between the layouts in `COHORTS`."""
    layouts = COHORTS[cohort]
    with reporting_path_errors(f"--root={root}"):
        listing = list_images(root, lambda folder: any(layout.enters(folder) for layout in layouts))
    found = [data for data in (layout.read(listing) for layout in layouts) if data.subjects]
    if len(found) > 1:
        examples = ", ".join(f"{next(iter(data.subjects))} ({data.layout})" for data in found)
        raise InputError(f"--root={root}: layouts are mixed: {examples}; expected one, as their labels could differ")
    if not found:
        expected = " or ".join(layout.example for layout in layouts)
        there = shortened(sorted(path.name for path in root.iterdir()), most=4) or "nothing"
        raise InputError(f"--root={root}: no scan of {cohort}; expected folders such as {expected}; found {there}")
    return found[0]


def cohort_of(listing: Listing) -> FileLayout | None:
    """The cohort's layout that a listing has."""
    return next((layout for layouts in COHORTS.values() for layout in layouts if layout.fits(listing)), None)
