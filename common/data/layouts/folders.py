"""Read data sets without a standard layout: a folder for each subject, or the subject in each file's name."""

import re
from collections import Counter

from ..modalities import modality_of, split_name
from .listing import Listing, stem_of
from .names import ANATOMY, IMAGES, LABEL, Naming, before_label, is_of_anatomy
from .subjects import Claim, DataSet


def kind_of_folder(name: str) -> str | None:
    """Return what a folder holds by its name: "images", `LABEL`, `ANATOMY` or a modality; None if it does not say.

    Example:
        >>> [kind_of_folder(name) for name in ("images_structural", "masks", "IXI-T1", "P1")]
        ['images', 'label', 'T1', None]
    """
    words = re.split(r"[_.\- ]", name.lower())
    if before_label(name) is not None:
        return ANATOMY if is_of_anatomy(name) else LABEL
    return IMAGES[0] if {words[0], words[-1]} & {*IMAGES} else split_name(stem_of(name) or name)[1]


def _collections(listing: Listing) -> dict[str, str]:
    """Map the top folders that hold files of all subjects to their content (`kind_of_folder`).

    A folder named after a modality counts only if none of its files states a different kind. If the name merely ends
    with the modality (IXI-T1, or the timepoint P1_T1), the folder must also hold several files.
    """
    kinds = {}
    for folder, files in listing.tops.items():
        kind = kind_of_folder(folder)
        is_modality = kind not in (None, IMAGES[0], LABEL, ANATOMY)
        agrees = {Naming().parse(file.stem).kind for file in files} <= {kind, None}
        if kind and (not is_modality or (agrees and (modality_of(folder) or len(files) > 1))):
            kinds[folder] = kind
    return kinds


def is_folders(listing: Listing) -> bool:
    """Whether a data set has a folder for each subject, rather than for each modality."""
    kinds = _collections(listing)
    is_named = any(kind not in (IMAGES[0], LABEL, ANATOMY) for kind in kinds.values())
    return not is_named and any(files for folder, files in listing.tops.items() if folder not in kinds)


def is_flat(listing: Listing) -> bool:
    """Whether images lie in the data set's folder itself, or in folders that all subjects share."""
    return any(not file.folders for file in listing.files) or any(
        listing.tops[folder] for folder, kind in _collections(listing).items() if kind not in (LABEL, ANATOMY)
    )


def read_folders(listing: Listing, naming: Naming) -> DataSet:
    """Find the files in a folder for each subject, named MODALITY, SUBJECT_MODALITY or MODALITY/FILE.

    Files in the subject's folder rank before files in its subfolders. A name that equals the user's words ranks before
    a longer name that ends with them.
    """
    data = DataSet(listing, "a folder for each subject")
    data.skip("not in a subject's folder", [file.path for file in listing.files if not file.folders])
    inside = Counter(file.path.rpartition("/")[0] for file in listing.files)
    claims = []
    for subject, files in listing.tops.items():
        for file in files:
            stem = re.sub(rf"^{re.escape(subject)}[_.\- ]", "", file.stem)
            is_alone = len(file.folders) > 1 and inside[file.path.rpartition("/")[0]] == 1
            name = naming.parse(stem, file.bare, modality_of(file.folders[-1]) if is_alone else None)
            if name.kind is not None:
                is_longer = name.is_given and name.before not in ("", subject)
                claims.append(Claim(subject, name.kind, file.path, (len(file.folders) > 1, is_longer)))
    data.assign(claims)
    return data


def read_flat(listing: Listing, naming: Naming) -> DataSet:
    """Find each subject's files by names such as SUBJECT_MODALITY, in any folder, or MODALITY/SUBJECT.

    If a file's name is only a modality, a folder gives the subject; if it has no modality, a folder gives the modality.
    """
    data = DataSet(listing, "the subject in each file's name")
    images, labels = [], []
    for file in listing.files:
        parents = [(folder, kind_of_folder(folder)) for folder in reversed(file.folders)]
        parent_kind = next((kind for _, kind in parents if kind not in (None, IMAGES[0])), None)
        owner = next((folder for folder, kind in parents if kind is None), file.stem if naming.default_modality else "")
        name = naming.parse(file.stem, file.bare, None if parent_kind in (LABEL, ANATOMY) else parent_kind)
        subject = name.subject or name.before or owner
        if name.kind == LABEL:
            labels.append((subject, file.path))
        elif parent_kind == LABEL:
            labels += [(file.stem, file.path)] if naming.label is None else []
        elif name.kind and subject:
            images.append(Claim(subject, name.kind, file.path))
    data.assign(images)
    data.assign([Claim(naming.subject_of_label(before, data.subjects), LABEL, path) for before, path in labels])
    return data
