"""Packages of the bundles: their own tests pass, and the documented commands work."""

import re
import sys
from pathlib import Path

import pytest

from scripts.package.build import build
from tests.bundles.workflows import untrained
from tests.support import bash_blocks, execute

pytestmark = pytest.mark.slow
CONVENTIONS = {"brats_finetune": "brats2021", "atlas_finetune": "atlas"}
DATASET = {"name": "made", "training": 12, "validation": 4}


def checkpoint(bundle: str, file: Path) -> str:
    """Write a checkpoint as a training of the smallest network would; return its path."""
    return untrained(bundle, file, label_convention=CONVENTIONS.get(bundle), made_up=True, dataset=DATASET)


@pytest.mark.parametrize("bundle", ["atlas_stage2", "brats_finetune"])  # configs agree otherwise
def test_the_package_verifies(bundle, tmp_path, capfd):
    build(bundle, tmp_path / "dist", weights=checkpoint(bundle, tmp_path / "model.pt"))
    assert re.search(r"^  Ran 5 tests in [\d.]+s$", capfd.readouterr().out, re.MULTILINE)
    assert not list((tmp_path / "dist" / bundle).rglob("__pycache__")), "tests run on a copy"


def test_the_page_makes_a_package_that_runs_from_its_own_folder(cohorts, tmp_path):
    """The commands of docs/how-to/publish.md with a small network, then MONAI's."""
    (block,) = [block for block in bash_blocks("docs/how-to/publish.md") if "scripts.package" in block]
    for long, short in {
        "bundles/brats_finetune/models/model.pt": checkpoint("brats_finetune", tmp_path / "model.pt"),
        '"$URL"': "https://example.org/model.pt --verify=false",
        "dist/": f"{tmp_path}/dist/",
        "--weights_url": f"--output={tmp_path}/dist --weights_url",
        ".zip": ".zip --run=false",
        "python": sys.executable,
    }.items():
        assert long in block
        block = block.replace(long, short)
    result = execute(["bash", "-euc", block])
    assert result.returncode == 0, result.stderr
    assert "its files are valid; nothing was run" in result.stdout

    built = tmp_path / "dist/brats_finetune"
    data = [f"--dataset_dir={cohorts / 'brats'}", f"--datalist={cohorts / 'brats.json'}"]
    options = ["--num_workers=0", f"--output_dir={tmp_path / 'predictions'}", *data]
    run = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml", *options]
    result = execute(run, built, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "predictions").glob("*.nii.gz"))
