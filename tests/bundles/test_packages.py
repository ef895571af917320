"""Packages of the bundles, verified; one is used as its documents say, by a federated client, too."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.package.build import build
from tests.bundles.workflows import REGIONS, untrained
from tests.support import ROOT, bash_blocks, execute

pytestmark = pytest.mark.slow
CONVENTIONS = {"brats_finetune": "brats2021", "atlas_finetune": "atlas"}
DATASET = {"name": "made", "training": 12, "validation": 4}
FEDERATION = """
import sys
import monai.bundle
import torch
PACKAGE, DATA, DATALIST, SITE = sys.argv[1:5]
ROUNDS = 2
global_weights = torch.load(PACKAGE + "/models/model.pt", weights_only=True)
{example}
assert difference.keys() == global_weights.keys()
assert all(tensor.isfinite().all() for tensor in difference.values()) and any(t.any() for t in difference.values())
assert 0 <= metrics["dice"] <= 1, metrics
"""


def checkpoint(bundle: str, file: Path) -> str:
    """What a training at the smallest size would leave."""
    return untrained(bundle, file, label_convention=CONVENTIONS.get(bundle), cohort="embedded", dataset=DATASET)


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("dist")


@pytest.mark.parametrize("bundle", ["atlas_stage2", "atlas_finetune", "brats_finetune"])  # configs agree otherwise
def test_the_package_verifies(bundle, dist, tmp_path, capfd):
    build(bundle, dist, weights=checkpoint(bundle, tmp_path / "model.pt"), weights_url="none")
    steps = re.findall(r"^  (.+): \d+ s$", capfd.readouterr().out, re.MULTILINE)
    assert steps[-3:] == [
        "TorchScript, traced, gives what the network gives",
        "monai.bundle.load",
        "train, evaluate, infer and a federated round, a step each",
    ]
    assert ("verify_net_in_out" in steps) == (bundle in REGIONS)
    assert not list((dist / bundle).rglob("__pycache__")), "what is tried is a copy"


@pytest.fixture(scope="module")
def built(dist) -> Path:
    weights = checkpoint("atlas_finetune", dist / "atlas.pt")
    build("atlas_finetune", dist / "unverified", weights=weights, weights_url="none", verify=False)
    return dist / "unverified/atlas_finetune"


def test_readme_makes_a_package(tmp_path):
    """The README's lines, with a small network; the second verifies the zip by its files."""
    (block,) = [block for block in bash_blocks() if "scripts.package" in block]
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


def documented() -> str:
    return (ROOT / "docs/publishing.md").read_text()


def test_a_package_runs_from_its_own_folder(built, cohorts, tmp_path):
    """As a user who has unpacked it: MONAI's command, and TorchScript as docs/publishing.md exports it."""
    data = [f"--dataset_dir={cohorts / 'atlas'}", f"--datalist={cohorts / 'atlas.json'}"]
    options = ["--num_workers=0", f"--output_dir={tmp_path / 'predictions'}", *data]
    run = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml", *options]
    result = execute(run, built, cold=True, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "predictions").glob("*.nii.gz"))
    (command,) = re.findall(r"^python -m monai.bundle ckpt_export.*?(?=^```)", documented(), re.DOTALL | re.MULTILINE)
    for long, short in {"[1,4,96,96,96]": "[1,1,32,32,64]", "models/model.ts": str(tmp_path / "model.ts")}.items():
        assert long in command
        command = command.replace(long, short)
    result = execute(["bash", "-euc", command.replace("python", sys.executable)], built, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert torch.jit.load(tmp_path / "model.ts")(torch.ones(1, 1, 32, 32, 64)).shape == (1, 1, 32, 32, 64)


def test_a_client_of_a_federation(built, cohorts, tmp_path):
    """The documents' own lines, run from an empty folder, which stays empty."""
    loading, example = re.findall(r"^```python\n(.*?)^```$", documented(), re.DOTALL | re.MULTILINE)
    example = example.replace("500", "1")  # iteration
    options = '"num_workers": 0, "batch_size": 2, "warmup_iterations": 0, "global_batch_size": None,'
    example = example.replace('    "bundle_root"', f'    {options}\n    "bundle_root"')
    loading = "import os\nos.chdir(PACKAGE)\n" + loading.replace("brats_finetune", "atlas_finetune")
    (tmp_path / "empty").mkdir()
    words = [str(place) for place in (built, cohorts / "atlas", cohorts / "atlas.json", tmp_path)]
    command = [sys.executable, "-c", FEDERATION.format(example=example + loading), *words]
    result = execute(command, tmp_path / "empty", PYTHONPATH=str(built))
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "empty").iterdir()), "only where its options say"


def test_the_model_zoo_finds_the_bundle(built, tmp_path):
    """Where a pull request puts them: the package in models/, its test in ci/unit_tests/."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/atlas_finetune").symlink_to(built)
    test = tmp_path / "ci/unit_tests/test_atlas_finetune.py"
    test.parent.mkdir(parents=True)
    test.write_bytes((built / "tests/test_atlas_finetune.py").read_bytes())
    command = [sys.executable, "-c", "import test_atlas_finetune as test; print(test.BUNDLE)"]
    environment = {"PYTHONPATH": str(test.parent), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(tmp_path / "models/atlas_finetune")
