"""Every command refuses bad options before it imports a slow package."""

import json
import os
import subprocess
import sys

import pytest

from scripts.__main__ import commands
from tests.support import ROOT

SLOW = {"SimpleITK", "ants", "ignite", "matplotlib", "monai", "nibabel", "nilearn", "pandas", "pydicom", "scipy"}
SLOW |= {"torch"}  # each takes 0.2 to 5 s of a core
DATA = "--datalist=own.json --dataset_dir=."
NONE = "--datalist=none.json --dataset_dir=."
FOLDS = f"brats_finetune {DATA} --output=out"
REFUSED = {  # command -> command lines with a misspelt option, a missing input or a wrong value; own.json is a datalist
    "datalists": ["generic --outptu=x", "generic --root=none --output=out.json", "check --datalist=none.json --root=."],
    "evaluate": ["--outptu=x", "--predictions=none --references=none --protocol=dice --output=out"],
    "experiments": ["plan --outptu=x", "plan none.yaml"],
    "folds": [
        f"{FOLDS} --outptu=x",
        f"{FOLDS} --batch_size=x",
        f"{FOLDS} --folds=0",
        f"brats_finetune {NONE} --output=out",
    ],
    "mine": [
        ". --outptu=x",
        "none --output=out",
        "scans --output=out --device=tpu",
        "scans --output=out --person=(",
    ],
    "nnunet": ["--outptu=x", f"{NONE} --output=out"],
    "options": ["brats_finetune --x=y", "bratz"],
    "package": [
        "brats_finetune --outptu=x",
        "bratz",
        "brats_finetune --weights=none.pt",
        "brats_finetune --verify=x",
        "verify none",
    ],
    "postprocessing": ["--outptu=x", "none --checkpoint=model.pt"],
    "prepare": [
        "--outptu=x",
        "--root=none --output=out --like=brats",
        "--root=scans --output=out --like=bratz",
        "--root=scans --output=out --like=brats --device=tpu",
        "--root=scans --output=out --like=brats --jobs=0",
        "back --prepared=none --predictions=none --output=out",
    ],
    "quickstart": ["--outptu=x"],
    "report": [". --x=y", "none"],
    "run": [
        "brats_finetune train --outptu=x",
        f"brats_finetune train {NONE}",
        f"brats_finetune train {DATA} --batch_size=x",
        f"brats_finetune train {DATA} --device=tpu",
    ],
    "segment": [
        "--outptu=x",
        "none --bundle=brats_finetune --output=out",
        "scans --bundle=bratz --output=out",
        "scans --bundle=brats_finetune --output=out --checkpoint=none.pt",
        "scans --bundle=brats_finetune --output=out --checkpoint=model.pt --device=tpu",
        "scans --bundle=brats_finetune --output=out --checkpoint=model.pt --missing=x",
    ],
    "store": [
        f"brats_finetune --store=out {DATA} --outptu=x",
        f"brats_finetune --store=out {NONE}",
        f"brats_finetune --store=out {DATA} --batch_size=x",
    ],
    "weights": ["inspect --outptu=x", "inspect none.pt", "convert none.pt --output=out.pt"],
}
RUN = f"""
import runpy, sys
from common.errors import InputError
_, name, *lines = sys.argv
for line in lines:
    sys.argv[1:] = line.split()
    try:
        runpy.run_module(name, run_name="__main__")
    except InputError:
        print(sorted({SLOW} & sys.modules.keys()))
"""


@pytest.mark.parametrize("name", sorted({*commands()} - {"benchmark", "phantoms"}))  # which say nothing without them
def test_refused_options_wait_for_no_slow_import(name, tmp_path):
    """One process refuses all command lines of a command."""
    entries = [{"subject": f"p{n}", "image": [f"p{n}_t1.nii"], "label": f"p{n}_seg.nii"} for n in range(6)]
    datalist = {"name": "own", "modalities": ["T1"], "label_convention": "brats2021", "training": entries}
    (tmp_path / "own.json").write_text(json.dumps(datalist))
    (tmp_path / "model.pt").touch()
    (tmp_path / "scans").mkdir()
    before = sorted(tmp_path.iterdir())
    lines = REFUSED[name]
    command = [sys.executable, "-c", RUN, f"scripts.{name}", *lines]
    ended = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ended.stdout.splitlines() == ["[]"] * len(lines), ended.stdout + ended.stderr
    assert sorted(tmp_path.iterdir()) == before
