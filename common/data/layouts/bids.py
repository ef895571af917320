"""BIDS data sets: images in sub-*/[ses-*/]anat and dwi, label maps beside them or in derivatives.

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
from ..modalities import modality_of
from ..volumes import open_volume
from .listing import ImageFile, Listing
from .names import LABEL, LABEL_WORDS, Naming, fits
from .subjects import Claim, DataSet

PLACE = re.compile(  # of a file; `below` is "derivatives" or a folder of raw data
    r"(?:(?P<below>derivatives|raw_?data)/)?(?:(?P<pipeline>.+?)/)??(?P<subject>sub-[^/]+)/(?:(?P<session>ses-[^/]+)/)?"
    r"(?:(?P<type>[^/]+)/)*[^/]+"
)
TYPES = ("anat", "dwi", "swi")  # folders of images
LABELS = LABEL_WORDS | {"probseg"}
LESION = ("lesion", "tumor", "tumour", "stroke", "infarct", "wmh", "metasta")  # words of label maps
# Words of masks of anything but lesions; "L" is a lesion
ANATOMY = {"brain", "head", "skull", "aseg", "aparcaseg", "bg", "gm", "wm", "csf", "b", "st", "nb", "cgm", "sgm", "bs"}
PARTS = ("phase", "real", "imag")  # of complex images; only the magnitude is an image of a modality


@dataclass(frozen=True)
class BidsFile:
    """A file of a subject's session, with its entities, its suffix, and its own words, without subject and session."""

    file: ImageFile
    subject: str
    session: str
    pipeline: str | None  # None for raw data
    type: str
    entities: dict[str, str]
    suffix: str
    own: str

    @property
    def name(self) -> str:
        """The name of the session."""
        return f"{self.subject}_{self.session}" if self.session else self.subject

    @property
    def is_label(self) -> bool:
        """Whether the suffix is that of a label map, such as mask, roi or lesion-manual."""
        return self.suffix.split("-")[0].lower() in LABELS

    @property
    def words(self) -> set[str]:
        """The words that tell what a label map shows."""
        values = [self.entities.get(entity, "") for entity in ("label", "desc", "seg")]
        plain = [part for part in self.own.split("_") if "-" not in part or part == self.suffix]
        return {word.lower() for word in (*values, *plain)}

    @property
    def shows_lesions(self) -> bool | None:
        """Whether the words speak of lesions; None if they speak of nothing."""
        if any(word == "l" or any(lesion in word for lesion in LESION) for word in self.words):
            return True
        return None if ANATOMY.isdisjoint(self.words) else False


def parse(file: ImageFile) -> BidsFile | None:
    """Parse the path of a file below the root; None if it is of no subject."""
    place = PLACE.fullmatch(file.path)
    if place is None or (place["pipeline"] and place["below"] != "derivatives"):
        return None
    parts = file.stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    session = place["session"] or (f"ses-{entities['ses']}" if "ses" in entities else "")
    pipeline = (place["pipeline"] or "") if place["below"] == "derivatives" else None
    own = "_".join(part for part in parts if not part.startswith(("sub-", "ses-")))
    return BidsFile(file, place["subject"], session, pipeline, place["type"] or "", entities, parts[-1], own)


def is_bids(listing: Listing) -> bool:
    """Whether the root has folders sub-* that contain folders of images, or ses-* with those."""
    return any((name := parse(file)) and name.pipeline is None and name.type in TYPES for file in listing.files)


def read_bids(listing: Listing, naming: Naming) -> DataSet:
    """The sessions of a data set."""
    data = DataSet(listing, "BIDS")
    names = [(parse(file), file.path) for file in listing.files]
    data.leave("in no folder sub-*", [path for name, path in names if name is None])
    files = [name for name, _ in names if name is not None]
    data.take([claim for name in files for claim in _claims(data, name, naming)])
    _put_labels(data, files, naming)
    return data


def _claims(data: DataSet, name: BidsFile, naming: Naming) -> Iterator[Claim]:
    """The images that a file may be; a whole name counts more than one that ends with the given words."""
    path, has_agent = name.file.path, "ce" in name.entities
    for modality, words in naming.spelled.items():
        is_named = words and fits(name.file.bare, words) and (name.pipeline is None or "/" in words)
        if is_named and ("*" in words or has_agent == ("ce-" in words)):
            yield Claim(name.name, modality, path, (name.own.lower() != words.lower(),), name.subject)
    usual = modality_of(name.suffix)
    if name.pipeline is not None:
        data.leave("derivatives that are no label maps", [path])
    elif name.is_label or usual is None or name.type not in ("", *TYPES):
        return
    elif name.entities.get("part") in PARTS:
        data.leave("phase, real or imaginary part", [path])
    elif usual == "DWI" and _is_series(Path(data.root, path)):
        data.leave("diffusion series of several volumes", [path])
    elif naming.takes(modality := usual + "ce" * has_agent):  # with a contrast agent: T1ce
        yield Claim(name.name, modality, path, (True,), name.subject)


def _is_series(path: Path) -> bool:
    with suppress(Exception):  # damaged files are reported by the checks of files
        return len(open_volume(path).shape) > 3 and open_volume(path).shape[3] > 1
    return False


def _put_labels(data: DataSet, files: list[BidsFile], naming: Naming) -> None:
    """Give each session the label map of `--label`; else, if any in the data set says lesion, only those count."""
    wanted_in, _, words = (naming.label or "").rpartition("/")
    images = {path for subject in data.subjects.values() for path in subject.images.values()}
    chosen: list[BidsFile] = []
    others: list[BidsFile] = []
    for name in files:
        if name.file.path in images:
            continue
        if naming.label is not None:
            if (fits(name.file.bare, words) and wanted_in in ("", name.pipeline)) or fits(name.file.bare, naming.label):
                chosen.append(name)
        elif name.is_label and name.suffix == "probseg":
            data.leave("probability maps, of which --label=probseg takes whole numbers", [name.file.path])
        elif name.is_label and name.shows_lesions is not False:
            (chosen if name.shows_lesions else others).append(name)
        elif name.is_label:
            data.leave("masks of anatomy", [name.file.path])
    chosen, others = (chosen, others) if chosen else (others, [])
    data.leave("label maps without the word lesion", [name.file.path for name in others])
    claims = []
    for name in chosen:
        alone = [session for session, subject in data.subjects.items() if subject.person == name.subject]
        session = alone[0] if name.name not in data.subjects and len(alone) == 1 else name.name
        claims.append(Claim(session, LABEL, name.file.path, person=name.subject))
    data.take(claims)
    if chosen:
        kinds = Counter(f"{name.pipeline or ''}/{name.own}".lstrip("/") for name in chosen).most_common()
        data.remarks.append(f"labels: {shortened([f'{name} ({count})' for name, count in kinds], most=3)}")
