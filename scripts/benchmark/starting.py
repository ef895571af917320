"""From a command to the first step of a training, beside an earlier commit; the check of a cohort beside reading it."""

import atexit
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from common.errors import InputError
from scripts.benchmark.timing import ROOT, Measured, run_process

__all__ = ["BEFORE", "NONE", "check_commit", "extract", "read", "scan", "start"]

SUBJECTS = 4
BEFORE, NONE = "8cb89a4", "none"  # the last commit before memory, imports and the start were worked on; no commit


def start(before: str = BEFORE) -> dict[str, dict[str, Callable[[], Measured]]]:
    """A training of the quick start's size until its first step, now and at an earlier commit, and MONAI's import.

    Args:
        before: the commit, or `none`; its code runs with this Python and its packages.
    """
    folder, datalist = _cohort()
    options = [
        *(f"--dataset_dir={folder}", f"--datalist={datalist}", f"--output_dir={folder / 'out'}"),
        *(f"--ckpt_dir={folder / 'models'}", "--iterations=4", "--val_interval=2", "--warmup_iterations=0"),
        "--cache_rate=0.0",
    ]
    plain = ["-m", "monai.bundle", "run", "--config_file=['configs/train.yaml','configs/quickstart.yaml']", *options]
    checked = ["-m", "scripts.run", "brats_finetune", "train", "quickstart", *options]
    variants: dict[str, Callable[[], Measured]] = {
        "training (ours)": partial(_begin, ROOT, plain),
        "training by scripts.run (ours)": partial(_begin, ROOT, checked),
    }
    if before != NONE:
        variants[f"training, at commit {before}"] = partial(_begin, extract(before), plain)
    return {"start": variants | {"import of MONAI": partial(run_process, ["-c", "import monai.bundle"])}}


def _begin(tree: Path, training: list[str]) -> Measured:
    """Start a training with the code of a tree, until it is ready for its first step."""
    bundle = tree / "bundles/brats_finetune"
    return run_process(training, bundle, {"PYTHONPATH": f"{bundle}{os.pathsep}{tree}"}, until="to do:")


def check_commit(before: str) -> None:
    """Check that a commit's code is at hand.

    Raises:
        InputError: it is not, and the word is not `none` either.
    """
    if before != NONE and _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{before}^{{commit}}") != 0:
        raise InputError(f"--before={before}: not found in {ROOT}; expected a commit of its history, or {NONE}")


def extract(commit: str) -> Path:
    """A temporary folder with the files of a commit; no worktree, of which Git would keep a record."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    tree, archive = Path(folder.name) / "tree", Path(folder.name) / "tree.tar"
    if _git("archive", f"--output={archive}", commit) != 0:
        raise InputError(f"--before={commit}: git archive fails; expected a commit that it can write")
    with tarfile.open(archive) as file:
        file.extractall(tree, filter="data")
    return tree


def _git(*words: str) -> int:
    """The exit status of a command of Git on this repository; 127 without Git."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode
    except FileNotFoundError:
        return 127


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
