"""From a command to the first step of a training; the check of a cohort beside reading it."""

import atexit
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.benchmark.timing import ROOT, Measured, run_process

__all__ = ["read", "scan", "start"]

SUBJECTS = 4


def start() -> dict[str, dict[str, Callable[[], Measured]]]:
    """A training of the quick start's size until its first step, beside what MONAI takes to be imported."""
    folder, datalist = _cohort()
    training = [
        *("-m", "monai.bundle", "run", "--config_file=['configs/train.yaml','configs/quickstart.yaml']"),
        *(f"--dataset_dir={folder}", f"--datalist={datalist}", f"--output_dir={folder / 'out'}"),
        *(f"--ckpt_dir={folder / 'models'}", "--iterations=4", "--val_interval=2", "--warmup_iterations=0"),
    ]
    bundle = ROOT / "bundles/brats_finetune"
    return {
        "start": {
            "import of MONAI": lambda: run_process(["-c", "import monai.bundle"]),
            "training, volumes read when needed": lambda: run_process(
                [*training, "--cache_rate=0.0"], bundle, until="to do:"
            ),
        }
    }


def scan() -> dict[str, dict[str, Callable[[], float]]]:
    """`scripts.datalists check` of a few BraTS subjects, beside reading their files.

    Without peak memory: a check reads in a process of its own, which `run_process` does not watch.
    """
    folder, datalist = _cohort()
    check = ["-m", "scripts.datalists", "check", str(datalist), f"--root={folder}", "--workers=1"]
    return {
        "scan": {
            "check": lambda: run_process(check).seconds,
            "reading alone": lambda: run_process(["-m", "scripts.benchmark.starting", str(folder)]).seconds,
        }
    }


def _cohort() -> tuple[Path, Path]:
    """A folder with a few subjects, and their datalist."""
    from scripts.phantoms.cohort import make

    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    place = Path(folder.name)
    make("brats", SUBJECTS, folder.name, spacing=1.0, workers=1)
    datalist = place / "datalist.json"
    splits = ["--validation=1", "--testing=1"]
    run_process(["-m", "scripts.datalists", "brats", f"--root={place}", f"--output={datalist}", *splits])
    return place, datalist


def read(folder: str) -> None:
    """Read the voxels of all scans in a folder."""
    import nibabel
    import numpy as np

    for file in sorted(Path(folder).rglob("*.nii.gz")):
        np.asarray(nibabel.nifti1.load(file).dataobj, dtype=np.float32)


if __name__ == "__main__":
    read(*sys.argv[1:])
