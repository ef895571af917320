"""Mistakes in trainings, evaluations and inference: options, checkpoints, datalists, scans, and the machine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch

from common.locks import claim
from tests import kept
from tests.faults.table import BRATS, Fault, Prepare, plain, wrapped, written

# Options and configs

OWN = "{folder}/own.yaml"
OPTIONS = [
    plain(BRATS, "--lerning_rate=5", "--lerning_rate=5: no such option; did you mean --learning_rate?"),
    plain(BRATS, "--batch_size=two", "--batch_size=two: expected a whole number from 1, crops"),
    plain(BRATS, "--batch_size=1000000", "--batch_size=1000000: the crops alone, …; this machine has … GiB"),
    wrapped(BRATS, "--overlab=0.1", "--overlab=0.1: no such option in …; did you mean --overlap?", "evaluate"),
    wrapped(BRATS, "--network::size=1", "--network::size=1: …; network has no keys of its own"),
    wrapped(
        BRATS,
        "",
        f"{OWN}: lerning_rate: 5: no such key in …; did you mean learning_rate?",
        f"train {OWN}",
        prepare=written("own.yaml", "lerning_rate: 5"),
    ),
    wrapped(
        BRATS,
        "",
        f"{OWN}: not YAML: line 2: expected ',' or ']', but got ':'",
        f"train {OWN}",
        prepare=written("own.yaml", "a: [1\nb: }\n"),
    ),
    wrapped("brats_finetun", "", "unknown bundle 'brats_finetun'; did you mean brats_finetune?"),
]

# Checkpoints, and states that a training is to go on from

FILE = "{folder}/model.pt"
CONTENT = {"network": {"a": torch.zeros(1000)}, "metadata": {"bundle": BRATS, "modalities": ["FLAIR"]}}
STATE = "models/iteration-0000001.pt"
FLIPPED = "damaged: … has another checksum; expected the file as it was written"


def broken(content: bytes) -> bytes:
    place = len(content) // 2  # in a tensor: they are nearly all of the file
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def saved(change: Callable[[bytes], bytes]) -> Prepare:
    """A checkpoint whose bytes were changed."""

    def prepare(folder: Path, _: Path) -> None:
        torch.save(CONTENT, folder / "model.pt")
        (folder / "model.pt").write_bytes(change((folder / "model.pt").read_bytes()))

    return prepare


def states(count: int, change: Callable[[bytes], bytes] = bytes) -> Prepare:
    """A number of states of the run; the bytes of the last were changed."""

    def prepare(folder: Path, _: Path) -> None:
        (folder / "models").mkdir()
        for number in range(1, count + 1):
            last = folder / f"models/iteration-{number:07d}.pt"
            shutil.copy(kept.trained(BRATS) / STATE, last)
        if count:
            last.write_bytes(change(last.read_bytes()))

    return prepare


CHECKPOINTS = [
    plain(BRATS, f"--pretrained={FILE}", f"checkpoint {FILE}: {FLIPPED}", prepare=saved(broken)),
    plain(
        BRATS,
        f"--checkpoint={FILE}",
        f"checkpoint {FILE}: cannot be read as tensors alone: …",
        "evaluate",
        prepare=saved(lambda content: content[:900]),
    ),
    plain(BRATS, f"--datalist=null --checkpoint={FILE}", f"checkpoint {FILE}: no such file", "inference"),
]
RESUMED = [
    plain(BRATS, f"--ckpt_dir={{folder}}/models --iterations=2 --resume={resume}", line, prepare=prepare)
    for resume, line, prepare in (
        ("true", "--resume=true: no iteration-N.pt in {folder}/models; expected one that …", states(0)),
        (
            "true",
            "checkpoint …iteration-0000002.pt: damaged: …; without it, the run continues from iteration-0000001.pt",
            states(2, broken),
        ),
        (
            "false",
            "--ckpt_dir={folder}/models: holds the iteration-0000001.pt of an earlier run; expected resume=true to …",
            states(1),
        ),
    )
]

# Datalists

LIST = "{folder}/list.json"


def overlapping(folder: Path, cohorts: Path) -> None:
    """The cohort's datalist with a subject in two splits."""
    content = json.loads((cohorts / "brats.json").read_text())
    content["validation"].append(content["training"][0])
    (folder / "list.json").write_text(json.dumps(content))


DATALISTS = [
    plain(BRATS, f"--datalist={LIST}", f"datalist {LIST}: {line}", prepare=prepare)
    for line, prepare in (
        ("not JSON (…); expected a datalist", written("list.json", '{"name": ')),
        ("subject … is in training and again in validation", overlapping),
    )
]

# Scans and label maps

FLAIR = "…{folder}/brats/…flair.nii.gz"
DATA = "--dataset_dir={folder}/brats --datalist={folder}/brats.json"
Change = Callable[[Path], object]


def doctored(change: Change, modality: str = "image") -> Prepare:
    """The cohort, linked file by file, after `change` of a file of one subject for training and one for testing."""

    def prepare(folder: Path, cohorts: Path) -> None:
        content = json.loads((cohorts / "brats.json").read_text())
        for path in (cohorts / "brats").rglob("*.nii.gz"):
            copy = folder / "brats" / path.relative_to(cohorts / "brats")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
        for split in ("training", "testing"):
            entry = content[split][0]
            file = folder / "brats" / (entry["label"] if modality == "label" else entry["image"][0])
            source = file.readlink()
            file.unlink()
            shutil.copy(source, file)
            change(file)
        (folder / "brats.json").write_text(json.dumps(content))
        shutil.copy(kept.trained(BRATS) / "models/model.pt", folder)

    return prepare


def voxels(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other voxels on the same grid."""

    def write(file: Path) -> None:
        scan = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image(change(np.asarray(scan.dataobj, np.float32)), scan.affine), file)

    return write


CUT = doctored(lambda file: file.write_bytes(file.read_bytes()[:5000]))
NAN = doctored(voxels(lambda image: np.where(np.indices(image.shape)[0] == len(image) // 2, np.nan, image)))
SCANS = [
    plain(BRATS, DATA, f"{FLAIR}: Compressed file ended before …", prepare=CUT),
    plain(BRATS, DATA, f"{FLAIR}: … voxels NaN, 0 infinite; expected finite ones", prepare=NAN),
    plain(
        BRATS,
        f"{DATA} --checkpoint={FILE}",
        "….nii.gz: label 7, 8, 9, 11; expected labels 0, 1, 2, 4 (brats2021)",
        "evaluate",
        prepare=doctored(voxels(lambda labels: labels + 7), "label"),
    ),
]

# What the machine lacks, or another process holds


def hold(folder: Path, _: Path) -> None:
    """The process of the tests has the folder until it ends."""
    torch.save(CONTENT, folder / "model.pt")
    claim("output_dir", folder / "held")


HELD = "{folder}/held: in use by process … on … since …; expected a folder of its own, or the end of that run"
MACHINE = [
    plain(BRATS, "--ckpt_dir={folder}/held", f"--ckpt_dir={HELD}", prepare=hold),
    wrapped(
        BRATS, f"--output_dir={{folder}}/held --checkpoint={FILE}", f"--output_dir={HELD}", "evaluate", prepare=hold
    ),
    wrapped(
        BRATS,
        "--batch_size=6 --patch_size=[64,64,64]",
        "out of memory on the host, tried to allocate …: set --activation_checkpointing=true, or lower --batch_size=6 "
        "or …",
        memory=2**30,
    ),
    plain(BRATS, "--save_interval=1", "{output}/models/….pt: File too large; expected a …", disk=2**20),
]
FAULTS: list[Fault] = [*OPTIONS, *CHECKPOINTS, *RESUMED, *DATALISTS, *SCANS, *MACHINE]
