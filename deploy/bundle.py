"""A bundle as the application sees it: what its metadata says, and its own inference, run as its users run it.

Inference is the bundle's `configs/inference.yaml` in a process of its own, in the bundle's folder: its own `common` is
imported, nothing of its pre- and postprocessing is repeated here, and a case gives what it gives as NIfTI files.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from numpy.typing import NDArray

from common import weights
from common.files import reading_json
from common.preflight import InputError, options_of
from deploy.geometry import Volume, write_nifti

__all__ = ["TASKS", "Bundle", "Segment", "Task", "infer", "open_bundle"]

CASE = "case"  # what the bundle knows the patient by
FAILED = f"failed: subject {CASE}: "  # how a bundle says why
OWN = ("bundle_root", "config_file", "dataset_dir", "datalist", "split", "output_dir", "modalities", "checkpoint")


@dataclass(frozen=True)
class Segment:
    """One segment: label map values that it takes, its name, and its SNOMED CT code and meaning (morphology)."""

    values: tuple[int, ...]
    label: str
    code: str
    meaning: str


@dataclass(frozen=True)
class Task:
    """What a kind of bundle segments.

    Attributes:
        outputs: names of the network's channels by which metadata.json tells it.
        segments: numbered from 1 on in the DICOM segmentation.
        reference: modality whose series gives the grid, unless the user names another.
        skull_stripped: whether the model learnt from brains alone.
    """

    outputs: frozenset[str]
    segments: tuple[Segment, ...]
    reference: str
    skull_stripped: bool


TASKS = {
    "tumour": Task(
        outputs=frozenset({"tumour core (TC)", "whole tumour (WT)", "enhancing tumour (ET)"}),
        segments=(
            Segment((1,), "Necrotic tumour core (NCR)", "6574001", "Necrosis"),
            Segment((2,), "Peritumoural oedema (ED)", "79654002", "Edema"),
            Segment((3, 4), "Enhancing tumour (ET)", "108369006", "Neoplasm"),  # 3 in BraTS 2023, 4 in BraTS 2021
        ),
        reference="T1ce",
        skull_stripped=True,
    ),
    "stroke": Task(
        outputs=frozenset({"stroke lesion"}),
        segments=(Segment((1,), "Stroke lesion", "55641003", "Infarct"),),
        reference="T1",
        skull_stripped=False,
    ),
}


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, what its metadata says, and its inference's settings; `digest` is the checkpoint's SHA-256."""

    root: Path
    config: Path
    checkpoint: Path
    name: str
    version: str
    modalities: tuple[str, ...]
    task: Task
    settings: frozenset[str]
    digest: str


def open_bundle(folder: Path, checkpoint: Path | None = None) -> Bundle:
    """Read what a bundle's folder says of itself, and make sure that its checkpoint holds nothing but tensors.

    Args:
        folder: of the bundle; archives are refused, as unpacking a stranger's one can write anywhere.
        checkpoint: file; models/model.pt of the bundle by default.

    Raises:
        InputError: it is no folder, a file is missing or broken, the checkpoint holds code, or it is no bundle for
            tumours or strokes.
    """
    if folder.is_file():
        raise InputError(f"--bundle={folder}: a file; expected the bundle's folder. Archives are not unpacked here")
    configs = [folder / "configs" / f"inference.{ending}" for ending in ("yaml", "yml", "json")]
    config = next((path for path in configs if path.is_file()), None)
    if config is None:
        raise InputError(f"--bundle={folder}: no configs/inference.yaml or .json; expected the folder of a bundle")
    metadata = folder / "configs" / "metadata.json"
    with reading_json(f"{metadata}", "a bundle's metadata"):
        content = json.loads(metadata.read_text(encoding="utf-8"))
    path = checkpoint or folder / "models" / "model.pt"
    weights.load(path)  # which refuses pickled code
    try:
        formats = content["network_data_format"]
        outputs = frozenset(_channels(formats["outputs"]["pred"]))
        modalities = _channels(formats["inputs"]["image"])
        name, version = str(content["name"]), str(content["version"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{metadata}: no {error}; expected the metadata of a bundle") from error
    task = next((task for task in TASKS.values() if task.outputs == outputs), None)
    if task is None or task.reference not in modalities:
        raise InputError(f"--bundle={folder}: segments {', '.join(outputs)}; expected brats_finetune or atlas_finetune")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        settings = frozenset(dict(yaml.safe_load(config.read_text(encoding="utf-8"))))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{config}: no config of MONAI; expected the bundle's inference") from error
    places = (folder.resolve(), config.resolve(), path.resolve())
    return Bundle(*places, name, version, modalities, task, settings, digest)


def _channels(form: Mapping[str, Any]) -> tuple[str, ...]:
    """Names in the order of their channels."""
    return tuple(str(name) for _, name in sorted(form["channel_def"].items(), key=lambda item: int(item[0])))


def split_options(text: str) -> list[str]:
    """The options for the bundle's inference, from one text such as "--model_size=tiny --overlap=0.25".

    Raises:
        InputError: it is no list of options, or names one that the application sets itself.
    """
    try:
        options = shlex.split(str(text))
    except ValueError as error:
        raise InputError(f"--bundle_options={text}: {error}; expected options as on a command line") from error
    positional, named = options_of(options)
    if positional:
        raise InputError(f"--bundle_options={text}: {positional[0]}: expected options such as --overlap=0.25")
    if own := next((name for name in OWN if name in named), None):
        raise InputError(f"--bundle_options: --{own} is set by the application; expected other options")
    return options


def infer(bundle: Bundle, aligned: Mapping[str, Volume], work: Path, options: Sequence[str] = ()) -> NDArray[np.uint8]:
    """Run the bundle's inference on one case.

    Args:
        bundle: whose.
        aligned: a volume for each of its modalities, all on one grid.
        work: folder for files, which are named neutrally.
        options: further ones of the bundle's inference.

    Returns:
        The label map, on the grid of the volumes.

    Raises:
        InputError: the bundle refuses, in its own words, or fails, or its map is on another grid.
    """
    images = {modality: f"{CASE}_{modality}.nii" for modality in bundle.modalities}
    for modality, name in images.items():
        write_nifti(aligned[modality], work / name)
    entry = {"subject": CASE, "image": list(images.values())}
    datalist = {"name": CASE, "modalities": list(images), "label_convention": None, "testing": [entry]}
    (work / "datalist.json").write_text(json.dumps(datalist))
    given = {
        "config_file": bundle.config,
        "bundle_root": bundle.root,
        "dataset_dir": work,
        "datalist": work / "datalist.json",
        "split": "testing",
        "output_dir": work / "predictions",
        "checkpoint": bundle.checkpoint,
    }
    command = [sys.executable, "-m", "monai.bundle", "run", *(f"--{name}={value}" for name, value in given.items())]
    _run([*command, *options], bundle.root, work)
    return _read(work / "predictions" / f"{CASE}.nii.gz", aligned[bundle.modalities[0]])


def _run(command: Sequence[str], place: Path, work: Path) -> None:
    """Run the bundle; its output is kept back, and of an error one line is told: why the case failed, or the last.

    The folder of the work, whose name the user may have taken from a patient, is left out of it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # its own `common` first
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no message"]
        failed = [line[line.index(FAILED) :] for line in lines if FAILED in line]  # after a progress bar
        told = (failed or lines)[-1].replace(f"{work}/", "")
        raise InputError(f"the bundle's inference ended with status {result.returncode}: {told[:300]}")


def _read(path: Path, grid: Volume) -> NDArray[np.uint8]:
    if not path.is_file():
        raise InputError("the bundle's inference wrote no label map")
    image = nib.Nifti1Image.from_filename(path)
    if image.shape != grid.array.shape or not np.allclose(image.affine, grid.affine, rtol=0, atol=1e-2):
        raise InputError(f"the bundle's label map {list(image.shape)} is on another grid than its input")
    return np.asarray(image.dataobj).astype(np.uint8)
