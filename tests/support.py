"""Shared by test modules: the repository's root, tiny trainings, running programs, and refused input."""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

import scripts.run
from common.errors import InputError
from common.options import check_used
from scripts.cli import bound
from scripts.cohorts import COHORTS
from scripts.configs import read_config
from tests.programs import run_module

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
COHORT_OF = {bundle: bundle.partition("_")[0] for bundle in BUNDLES}  # the embedded cohort of a bundle's data
MODALITIES = {bundle: [*COHORTS[cohort].modalities] for bundle, cohort in COHORT_OF.items()}
SMALL = "--model_size=micro --patch_size=[32,32,64] --num_workers=0"  # options of any config
SHORT = "--batch_size=2 --global_batch_size=null --warmup_iterations=1 --iterations=1 --val_interval=1"  # of train.yaml
TINY = [*SMALL.split(), *SHORT.split()]  # a training of one step, which takes a second


def execute(arguments: list[str], place: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run a program to its end and capture its output as text; Python's modules find PyTorch imported already."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    if arguments[:2] == [sys.executable, "-m"] and "torch.distributed.run" not in arguments:
        return run_module(arguments[2:], place, variables)
    return subprocess.run(arguments, cwd=place, env=variables, capture_output=True, text=True, timeout=600, check=False)


def run_of(words: list[str]) -> tuple[list[str], dict]:
    """Return the files and options of a `scripts.run` command line, checked as in a run."""
    call = bound(scripts.run.run, words).arguments
    overlays, recipe = call.get("overlays", ()), call.get("recipe", "text")
    files = scripts.run.config_files(call["bundle"], call["config"], overlays, recipe)
    options = {name: scripts.run.typed(name, text) for name, text in call.get("options", {}).items()}
    check_used(read_config(files, options).get())
    return files, options


@contextmanager
def disk_of(most: int) -> Iterator[None]:
    """Context manager: limit the files that this process writes to `most` bytes, as on a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def bash_blocks(page: str = "README.md") -> list[str]:
    """Return a page's bash blocks, in order."""
    return [
        re.sub(r"^  ", "", block, flags=re.MULTILINE) if block.startswith("  ") else block
        for block in re.findall(r"^ *```bash\n(.*?)^ *```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    ]


def copy_of_the_repository(folder: Path) -> Path:
    """Copy the parts of the repository that commands of a page need, without results; return the copy's folder."""
    copy = folder / "repository"
    for part in ("bundles", "common", "deploy", "scripts"):
        shutil.copytree(ROOT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("models", "eval"))
    return copy


def tiny(command: str, train: bool = False) -> str:
    """Add options to a page's command that make its network small and, for a training, its length short."""
    return f"{command.rstrip()} {SMALL} {SHORT if train or ' train ' in command else ''}"


def run_command(command: str, place: Path, environment: Mapping[str, object]) -> str:
    """Run a page's block as a reader does; return the printed text. Lines of Python find PyTorch imported already."""
    texts = {name: str(value) for name, value in environment.items()}
    lines = [line for line in command.replace("\\\n", " ").splitlines() if line.strip()]
    calls = [["bash", "-euo", "pipefail", "-c", command]]
    if all(line.startswith("python -m ") for line in lines):
        split = [shlex.split(line, comments=True) for line in lines]
        calls = [[sys.executable, *(Template(word).safe_substitute(texts) for word in words[1:])] for words in split]
    printed = ""
    for words in calls:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        result = execute(words, place, **{"PATH": path} | texts)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        printed += result.stdout
    return printed


@contextmanager
def refused(what: object = ..., value: object = ..., text: object = "") -> Iterator[None]:
    """Context manager: assert that the block raises an `InputError` of one line with this culprit, value and text."""
    with pytest.raises(InputError) as error:
        yield
    assert "\n" not in str(error.value)
    assert str(text) in str(error.value)
    assert what is ... or error.value.what == str(what)
    assert value is ... or error.value.value is value or error.value.value == value


def oblique(spacing: tuple[float, float, float] = (1.5, 1.0, 3.0)) -> np.ndarray:
    """Return an affine rotated about two axes; `spacing` in mm."""
    turn = Rotation.from_euler("ZX", [20, -12], degrees=True).as_matrix()
    return from_matvec(turn @ np.diag(spacing), [-40.5, 17.25, 3.0])


def is_running(process: int | str) -> bool:
    """Whether a process exists and has not ended; a zombie has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], Any], explain: Callable[[], str] = str, seconds: float = 60) -> Any:
    """Wait for a condition, and return its value; fail with the text of `explain` after some seconds."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, explain()
        time.sleep(0.05)
    return value
