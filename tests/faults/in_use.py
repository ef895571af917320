"""Folders that another process writes to, in every command that writes to one for a while."""

from pathlib import Path

import torch

from common.locks import claim
from tests.faults.checkpoints import BRATS, CONTENT
from tests.faults.table import Fault, plain, wrapped

HELD = "in use by process … on … since …; expected a folder of its own, or the end of that run"
CHECKPOINT = "--checkpoint={folder}/model.pt"


def hold(folder: Path, _: Path) -> None:
    """The process of the tests has the folder until it ends."""
    torch.save(CONTENT, folder / "model.pt")
    claim("output_dir", folder / "held")


def _both(option: str, config: str, more: str = "") -> list[Fault]:
    words, line = f"--{option}={{folder}}/held {more}", f"--{option}={{folder}}/held: {HELD}"
    return [
        command(f"{config}: {option} in use", BRATS, words, line, config, prepare=hold) for command in (plain, wrapped)
    ]


FAULTS = [
    *_both("ckpt_dir", "train"),
    *_both("output_dir", "train"),
    *_both("output_dir", "evaluate", CHECKPOINT),
    *_both("output_dir", "inference", f"--datalist=null {CHECKPOINT}"),
]
