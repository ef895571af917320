"""BIDS data sets: images in sub-*/[ses-*/]anat, label maps beside them or in derivatives.

File names consist of entities, such as `ce-gadolinium`, and a suffix, such as `T1w`, `dseg` (discrete segmentation) or
`mask`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...bars import tqdm
from ...errors import shortened, show
from ..modalities import modality_of
from .found import DataSet, files_in, folders_in
from .names import LABEL, Naming, ends_with

LESION = ("lesion", "tumor", "tumour", "stroke", "infarct", "wmh", "metasta")  # values of label-, desc- or seg-
# Values of label- and desc- for masks of anything but lesions; "L" is a lesion
ANATOMY = {"brain", "head", "skull", "aseg", "aparcaseg", "bg", "gm", "wm", "csf", "b", "st", "nb", "cgm", "sgm", "bs"}


class LabelCandidate(NamedTuple):
    """A label map: its session, its path, its pipeline and words (for `--label`), and whether its name says lesion."""

    subject: str
    session: str
    path: str
    name: str
    is_lesion: bool


def is_bids(root: str) -> bool:
    """Whether the root has folders sub-* that contain anat, or ses-* with anat."""
    return any(True for _ in _anatomies(root, ""))


def read_bids(root: Path, naming: Naming) -> DataSet:
    """The sessions of a data set."""
    data = DataSet(str(root), "BIDS")
    labels: list[LabelCandidate] = []
    for subject, session, folder in tqdm(list(_anatomies(data.root, "")), desc=data.layout, unit="session"):
        for modality, paths in _images(data, folder, naming).items():
            data.put(_name(subject, session), modality, paths, subject)
        labels += _labels(data.root, subject, session, folder, "", naming)
    if (root / "derivatives").is_dir():
        pipelines = [name for name in folders_in(f"{root}/derivatives") if not name.startswith("sub-")]
        for pipeline in ("", *pipelines):  # derivatives may also hold subjects without a pipeline's folder
            for subject, session, folder in _anatomies(data.root, f"derivatives/{pipeline}".rstrip("/")):
                labels += _labels(data.root, subject, session, folder, pipeline, naming)
    _put_labels(data, labels)
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


def _parsed(stem: str) -> tuple[dict[str, str], str, str]:
    """A file name's entities, its suffix, and its words after subject and session."""
    parts = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return entities, parts[-1], "_".join(part for part in parts if not part.startswith(("sub-", "ses-")))


def _images(data: DataSet, folder: str, naming: Naming) -> dict[str, list[str]]:
    """Modality -> the candidate files of a session."""
    claims: dict[str, list[str]] = defaultdict(list)
    exact: dict[str, list[str]] = defaultdict(list)
    for path, stem in files_in(data.root, folder):
        entities, suffix, own = _parsed(stem)
        if suffix in ("dseg", "mask", "probseg", "roi"):
            continue
        for modality, words in naming.spelled.items():
            if ends_with(stem, words) and ("*" in words or ("ce" in entities) == ("ce-" in words)):
                (exact if own.lower() == words.lower() else claims)[modality].append(path)
        modality_or_none = modality_of(suffix)
        if modality_or_none is None:
            if not naming.spelled:
                data.skipped.append(path)
        else:  # with a contrast agent: T1ce
            modality = modality_or_none + ("ce" if "ce" in entities else "")
            if naming.takes(modality):
                claims[modality].append(path)
    return {**claims, **exact}


def _labels(
    root: str, subject: str, session: str, folder: str, pipeline: str, naming: Naming
) -> Iterator[LabelCandidate]:
    """A session's label maps: those that `--label` names, or all that may show lesions."""
    wanted_in, _, words = (naming.label or "").rpartition("/")
    for path, stem in files_in(root, folder):
        entities, suffix, own = _parsed(stem)
        name = f"{pipeline}/{own}".lstrip("/")
        if naming.label is not None:
            if ends_with(stem, words) and wanted_in in ("", pipeline):
                yield LabelCandidate(subject, session, path, name, is_lesion=True)
        elif suffix in ("dseg", "mask"):
            what = [entities.get(entity, "").lower() for entity in ("label", "desc", "seg")]
            is_lesion = any(value == "l" or any(word in value for word in LESION) for value in what)
            if is_lesion or ANATOMY.isdisjoint(what):
                yield LabelCandidate(subject, session, path, name, is_lesion)


def _put_labels(data: DataSet, labels: list[LabelCandidate]) -> None:
    """Give each session its label map; if any in the data set says lesion, only those that do count."""
    only_lesions = any(label.is_lesion for label in labels)
    chosen = [label for label in labels if label.is_lesion or not only_lesions]
    for label in chosen:
        data.put(_name(label.subject, label.session), LABEL, [label.path], label.subject, f"--label={label.name}")
    if chosen:
        left = Counter(label.name for label in labels if only_lesions and not label.is_lesion)
        kinds = Counter(label.name for label in chosen)
        show(f"labels: {_counted(kinds)}" + (f"; left out: {_counted(left)}" if left else ""))


def _counted(kinds: Counter[str]) -> str:
    return shortened([f"{name} ({count})" for name, count in kinds.most_common()], most=3)
