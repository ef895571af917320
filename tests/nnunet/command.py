"""The how-to's nnU-Net command, small enough for a test."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

SMALL = [
    "--modalities=['FLAIR','T1ce']",  # half the time and memory of four channels
    "--plans=resenc_l",
    "--gpu_memory=1",
    "--spacing=[5,5,5]",
    "--epochs=2",
    "--iterations_per_epoch=1",
    "--num_workers=0",
    "--device=cpu",
]


class Cohort(NamedTuple):
    root: Path
    datalist: Path


def command(cohort: Cohort, output: Path, *options: str) -> list[str]:
    """The how-to's command, with these values of its options and with further ones."""
    (documented,) = re.findall(
        r"^\.venv-nnunet/bin/python (-m scripts\.nnunet .+)$",
        (ROOT / "docs/how-to/train-baselines.md").read_text(),
        re.M,
    )
    values = {"datalist": cohort.datalist, "dataset_dir": cohort.root, "output": output}
    words = [f"--{name}={values[name]}" for name in re.findall(r"--(\w+)=", documented)]
    return [sys.executable, "-m", "scripts.nnunet", *words, *options]
