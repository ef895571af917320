"""A case after each transform of a bundle's train.yaml."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import Compose

from scripts.phantoms.cohort import make
from scripts.phantoms.layouts import LAYOUTS

__all__ = ["Step", "section", "steps", "steps_of_a_head"]

SEEDS = {"ukb": 2, "brats": 2, "atlas": 0}  # of subjects with all labels in the slice that is drawn


@dataclass(frozen=True)
class Step:
    """A case after a transform.

    Attributes:
        name: of the transform's class, or of all random transforms.
        image: [C, x, y, z].
        label: label map [1, x, y, z] or regions [R, x, y, z]; None in self-supervised training.
        affine: voxel to world space (RAS+), 4 x 4, mm.
        normalised: whether the image is in standard deviations.
        idle: whether the image is unchanged.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None
    affine: np.ndarray
    normalised: bool
    idle: bool = False

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Edges of a voxel, mm."""
        return tuple(map(float, nib.affines.voxel_sizes(self.affine)))


def steps_of_a_head(cohort: str, config: ConfigParser, spacing: float) -> list[Step]:
    """The steps of a subject of the embedded cohort; see `steps`."""
    with TemporaryDirectory() as folder:
        make(cohort, 1, folder, spacing=spacing, seed=SEEDS[cohort], workers=1)
        return steps(config, _entry(cohort, Path(folder), config))


def section(config: Mapping[str, Any]) -> str:
    """The part of a train.yaml that a picture shows, as JSON text."""
    named = {key: config[key] for key in ("modalities", "patch_size", "deterministic_transforms")}
    return json.dumps(named | {key: config["train"][key] for key in ("random_transforms", "preprocessing")})


def _entry(cohort: str, root: Path, config: ConfigParser) -> dict[str, Any]:
    """The first subject, as `common.data.Datalist.load` returns it."""
    case = LAYOUTS[cohort].case(0)
    entry: dict[str, Any] = {
        "subject": case.subject,
        "image": [str(root / case.images[modality]) for modality in config["modalities"]],
    }
    return entry | ({"label": str(root / case.label)} if case.label else {})


def steps(config: ConfigParser, entry: Mapping[str, Any], seed: int = 0) -> list[Step]:
    """A case on disk, after each deterministic transform of the image, and after all random transforms.

    Args:
        config: a bundle's train.yaml.
        entry: as `common.data.Datalist.load` returns it.
        seed: of the random transforms.
    """
    data: Any = dict(entry)
    taken: list[Step] = []
    fixed = config.get_parsed_content("deterministic_transforms")
    for transform in fixed:
        data = transform(data)
        if "image" in getattr(transform, "keys", ()):
            taken.append(_step(type(transform).__name__, data, taken))
    training: Compose = config.get_parsed_content("train::preprocessing")
    first = len(fixed)  # without those that are switched off
    data = training.set_random_state(seed=seed)(data, start=first)
    name = ", ".join(dict.fromkeys(type(transform).__name__ for transform in training.transforms[first:]))
    return [*taken, _step(name, data[0] if isinstance(data, list) else data, taken)]


def _step(name: str, data: Mapping[str, Any], before: Sequence[Step]) -> Step:
    """A copy, because transforms may work in place."""
    image, affine = data["image"].numpy().copy(), data["image"].affine.numpy().copy()
    return Step(
        name=name,
        image=image,
        label=data["label"].numpy().copy() if "label" in data else None,
        affine=affine,
        normalised=any(step.normalised for step in before) or name == "NormalizeBraind",
        idle=bool(before) and np.array_equal(before[-1].affine, affine) and np.array_equal(before[-1].image, image),
    )
