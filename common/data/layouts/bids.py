"""Read BIDS data sets: images in sub-*/[ses-*/]anat, dwi and swi, label maps beside the images or in derivatives.

File names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w`, `dseg` (discrete segmentation) or
`mask`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import shortened
from ..modalities import in_folders, modality_of, split_name
from ..volumes import open_volume
from .listing import ImageFile, Listing
from .names import LABEL, LABEL_WORDS, NOT_SEGMENTED, Naming, fits
from .subjects import Claim, DataSet

PATH = re.compile(  # file below the root; `below` is "derivatives" or a folder of raw data
    r"(?:(?P<below>derivatives|raw_?data)/)?(?:(?P<pipeline>.+?)/)??(?P<subject>sub-[^/]+)/(?:(?P<session>ses-[^/]+)/)?"
    r"(?:(?P<type>[^/]+)/)*[^/]+"
)
TYPES = ("anat", "dwi", "swi")  # folders of images
LABELS = LABEL_WORDS | {"probseg"}
LESION = ("lesion", "tumor", "tumour", "stroke", "infarct", "wmh", "metasta")  # words that mark lesion maps
# Words that mark masks of anatomy; "L" marks lesions
ANATOMY = NOT_SEGMENTED | {"aseg", "aparcaseg", "bg", "b", "st", "nb", "cgm", "sgm", "bs"}
PARTS = ("phase", "real", "imag")  # parts of complex images; only the magnitude is used


@dataclass(frozen=True)
class BidsFile:
    """The parsed path of a BIDS file; `name_in_session` is the file's name without sub-* and ses-*."""

    file: ImageFile
    subject: str
    session: str
    pipeline: str | None  # None for raw data
    type: str
    entities: dict[str, str]
    suffix: str
    name_in_session: str

    @property
    def name(self) -> str:
        """Subject and session, such as sub-1_ses-2; the subject alone if it has no sessions."""
        return f"{self.subject}_{self.session}" if self.session else self.subject

    @property
    def is_label(self) -> bool:
        """Whether the file is a label map by its suffix, such as mask, roi or lesion-manual."""
        return self.suffix.split("-")[0].lower() in LABELS

    @property
    def words(self) -> set[str]:
        """Words in the file's name that describe the content of a label map, in lower case."""
        values = [self.entities.get(entity, "") for entity in ("label", "desc", "seg")]
        plain = [part for part in self.name_in_session.split("_") if "-" not in part or part == self.suffix]
        return {word.lower() for word in (*values, *plain)}

    @property
    def shows_lesions(self) -> bool | None:
        """Whether the file's name mentions lesions; None if it mentions neither lesions nor anatomy."""
        if any(word == "l" or any(lesion in word for lesion in LESION) for word in self.words):
            return True
        return None if ANATOMY.isdisjoint(self.words) else False


def parse(file: ImageFile) -> BidsFile | None:
    """Parse the path of an image file; None if it is not in a subject's folder of raw data or derivatives."""
    match = PATH.fullmatch(file.path)
    if match is None or (match["pipeline"] and match["below"] != "derivatives"):
        return None
    parts = file.stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    session = match["session"] or (f"ses-{entities['ses']}" if "ses" in entities else "")
    pipeline = (match["pipeline"] or "") if match["below"] == "derivatives" else None
    name = "_".join(part for part in parts if not part.startswith(("sub-", "ses-")))
    return BidsFile(file, match["subject"], session, pipeline, match["type"] or "", entities, parts[-1], name)


def is_bids(listing: Listing) -> bool:
    """Whether a folder is a BIDS data set: it has images in sub-*/[ses-*/]anat, dwi or swi."""
    return any((name := parse(file)) and name.pipeline is None and name.type in TYPES for file in listing.files)


def read_bids(listing: Listing, naming: Naming) -> DataSet:
    """Find the images and label maps in a BIDS data set; each session becomes a subject."""
    data = DataSet(listing, "BIDS")
    files = [name for file in listing.files if (name := parse(file)) is not None]
    data.assign([claim for name in files for claim in _claims(data, name, naming)])
    _put_labels(data, files, naming)
    return data


def _claims(data: DataSet, name: BidsFile, naming: Naming) -> Iterator[Claim]:
    """Yield a `Claim` for each modality that a file may have; a name equal to the user's words ranks first."""
    path, has_agent = name.file.path, "ce" in name.entities
    for modality, words in naming.spelled.items():
        is_named = words and fits(name.file.bare, words) and (name.pipeline is None or "/" in words)
        if is_named and ("*" in words or has_agent == ("ce-" in words)):
            yield Claim(name.name, modality, path, (name.name_in_session.lower() != words.lower(),))
    usual = modality_of(name.suffix)
    if name.pipeline is not None or name.is_label or usual is None or name.type not in ("", *TYPES):
        return
    if name.entities.get("part") in PARTS or (usual == "DWI" and _is_series(Path(data.root, path))):
        return
    if naming.takes(modality := _modality(name, usual, has_agent)):
        yield Claim(name.name, modality, path, (True,))


def _modality(name: BidsFile, usual: str, has_agent: bool) -> str:
    """Return the modality of an image, such as T1ce for ce-gadolinium_T1w and acq-gd_T1w, or FLAIRce."""
    stated = usual + "ce" if has_agent else split_name(name.name_in_session)[1] or usual
    return str(in_folders(stated, name.file.folders))


def _is_series(path: Path) -> bool:
    with suppress(Exception):  # the file checks report damaged files
        return any(edge > 1 for edge in open_volume(path).shape[3:])
    return False


def _put_labels(data: DataSet, files: list[BidsFile], naming: Naming) -> None:
    """Assign label maps to sessions: without `--label`, lesion maps or, without any, maps that name no content."""
    pipeline, _, words = (naming.label or "").rpartition("/")
    images = {path for subject in data.subjects.values() for path in subject.images.values()}
    chosen: list[BidsFile] = []
    unnamed: list[BidsFile] = []
    for name in files:
        if name.file.path in images:
            continue
        if naming.label is not None:
            if (fits(name.file.bare, words) and pipeline in ("", name.pipeline)) or fits(name.file.bare, naming.label):
                chosen.append(name)
        elif name.is_label and name.suffix != "probseg" and name.shows_lesions is not False:
            (chosen if name.shows_lesions else unnamed).append(name)
    chosen = chosen or unnamed
    claims = []
    for name in chosen:
        sessions = [session for session in data.subjects if session.partition("_ses-")[0] == name.subject]
        alone = not name.session and name.name not in data.subjects and len(sessions) == 1  # the only session
        claims.append(Claim(sessions[0] if alone else name.name, LABEL, name.file.path))
    data.assign(claims)
    if chosen:
        kinds = Counter(f"{name.pipeline or ''}/{name.name_in_session}".lstrip("/") for name in chosen).most_common()
        data.remarks.append(f"labels: {shortened([f'{name} ({count})' for name, count in kinds], most=3)}")
