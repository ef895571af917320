"""Describe a checkpoint's training data in words for users of the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.preparation import WITH_SKULL, WITHOUT_SKULL, describe, skull_in
from common.data.regions import CONVENTIONS, regions_of
from common.errors import InputError, choice, within
from common.values import NAME
from scripts.cohorts import COHORTS

UNNAMED = "unnamed"  # default of the option `cohort`
SYNTHETIC = "synthetic heads, computed from an anatomical template, without patients"


def cohort_of(record: Mapping[str, Any]) -> str | None:
    """Return a checkpoint's training data in words: `SYNTHETIC`, or the option `cohort` if it is set to plain words."""
    if record.get("made_up") is True:
        return SYNTHETIC
    name = record.get("cohort")
    return name if isinstance(name, str) and NAME.fullmatch(name) and name != UNNAMED else None


def model_name(name: str, record: Mapping[str, Any]) -> str:
    """Adapt a bundle's name, such as "tumour segmentation on BraTS 2021", to the regions and data of a checkpoint.

    Example:
        >>> model_name("tumour segmentation on BraTS 2021", {"made_up": True})
        'tumour segmentation, synthetic'
        >>> model_name("stage 3: tumour segmentation on BraTS 2021", {"label_convention": "whole=1+2,core=1"})
        'stage 3: segmentation of whole and core'
    """
    task, _, made_for = name.partition(" on ")
    cohort, convention = cohort_of(record), record.get("label_convention")
    if convention is not None and convention not in CONVENTIONS:
        *others, last = regions_of(convention)
        regions = " and ".join(filter(None, (", ".join(others), last)))
        task = f"{name.partition(':')[0]}: segmentation of {regions}"
    elif not made_for or cohort == made_for:
        return name
    return f"{task}, {'synthetic' if cohort == SYNTHETIC else cohort}" if cohort else task


def trained_on(record: Mapping[str, Any]) -> str:
    """Describe a checkpoint's training data: cohort, number of subjects, modalities and preparation.

    Example:
        >>> trained_on({"cohort": "hospital A", "dataset": {"name": "a", "training": 12}, "modalities": ["T1", "T2"]})
        'hospital A: 12 training subjects; T1, T2'
    """
    parts = [cohort_of(record) or "an unnamed cohort"]
    if dataset := record.get("dataset"):
        parts[0] += f": {dataset['training']} training subjects"
    if modalities := record.get("modalities"):
        parts.append(", ".join(modalities))
    if measured := record.get("measured"):
        parts.append(describe(measured))
    return "; ".join(parts)


def space_of(record: Mapping[str, Any], default: str, checkpoint: Path) -> str:
    """Return the cohort in whose space a checkpoint's training scans were prepared; `default` if it is not stated."""
    with within(f"checkpoint {checkpoint}"):
        return choice("space", record.get("space") or default, {name: name for name in COHORTS})


def is_skull_stripped(record: Mapping[str, Any]) -> bool | None:
    """Whether a checkpoint's training scans had no skull, as measured; None if unknown or mixed."""
    kind = skull_in(record["measured"]) if record.get("measured") else ""
    return {WITHOUT_SKULL: True, WITH_SKULL: False}.get(kind)


def check_bundle(metadata: Mapping[str, Any], checkpoint: Any, bundle: str) -> None:
    """Refuse a checkpoint of a different bundle; accept a file that names no bundle, such as a converted file."""
    if (trainer := metadata.get("bundle", bundle)) != bundle:
        raise InputError(f"checkpoint {checkpoint}", f"trained with {trainer}", f"a checkpoint of {bundle}")
