"""What the record of a checkpoint says of the scans that it was trained on, in words for those who use the model."""

import re
from collections.abc import Mapping
from typing import Any

from .preparation import BRAIN, describe

NAME = re.compile(r"\w[\w .,()+:-]{0,99}", re.ASCII)  # what DICOM, YAML and a page take as it is
UNNAMED = "unnamed"  # the default of the option `cohort`
EMBEDDED = "embedded"
KNOWN = {EMBEDDED: "the embedded cohort, which is synthetic: computed from an anatomical template, without patients"}


def cohort_of(record: Mapping[str, Any]) -> str | None:
    """The name that the training gave its data (the option `cohort`); None if it gave none, or no plain words."""
    name = record.get("cohort")
    return name if isinstance(name, str) and NAME.fullmatch(name) and name != UNNAMED else None


def model_name(name: str, record: Mapping[str, Any]) -> str:
    """The name of a bundle with the data that its weights were trained on, instead of those that it is made for.

    Args:
        name: from metadata.json, such as "stage 3: tumour segmentation on BraTS 2021".
        record: the checkpoint's metadata.

    Example:
        >>> model_name("tumour segmentation on BraTS 2021", {"cohort": "embedded"})
        'tumour segmentation, synthetic'
        >>> model_name("tumour segmentation on BraTS 2021", {})
        'tumour segmentation'
    """
    task, _, made_for = name.partition(" on ")
    cohort = cohort_of(record)
    if not made_for or cohort == made_for:
        return name
    return f"{task}, synthetic" if cohort == EMBEDDED else f"{task}, {cohort}" if cohort else task


def trained_on(record: Mapping[str, Any]) -> str:
    """The data of a training in a phrase: cohort, number of subjects, modalities, and how the scans were prepared.

    Example:
        >>> trained_on({"cohort": "hospital A", "dataset": {"name": "a", "training": 12}, "modalities": ["T1", "T2"]})
        'hospital A: 12 training subjects; T1, T2'
    """
    cohort = cohort_of(record)
    parts = [KNOWN.get(cohort, cohort) if cohort else "a cohort that the weights do not name"]
    dataset = record.get("dataset")
    if isinstance(dataset, Mapping) and type(dataset.get("training")) is int:
        parts[0] += f": {dataset['training']} training subjects"
    if modalities := record.get("modalities"):
        parts.append(", ".join(modalities))
    if measured := record.get("measured"):
        parts.append(describe(measured))
    return "; ".join(parts)


def is_skull_stripped(record: Mapping[str, Any]) -> bool | None:
    """Whether the scans of a training were without skull, as it measured them; None if unknown or of both kinds."""
    measured = record.get("measured")
    if not measured:
        return None
    low, high = measured["volume"]
    return True if high <= BRAIN else False if low > BRAIN else None
