"""Describe a checkpoint's training data in words for users of the model."""

import re
from collections.abc import Mapping
from typing import Any

from .preparation import WITH_SKULL, WITHOUT_SKULL, describe, skull_in

NAME = re.compile(r"\w[\w .,()'+:-]{0,99}")  # safe in YAML and HTML
UNNAMED = "unnamed"  # default of the option `cohort`
EMBEDDED = "embedded"
KNOWN = {EMBEDDED: "the embedded cohort, which is synthetic: computed from an anatomical template, without patients"}


def cohort_of(record: Mapping[str, Any]) -> str | None:
    """Return the training cohort that a checkpoint's record names; None without a name, or if it is unsafe in HTML."""
    name = record.get("cohort")
    return name if isinstance(name, str) and NAME.fullmatch(name) and name != UNNAMED else None


def model_name(name: str, record: Mapping[str, Any]) -> str:
    """Adapt a bundle's name, such as "tumour segmentation on BraTS 2021", to the cohort of a checkpoint's training.

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
    """Describe a checkpoint's training data: cohort, number of subjects, modalities and preparation.

    Example:
        >>> trained_on({"cohort": "hospital A", "dataset": {"name": "a", "training": 12}, "modalities": ["T1", "T2"]})
        'hospital A: 12 training subjects; T1, T2'
    """
    cohort = cohort_of(record)
    parts = [KNOWN.get(cohort, cohort) if cohort else "an unnamed cohort"]
    dataset = record.get("dataset")
    if isinstance(dataset, Mapping) and type(dataset.get("training")) is int:
        parts[0] += f": {dataset['training']} training subjects"
    if modalities := record.get("modalities"):
        parts.append(", ".join(modalities))
    if measured := record.get("measured"):
        parts.append(describe(measured))
    return "; ".join(parts)


def is_skull_stripped(record: Mapping[str, Any]) -> bool | None:
    """Whether a checkpoint's training scans had no skull, as measured; None if unknown or mixed."""
    measured = record.get("measured")
    return {WITHOUT_SKULL: True, WITH_SKULL: False}.get(skull_in(measured)) if measured else None
