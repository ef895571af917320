"""Checkpoints that are damaged, doctored or something else, and states that a training cannot go on from."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import torch

from tests import kept
from tests.faults.table import BRATS, Fault, Prepare, plain

FILE = "{folder}/model.pt"
CONTENT = {"network": {"a": torch.zeros(1000)}, "metadata": {"bundle": BRATS, "modalities": ["FLAIR"]}}
COMMANDS = {  # that read a checkpoint
    "training": plain(BRATS, f"--pretrained={FILE}", ""),
    "evaluation": plain(BRATS, f"--checkpoint={FILE}", "", "evaluate"),
    "inference": plain(BRATS, f"--datalist=null --checkpoint={FILE}", "", "inference"),
    "inspect": Fault("scripts.weights", f"inspect {FILE}", ""),
    "package": Fault("scripts.package", f"{BRATS} --weights={FILE} --output={{output}}", ""),
}


def saved(change: Callable[[bytes], bytes]) -> Prepare:
    """A checkpoint whose bytes were changed."""

    def prepare(folder: Path, _: Path) -> None:
        torch.save(CONTENT, folder / "model.pt")
        (folder / "model.pt").write_bytes(change((folder / "model.pt").read_bytes()))

    return prepare


def with_flipped_bit(content: bytes) -> bytes:
    place = content.index(bytes(3000)) + 1000
    return content[:place] + b"@" + content[place + 1 :]


def inflating(folder: Path, cohorts: Path) -> None:
    saved(bytes)(folder, cohorts)
    with ZipFile(folder / "model.pt") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with ZipFile(folder / "model.pt", "w", ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def claiming(folder: Path, _: Path) -> None:
    torch.save(CONTENT | {"network": {"a": torch.zeros(1).expand(10**6, 10**5)}}, folder / "model.pt")


FLIPPED = "damaged: … has another checksum; expected the file as it was written"
ROWS: list[tuple[str, str, Prepare]] = [
    *((command, "no such file", lambda folder, _: None) for command in COMMANDS),
    ("inspect", "a folder; expected a file", lambda folder, _: (folder / "model.pt").mkdir()),
    ("inference", "cannot be read as tensors alone: …; expected a whole file of torch.save", saved(lambda _: b"{}")),
    ("package", "cannot be read as tensors alone: empty; expected a whole file of torch.save", saved(lambda _: b"")),
    ("evaluation", "cannot be read as tensors alone: …", saved(lambda content: content[:900])),
    *((command, FLIPPED, saved(with_flipped_bit)) for command in ("training", "inspect", "package")),
    ("training", "… is compressed; expected a file as torch.save writes it", inflating),
    ("evaluation", "a tensor of [1000000, 100000] in 4 bytes; expected all of it, as …", claiming),
]
READ = [
    replace(COMMANDS[command], line=f"checkpoint {FILE}: {line}", prepare=prepare) for command, line, prepare in ROWS
]

# A training that is to go on

STATE = "models/iteration-0000001.pt"


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


def altered(change: Callable[[dict[str, Any]], object]) -> Prepare:
    """A state whose content was changed."""

    def prepare(folder: Path, _: Path) -> None:
        content = torch.load(kept.trained(BRATS) / STATE, weights_only=True)
        change(content)
        (folder / "models").mkdir()
        torch.save(content, folder / STATE)

    return prepare


def broken(content: bytes) -> bytes:
    place = len(content) // 2  # in a tensor: they are nearly all of the file
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGED = f"checkpoint {{folder}}/{STATE}: {FLIPPED}"
RESUMED = [
    plain(BRATS, f"--ckpt_dir={{folder}}/models --iterations=2 --resume={resume}", line, prepare=prepare)
    for resume, line, prepare in (
        ("true", "--resume=true: no iteration-N.pt in {folder}/models; expected one that …", states(0)),
        ("true", DAMAGED, states(1, broken)),
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
        (
            "true",
            f"{{folder}}/{STATE}: cannot be resumed by a run of this network (KeyError('ranks'))",
            altered(lambda state: state.pop("ranks")),
        ),
        (
            "true",
            f"{{folder}}/{STATE}: does not say its settings; expected a state that a run has left",
            altered(lambda state: state.pop("metadata")),
        ),
        (
            "true",
            "--bundle=brats_finetune: the run to resume has brats_stage2; expected the same",
            altered(lambda state: state["metadata"].update(bundle="brats_stage2")),
        ),
    )
]
FAULTS = [
    *READ,
    *RESUMED,
    plain(BRATS, f"--checkpoint={{folder}}/{STATE}", DAMAGED, "evaluate", prepare=states(1, broken)),
]
