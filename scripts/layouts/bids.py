"""Read BIDS data sets: images in sub-*/[ses-*/]anat, dwi and swi, label maps beside the images or in derivatives.

File names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w`, `dseg` (discrete segmentation) or
`mask`.
"""

import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

from common.data.modalities import in_folders, split_name
from common.data.volumes import open_volume
from common.errors import shortened
from scripts.layouts.listing import ImageFile, Listing
from scripts.layouts.names import LABEL, LABEL_WORDS, NOT_SEGMENTED
from scripts.layouts.patterns import Naming, Pattern, ending
from scripts.layouts.subjects import DataSet

_SUBJECT = {"subject": "sub-[^/_]+", "session": "(?:ses-[^/]+/)?", "name": "(?:_[^/]+)?"}
RAW = Pattern(
    "{above}{subject}/{session}{type}{subject}{name}",
    _SUBJECT | {"above": "(?:raw_?data/)?", "type": "(?:(?:anat|dwi|swi)/)?"},
)
DERIVED = Pattern("derivatives/{pipeline}{subject}/{session}**/{subject}{name}", _SUBJECT | {"pipeline": "(?:.+?/)??"})
LESION = ("lesion", "tumor", "tumour", "stroke", "infarct", "wmh", "metasta")  # words that mark lesion maps
# Words that mark masks of anatomy; "L" marks lesions
ANATOMY = NOT_SEGMENTED | {"aseg", "aparcaseg", "bg", "b", "st", "nb", "cgm", "sgm", "bs"}
PARTS = re.compile("_part-(?:phase|real|imag)_")  # parts of complex images; only the magnitude is used
AGENT = re.compile("_ce-(?!no|pre|without|0)")


def is_bids(listing: Listing) -> bool:
    """Whether a folder is a BIDS data set: it has images in sub-*/[ses-*/]anat, dwi or swi."""
    return any((fields := RAW.match(file.bare)) and fields["type"] for file in listing.files)


def read_bids(listing: Listing, naming: Naming) -> DataSet:
    """Find the images and label maps in a BIDS data set; each session becomes a subject."""
    data, labels = DataSet(listing, "bids"), list[tuple[str, str, ImageFile, bool | None]]()
    for file in listing.files:
        raw = RAW.match(file.bare)
        fields = raw or DERIVED.match(file.bare)
        if fields is None:
            continue
        session = fields["session"].rstrip("/") or "".join(re.findall("_(ses-[^_]+)", file.stem))
        subject = "_".join(filter(None, [fields["subject"], session]))
        name = re.sub("^_ses-[^_]+", "", fields["name"] or "").lstrip("_")
        kind = _kind(file, name, naming, fields.get("pipeline"))
        if kind == LABEL:
            title = f"{fields.get('pipeline') or ''}{name}"
            labels.append((subject, title, file, None if LABEL in naming.words else _shows_lesions(name)))
        elif raw and kind and not (kind == "DWI" and _is_series(Path(listing.root, file.path))):
            data.add(subject, kind, file.path, subject)
    known = {shows for _, _, _, shows in labels}
    chosen = [label for label in labels if label[3] is (True if True in known else None)]
    for subject, _, file, _ in chosen:
        sessions = [name for name in data.subjects if name.partition("_ses-")[0] == subject]
        owner = sessions[0] if len(sessions) == 1 else subject  # the only session
        data.add(owner, LABEL, file.path, owner)
    if chosen:
        kinds = Counter(title for _, title, _, _ in chosen).most_common()
        data.remarks.append(f"labels: {shortened([f'{title} ({count})' for title, count in kinds], most=3)}")
    return data


def _kind(file: ImageFile, name: str, naming: Naming, pipeline: str | None) -> str | None:
    """Return the kind of a file: by the user's words, else by the suffix; None if it is not wanted."""
    has_agent = AGENT.search(file.stem) is not None
    label = naming.words.get(LABEL)
    if label is not None:
        above, _, words = label.rpartition("/")
        is_named = ending(words).match(file.bare) and above in ("", (pipeline or "").rstrip("/"))
        if is_named or ending(label).match(file.bare):
            return LABEL
    suffix = name.rpartition("_")[2]
    if suffix.split("-")[0].lower() in LABEL_WORDS | {"probseg"}:
        return LABEL if naming.takes(LABEL) and suffix != "probseg" else None
    if (stated := naming.stated(file)) and (
        has_agent == ("ce-" in naming.words[stated.kind]) or "*" in naming.words[stated.kind]
    ):
        return stated.kind
    usual = in_folders(split_name(file.stem)[1], file.folders)
    kind = f"{usual}ce" if usual and has_agent and not usual.startswith("T1") else usual
    return kind if kind and naming.takes(kind) and not PARTS.search(file.stem) else None


def _shows_lesions(name: str) -> bool | None:
    """Whether a label map's name mentions lesions; None if it mentions neither lesions nor anatomy."""
    parts = name.split("_")
    words = {part.partition("-")[2] for part in parts if part.startswith(("label-", "desc-", "seg-"))}
    words = {word.lower() for word in (*words, *(part for part in parts if "-" not in part), parts[-1])}
    if any(word == "l" or any(lesion in word for lesion in LESION) for word in words):
        return True
    return None if ANATOMY.isdisjoint(words) else False


def _is_series(path: Path) -> bool:
    with suppress(Exception):  # the file checks report damaged files
        return any(edge > 1 for edge in open_volume(path).shape[3:])
    return False
