"""Cohorts and trainings shared by tests, in `.pytest_cache/kept`; made again when their code changes.

Tests must not change them.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from scripts.cohorts import COHORTS
from tests.support import BUNDLES, COHORT_OF, ROOT, TINY, execute

KEPT = ROOT / ".pytest_cache" / "kept"
SIZES = {"ukb": (6, 3, 0), "atlas": (7, 3, 1)}  # subjects, validation, testing; (6, 2, 1) in other cohorts
COHORT_MAKERS = ("phantoms", "cohorts.py", "datalists", "layouts")
CODE = ("common", *(f"scripts/{name}" for name in COHORT_MAKERS), "requirements.lock")


def cohorts() -> Path:
    """Return the folder of all cohorts, such as brats, each with its datalist beside it, as brats.json."""
    return made("cohorts", (), _make_cohorts)


def trained(bundle: str) -> Path:
    """Return the folder of a bundle's training of one step: output, models/ and log.txt.

    The training starts from the weights of the previous stage's training.
    """
    return made(bundle, ("bundles", "tests/kept.py", "tests/support.py"), lambda folder: _train(bundle, folder))


def made(name: str, sources: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """Return a folder filled by `make`; call `make` only if `sources` or `CODE` have changed since the last call."""
    KEPT.mkdir(parents=True, exist_ok=True)
    folder, stamp, digest = KEPT / name, KEPT / f"{name}.digest", _digest((*CODE, *sources))
    with FileLock(KEPT / f"{name}.lock"):
        if not stamp.exists() or stamp.read_text() != digest:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            stamp.write_text(digest)
    return folder


def _digest(sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(ROOT)
            if file.suffix in (".py", ".yaml", ".json", ".lock") and not {"models", "eval"} & {*name.parts}:
                digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _make_cohorts(folder: Path) -> None:
    for name in COHORTS:
        subjects, validation, testing = SIZES.get(name, (6, 2, 1))
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
    stages = ("ukb_ssl_pretrain", f"{COHORT_OF[bundle]}_stage2", bundle)  # each starts from the previous weights
    if before := [stage for stage in stages[: stages.index(bundle)] if stage in BUNDLES]:
        options.append(f"--pretrained={trained(before[-1]) / 'models/model.pt'}")
    program = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml"]
    result = execute([*program, *options], ROOT / "bundles" / bundle)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "log.txt").write_text(result.stdout)
