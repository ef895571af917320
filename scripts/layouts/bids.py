"""Read BIDS data sets: images in sub-*/[ses-*/]anat, dwi and swi, label maps beside the images or in derivatives.

File names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w`, `dseg` (discrete segmentation) or
`mask`.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.data.names import in_folders, split_name
from common.data.volumes import open_volume
from common.errors import shortened, show
from scripts.layouts.listing import ImageFile
from scripts.layouts.names import LABEL, LABEL_WORDS, NOT_SEGMENTED
from scripts.layouts.patterns import Naming, Pattern
from scripts.layouts.subjects import DataSet

FOLDERS = {"above": "(?:raw_?data/)?", "subject": "sub-[^/_]+", "session": "(?:ses-[^/]+/)?", "name": "(?:_[^/]+)?"}
RAW = Pattern("{above}{subject}/{session}{type}{subject}{name}", FOLDERS | {"type": "(?:(?:anat|dwi|swi)/)?"})
DERIVED = Pattern("derivatives/{above}{subject}/{session}**/{subject}{name}", FOLDERS | {"above": "(?:.+?/)??"})
LESION = re.compile("lesion|tumou?r|stroke|infarct|wmh|metasta")  # in words that mark lesion maps; "L" does, too
# Words that mark masks of anatomy
ANATOMY = NOT_SEGMENTED | {"aseg", "aparcaseg", "bg", "b", "st", "nb", "cgm", "sgm", "bs"}
PARTS = re.compile("_part-(?:phase|real|imag)_")  # parts of complex images; only the magnitude is used
AGENT = re.compile("_ce-(?!no|pre|without|0)")


def is_bids(images: Sequence[ImageFile]) -> bool:
    """Whether images are those of a BIDS data set, in sub-*/[ses-*/]anat, dwi or swi."""
    return any((fields := RAW.match(file.bare)) and fields["type"] for file in images)


def read_bids(root: str, images: Sequence[ImageFile], naming: Naming) -> DataSet:
    """Find the images and label maps in a BIDS data set; each session becomes a subject.

    Without `--label`, label maps are lesion maps or, without any, maps that name no content.
    """
    data, labels = DataSet(root, images), dict[bool | None, list[tuple[str, str, str]]]()
    for file in images:
        raw = RAW.match(file.bare)
        fields = raw or DERIVED.match(file.bare)
        if fields is None:
            continue
        session = fields["session"].rstrip("/") or "".join(re.findall("_(ses-[^_]+)", file.stem))
        subject = "_".join(filter(None, [fields["subject"], session]))
        name = re.sub("^_ses-[^_]+", "", fields["name"]).lstrip("_")
        kind = _kind(file, name, naming)
        if kind == LABEL:
            shows = None if LABEL in naming.words else _shows_lesions(name)
            labels.setdefault(shows, []).append((subject, f"{'' if raw else fields['above']}{name}", file.path))
        elif raw and kind and not (kind == "DWI" and _is_series(Path(root, file.path))):
            data.add(subject, kind, file.path, subject)
    wanted = labels.get(True) or labels.get(None, [])
    for subject, _, path in wanted:
        sessions = [name for name in data.subjects if name.partition("_ses-")[0] == subject]
        owner = sessions[0] if len(sessions) == 1 else subject  # the only session
        data.add(owner, LABEL, path, owner)
    if wanted:
        show(f"labels: {shortened(sorted({title for _, title, _ in wanted}), most=3)}")
    return data


def _kind(file: ImageFile, name: str, naming: Naming) -> str | None:
    """Return the kind of a file: by the user's words, else by the suffix; None if it is not wanted."""
    if stated := naming.stated(file):
        return stated.kind
    suffix = name.rpartition("_")[2]
    if suffix.split("-")[0].lower() in LABEL_WORDS | {"probseg"}:
        return LABEL if naming.takes(LABEL) and suffix != "probseg" else None
    kind = in_folders(split_name(file.stem)[1], file.folders)
    if kind and not kind.startswith("T1") and AGENT.search(file.stem):
        kind = f"{kind}ce"
    return kind if kind and naming.takes(kind) and not PARTS.search(file.stem) else None


def _shows_lesions(name: str) -> bool | None:
    """Whether a label map's name mentions lesions; None if it mentions neither lesions nor anatomy."""
    *entities, suffix = name.lower().split("_")
    words = {part.rpartition("-")[2] for part in entities if re.match("label-|desc-|seg-|[^-]+$", part)} | {suffix}
    if "l" in words or any(LESION.search(word) for word in words):
        return True
    return None if ANATOMY.isdisjoint(words) else False


def _is_series(path: Path) -> bool:
    with suppress(Exception):  # the file checks report damaged files
        return any(edge > 1 for edge in open_volume(path).shape[3:])
    return False
