"""States of a training that are damaged, doctored or of another run, where a run is to go on from them."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.faults.table import Fault, plain
from tests.support import ROOT, execute

BRATS = "brats_finetune"
STATE = "models/iteration-0000001.pt"
Content = dict[str, Any]


def trained(cohorts: Path) -> Path:
    """The folder of a training of one step, which is made once for the cohorts."""
    folder = cohorts / "trained"
    if not folder.exists():
        places = {"cohorts": cohorts, "output": folder, "folder": folder}
        words = plain("", BRATS, "--save_interval=1", "").words(places)
        ended = execute([sys.executable, "-m", "monai.bundle", *words], ROOT / "bundles" / BRATS)
        assert ended.returncode == 0, ended.stderr
    return folder


def _states(folder: Path, cohorts: Path, count: int = 1) -> Path:
    """The last of some states of the run."""
    (folder / "models").mkdir()
    for number in range(1, count + 1):
        last = folder / f"models/iteration-{number:07d}.pt"
        shutil.copy(trained(cohorts) / STATE, last)
    return last


def _bytes(change: Callable[[bytes], bytes], folder: Path, cohorts: Path, count: int = 1) -> None:
    state = _states(folder, cohorts, count)
    state.write_bytes(change(state.read_bytes()))


def _with_flipped_bit(content: bytes) -> bytes:
    place = len(content) // 2  # in a tensor: they are nearly all of the file
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _content(change: Callable[[Content], object], folder: Path, cohorts: Path) -> None:
    state = _states(folder, cohorts)
    content = torch.load(state, weights_only=True)
    change(content)
    torch.save(content, state)


def _none(folder: Path, _: Path) -> None:
    (folder / "models").mkdir()


DAMAGED = "checkpoint {folder}/" + STATE + ": damaged: … has another checksum; expected the file as it was written"
OTHER = "{folder}/" + STATE + ": cannot be resumed by a run of this network (…)"
CHANGES: dict[str, tuple[Callable[[Content], object], str]] = {
    "no ranks": (lambda state: state.pop("ranks"), OTHER.replace("…", "KeyError('ranks')")),
    "no best": (lambda state: state.pop("best"), OTHER.replace("…", "KeyError('best')")),
    "no random numbers": (lambda state: state["ranks"][0].pop("random"), OTHER.replace("…", "KeyError('random')")),
    "an iteration below 0": (lambda state: state["trainer"].update(iteration=-1), OTHER),
    "another network": (lambda state: state["network"].popitem(), OTHER),
    "no settings": (
        lambda state: state.pop("metadata"),
        "{folder}/" + STATE + ": does not say its settings; expected a state that a run has left",
    ),
    "another bundle": (
        lambda state: state["metadata"].update(bundle="brats_stage2"),
        "--bundle=brats_finetune: the run to resume has brats_stage2; expected the same",
    ),
}


def _resumed(name: str, line: str, prepare: Callable[[Path, Path], object], resume: str = "true") -> Fault:
    options = f"--ckpt_dir={{folder}}/models --iterations=2 --resume={resume}"
    return plain(f"--resume={resume}: {name}", BRATS, options, line, prepare=prepare)


FAULTS = [
    _resumed("no state", "--resume=true: no iteration-N.pt in {folder}/models; expected one that …", _none),
    _resumed("a flipped bit", DAMAGED, partial(_bytes, _with_flipped_bit)),
    _resumed(
        "a flipped bit in the last of two",
        "checkpoint …iteration-0000002.pt: damaged: …; without it, the run continues from iteration-0000001.pt",
        partial(_bytes, _with_flipped_bit, count=2),
    ),
    _resumed(
        "truncated",
        "checkpoint {folder}/" + STATE + ": cannot be read as tensors alone: …",
        partial(_bytes, lambda content: content[: len(content) // 2]),
    ),
    _resumed(
        "an earlier run",
        "--ckpt_dir={folder}/models: holds the iteration-0000001.pt of an earlier run; expected resume=true to …",
        partial(_states),
        resume="false",
    ),
    *(_resumed(name, line, partial(_content, change)) for name, (change, line) in CHANGES.items()),
    plain(
        "--pretrained: a flipped bit in a state",
        BRATS,
        "--pretrained={folder}/" + STATE,
        DAMAGED,
        prepare=partial(_bytes, _with_flipped_bit),
    ),
    plain(
        "--checkpoint: a flipped bit in a state",
        BRATS,
        "--checkpoint={folder}/" + STATE,
        DAMAGED,
        "evaluate",
        prepare=partial(_bytes, _with_flipped_bit),
    ),
]
