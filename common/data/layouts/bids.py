"""BIDS data sets: images in sub-*/[ses-*/]anat, label maps in derivatives.

File names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w`, `dseg` (discrete segmentation) or
`mask`.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...bars import tqdm
from ...errors import show
from ..modalities import modality_of
from .found import DataSet, files_in, folders_in
from .lookup import convention_of
from .names import LABEL, Naming, ends_with

LESION = ("lesion", "tumor", "tumour", "stroke", "infarct", "wmh", "metasta")  # values of label-, desc- or seg-
# Values of label- and desc- for masks of anything but lesions; "L" is a lesion
ANATOMY = {"brain", "head", "skull", "aseg", "aparcaseg"} | {
    "bg",
    "gm",
    "wm",
    "csf",
    "b",
    "st",
    "nb",
    "cgm",
    "sgm",
    "bs",
}
RANKS = ("a label, desc or seg entity of lesions", "dseg", "mask")


class Parsed(NamedTuple):
    """A file name's entities and suffix; `words` is the part after subject and session."""

    entities: dict[str, str]
    suffix: str
    words: str


class LabelCandidate(NamedTuple):
    """A label map: its path, its rank in `RANKS`, and its pipeline and words, for `--label`."""

    path: str
    rank: int
    name: str


def is_bids(root: str) -> bool:
    """Whether the root has folders sub-* that contain anat, or ses-* with anat."""
    return any(True for _ in _anatomies(root, ""))


def read_bids(root: Path, naming: Naming, states_regions: bool) -> DataSet:
    """The sessions of a data set; `states_regions` takes the regions from lookup tables, dseg.tsv, if there are any."""
    data = DataSet(str(root), "BIDS")
    labels: dict[tuple[str, str], list[LabelCandidate]] = defaultdict(list)
    for subject, session, folder in tqdm(list(_anatomies(data.root, "")), desc=data.layout, unit="session"):
        for modality, paths in _images(data, folder, naming).items():
            data.put(_name(subject, session), modality, paths, subject)
        labels[subject, session] += _labels(data.root, folder, "", naming)
    for pipeline, below in _pipelines(data.root):
        for subject, session, folder in _anatomies(data.root, below):
            labels[subject, session] += _labels(data.root, folder, pipeline, naming)
    _put_labels(data, labels)
    if states_regions:
        used = (known.label for known in data.subjects.values() if known.images)
        data.convention = convention_of(data.root, [label for label in used if label is not None])
    return data


def _name(subject: str, session: str) -> str:
    return f"{subject}_{session}" if session else subject


def _anatomies(root: str, below: str) -> Iterator[tuple[str, str, str]]:
    """Subject, session ("" without) and path of each folder anat."""
    for subject in folders_in(f"{root}/{below}"):
        if not subject.startswith("sub-"):
            continue
        folder = f"{below}/{subject}".lstrip("/")
        for name in folders_in(f"{root}/{folder}"):
            if name == "anat":
                yield subject, "", f"{folder}/anat"
            elif name.startswith("ses-") and Path(root, folder, name, "anat").is_dir():
                yield subject, name, f"{folder}/{name}/anat"


def _pipelines(root: str) -> list[tuple[str, str]]:
    """Name and path of each derivative; derivatives may also hold subjects without a pipeline's folder."""
    if not Path(root, "derivatives").is_dir():
        return []
    names = [name for name in folders_in(f"{root}/derivatives") if not name.startswith("sub-")]
    return [("", "derivatives"), *((name, f"derivatives/{name}") for name in names)]


def _parsed(stem: str) -> Parsed:
    parts = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    words = "_".join(part for part in parts if not part.startswith(("sub-", "ses-")))
    return Parsed(entities, parts[-1], words)


def _images(data: DataSet, folder: str, naming: Naming) -> dict[str, list[str]]:
    """Modality -> the candidate files of a session."""
    claims: dict[str, list[str]] = defaultdict(list)
    exact: dict[str, list[str]] = defaultdict(list)
    for path, stem in files_in(data.root, folder):
        parsed = _parsed(stem)
        if parsed.suffix in ("dseg", "mask", "probseg", "roi"):
            continue
        for modality, words in naming.spelled.items():
            if ends_with(stem, words) and ("*" in words or ("ce" in parsed.entities) == ("ce-" in words)):
                (exact if parsed.words.lower() == words.lower() else claims)[modality].append(path)
        modality_or_none = modality_of(parsed.suffix)
        if modality_or_none is None:
            if not naming.spelled:
                data.skipped.append(path)
        else:  # with a contrast agent: T1ce
            modality = modality_or_none + ("ce" if "ce" in parsed.entities else "")
            if naming.takes(modality):
                claims[modality].append(path)
    return {**claims, **exact}


def _labels(root: str, folder: str, pipeline: str, naming: Naming) -> Iterator[LabelCandidate]:
    """A session's label maps: those that `--label` names, or all that may show lesions."""
    wanted_in, _, words = (naming.label or "").rpartition("/")
    for path, stem in files_in(root, folder):
        parsed = _parsed(stem)
        name = f"{pipeline}/{parsed.words}".lstrip("/")
        if naming.label is not None:
            if ends_with(stem, words) and wanted_in in ("", pipeline):
                yield LabelCandidate(path, 0, name)
        elif parsed.suffix in ("dseg", "mask"):
            what = [parsed.entities.get(entity, "").lower() for entity in ("label", "desc", "seg")]
            if any(value == "l" or any(word in value for word in LESION) for value in what):
                yield LabelCandidate(path, 0, name)
            elif ANATOMY.isdisjoint(what):
                yield LabelCandidate(path, RANKS.index(parsed.suffix), name)


def _put_labels(data: DataSet, labels: dict[tuple[str, str], list[LabelCandidate]]) -> None:
    """Give each session its label map, of the best rank in the data set."""
    best = min((found.rank for candidates in labels.values() for found in candidates), default=0)
    sessions: dict[str, list[str]] = defaultdict(list)
    for known in data.subjects.values():
        sessions[str(known.person)].append(known.name)
    kinds: dict[str, int] = defaultdict(int)
    left: dict[str, int] = defaultdict(int)
    for (subject, session), candidates in labels.items():
        for found in candidates:
            (kinds if found.rank == best else left)[found.name] += 1
        chosen = [found for found in candidates if found.rank == best]
        name = _name(subject, session)
        if name not in data.subjects and not session and len(sessions[subject]) == 1:
            (name,) = sessions[subject]  # label map of a subject with a single session
        if chosen:
            data.put(name, LABEL, [found.path for found in chosen], subject, f"--label={chosen[0].name}")
    if kinds:
        show(f"labels: {_counted(kinds)}" + (f"; left out: {_counted(left)}" if left else ""))


def _counted(kinds: dict[str, int]) -> str:
    most = sorted(kinds.items(), key=lambda item: -item[1])
    more = f" and {len(most) - 3} kinds more" if len(most) > 3 else ""
    return ", ".join(f"{name} ({count})" for name, count in most[:3]) + more
