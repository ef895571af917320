"""The layouts of the cohorts as distributed: UK Biobank, BraTS and ATLAS; no image is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ...errors import InputError, shortened, show
from ...files import reporting_path_errors
from .listing import Listing, list_images
from .names import LABEL
from .subjects import DataSet, SubjectFiles
from .templates import Template

BRATS_FILE = "{visit}/{visit}%s"
ATLAS_FILE = "{above}{person}/ses-{session}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s"


@dataclass(frozen=True)
class CohortLayout:
    """The templates of a cohort's paths, without suffixes.

    `folder` is that of a visit, whose fields have the values `fields`; `person` among these identifies the person.
    """

    title: str
    folder: str
    fields: Mapping[str, str]
    example: str
    subject: str
    images: Mapping[str, str]
    label: str | None = None
    convention: str | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)  # beginning of subjects' names -> remark
    skims: bool = False  # whether folders that no template names stay unread, as there are many

    def files(self, **values: str) -> dict[str, str]:
        """The paths of a visit's images and label map without suffix, by modality and `LABEL`."""
        templates = {**self.images, **({} if self.label is None else {LABEL: self.label})}
        return {kind: Template(text).fill(values) for kind, text in templates.items()}

    @cached_property
    def visit(self) -> Template:
        """The template of a visit's folder."""
        return Template(self.folder, self.fields)

    def enters(self, folder: str) -> bool:
        """Whether a folder is to be listed."""
        names = folder.split("/")[1:]
        return not self.skims or any(path.split("/")[1:-1][: len(names)] == names for path in self.images.values())

    def visits(self, listing: Listing) -> dict[str, dict[str, str]]:
        """The folders of visits, and their fields."""
        matches = {folder: self.visit.match(folder) for folder in listing.folders}
        return {folder: fields for folder, fields in matches.items() if fields is not None}


def _brats(title: str, visit: str, example: str, kinds: Mapping[str, str], mask: str, convention: str) -> CohortLayout:
    return CohortLayout(
        title=title,
        folder="{visit}",
        fields={"visit": visit},
        example=example,
        subject="{visit}",
        images={modality: BRATS_FILE % kind for modality, kind in kinds.items()},
        label=BRATS_FILE % mask,
        convention=convention,
        remarks={"BraTS-PED-": "labels read as in 2023 (3: enhancing); from 2024 on: --label_convention=brats2024peds"},
    )


def _atlas(title: str, above: str, example: str) -> CohortLayout:
    return CohortLayout(
        title=title,
        folder="{above}{person}/ses-{session}",
        fields={"above": above, "person": r"sub-r\d{3}s\d{3}", "session": r"\d+"},
        example=example,
        subject="{person}_ses-{session}",
        images={"T1": ATLAS_FILE % "T1w"},
        label=ATLAS_FILE % "label-L_desc-T1lesion_mask",
        convention="atlas",
    )


COHORTS = {
    "ukb": (
        CohortLayout(
            title="UK Biobank",
            folder="{person}_2025[23]_{visit}",
            fields={"person": r"\d+", "visit": r"\d+_\d+"},
            example="1000012_20252_2_0",
            subject="{person}_{visit}",
            images={
                "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI",
                "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI",
            },
            skims=True,
        ),
    ),
    "brats": (
        _brats(
            "BraTS 2021",
            r"(?P<person>BraTS2021_\d{5})",
            "BraTS2021_00000",
            {"FLAIR": "_flair", "T1ce": "_t1ce", "T1": "_t1", "T2": "_t2"},
            "_seg",
            "brats2021",
        ),
        _brats(
            "BraTS 2023 and 2024",
            r"(?P<person>BraTS-(?:GLI|MEN|MET|PED|SSA|GoAT)-\d{5})(?:-\d{3})?",
            "BraTS-GLI-00000-000",
            {"FLAIR": "-t2f", "T1ce": "-t1c", "T1": "-t1n", "T2": "-t2w"},
            "-seg",
            "brats2023",
        ),
    ),
    "atlas": (
        _atlas("subjects", "", "sub-r001s001/ses-1"),
        _atlas("sites", r"R\d{3}/", "R001/sub-r001s001/ses-1"),
        _atlas("release", r"(?:Training|Testing)/R\d{3}/", "Training/R001/sub-r001s001/ses-1"),
    ),
}


def read_cohort(cohort: str, root: Path) -> DataSet:
    """The visits below a root, even without images; shows progress, and prints unmatched folders.

    `cohort` is a key of `COHORTS`; the names of the folders decide between its layouts.
    """
    layouts = COHORTS[cohort]
    with reporting_path_errors(f"--root={root}"):
        listing = list_images(root, lambda folder: any(layout.enters(folder) for layout in layouts))
    found = [(layout, visits) for layout in layouts if (visits := layout.visits(listing))]
    if len(found) > 1:
        examples = ", ".join(f"{next(iter(visits))} ({layout.title})" for layout, visits in found)
        why = "because a subject could exist twice, or labels could differ"
        raise InputError(f"--root={root}: layouts are mixed: {examples}; expected a single one, {why}")
    if not found:
        expected = " or ".join(layout.example for layout in layouts)
        there = shortened(sorted(path.name for path in root.iterdir()), most=4) or "nothing"
        raise InputError(f"--root={root}: no subject of {cohort}; expected folders such as {expected}; found {there}")
    ((layout, visits),) = found
    depth = next(iter(visits)).count("/")
    if others := [path for path in listing.folders if path.count("/") == depth and path not in visits]:
        show(f"skipped, not a folder of the layout: {shortened(others, most=4)}")
    return read_visits(layout, listing)


def cohort_of(listing: Listing) -> CohortLayout | None:
    """The layout whose visits hold all files of a listing."""
    for layout in (layout for layouts in COHORTS.values() for layout in layouts):
        visits = layout.visits(listing)
        depth = next(iter(visits), "").count("/") + 1
        if visits and all("/".join(file.folders[:depth]) in visits for file in listing.files):
            return layout
    return None


def read_visits(layout: CohortLayout, listing: Listing) -> DataSet:
    """The subjects of a listing in a cohort's layout."""
    data = DataSet(listing, layout.title, order=list(layout.images), convention=layout.convention)
    data.leave("not of the layout", [file.path for file in listing.files])
    paths = {file.bare: file.path for file in listing.files}
    claims: dict[str, dict[str, str]] = {}
    for fields in layout.visits(listing).values():
        # the first session has the person's name, as in single-session cohorts
        subject = layout.subject.format(**fields).removesuffix("_ses-1")
        files = layout.files(**fields)
        known = claims.setdefault(subject, files)
        if known != files:
            twice = f"{next(iter(known.values()))} and {next(iter(files.values()))}"
            raise InputError(f"--root={listing.root}: {subject} exists twice: {twice}")
        there = {kind: paths[path] for kind, path in files.items() if path in paths}
        label = there.pop(LABEL, None)
        data.subjects[subject] = SubjectFiles(subject, fields["person"], there, label)
    data.subjects = dict(sorted(data.subjects.items()))
    for start, remark in layout.remarks.items():
        if any(subject.startswith(start) for subject in data.subjects):
            data.remarks.append(f"{start}*: {remark}")
    return data
