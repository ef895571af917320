"""Cohorts and trainings that tests share: made once, kept for later runs until the code that makes them changes.

They are in `.pytest_cache/kept`; no test changes them.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from common.data.cohorts import COHORTS
from tests.support import BUNDLES, COHORT_OF, ROOT, TINY, execute

KEPT = ROOT / ".pytest_cache" / "kept"
SIZES = {"ukb": (6, 3, 0), "brats": (6, 2, 1), "atlas": (7, 3, 1)}  # subjects, validation, testing; brats's by default
CODE = ("common", "scripts/phantoms", "scripts/datalists", "requirements.lock")  # that makes cohorts


def cohorts() -> Path:
    """A folder with each cohort, and its datalist beside it."""
    return made("cohorts", (), _make_cohorts)


def trained(bundle: str) -> Path:
    """The folder of a training of one step, from the training of the stage before: output, models/, and its log."""
    return made(bundle, ("bundles", "tests/kept.py", "tests/support.py"), lambda folder: _train(bundle, folder))


def made(name: str, sources: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills, unless a process has filled it by the same `sources` and code of cohorts."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(KEPT / f"{name}.lock"):
        digest = _digest((*CODE, *sources))
        folder, done = KEPT / name / digest, KEPT / name / f"{digest}.done"
        if not done.exists():
            for old in sorted((KEPT / name).glob("*.done"), key=lambda file: file.stat().st_mtime)[:-1]:
                shutil.rmtree(old.with_suffix(""))  # but not the last one, which another worker may be using
                old.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            done.touch()
    return folder


def _digest(sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        place = ROOT / source
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            within = file.relative_to(ROOT)
            if file.suffix in (".py", ".yaml", ".json", ".lock") and not {"models", "eval"} & {*within.parts}:
                digest.update(f"{within}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _make_cohorts(folder: Path) -> None:
    for name in COHORTS:
        subjects, validation, testing = SIZES.get(name, SIZES["brats"])
        size = [f"--subjects={subjects}", "--spacing=4", f"--output={folder / name}", "--workers=1"]
        split = [f"--root={folder / name}", f"--output={folder / name}.json"]
        split += [f"--validation={validation}", f"--testing={testing}"]
        for command in (["scripts.phantoms", "make", f"--layout={name}", *size], ["scripts.datalists", name, *split]):
            result = execute([sys.executable, "-m", *command])
            assert result.returncode == 0, result.stderr


def _train(bundle: str, folder: Path) -> None:
    cohort = cohorts() / COHORT_OF[bundle]
    options = [f"--dataset_dir={cohort}", f"--datalist={cohort}.json", f"--output_dir={folder}"]
    options += [f"--ckpt_dir={folder / 'models'}", "--save_interval=1", *TINY]
    stages = ("ukb_ssl_pretrain", f"{COHORT_OF[bundle]}_stage2", bundle)  # each starts from the one before
    if before := [stage for stage in stages[: stages.index(bundle)] if stage in BUNDLES]:
        options.append(f"--pretrained={trained(before[-1]) / 'models/model.pt'}")
    program = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml"]
    result = execute([*program, *options], ROOT / "bundles" / bundle)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "log.txt").write_text(result.stdout)
