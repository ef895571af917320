"""The packages of all five bundles, verified; one is used as its documents say, by federated clients too."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR

from common import weights
from common.ssl import networks
from common.ssl.networks import SSLHead
from scripts.package.build import build
from tests.support import BUNDLES, MODALITIES, ROOT, bash_blocks, execute

pytestmark = pytest.mark.slow
OUTPUTS = {"brats_finetune": 3, "atlas_finetune": 1}
CONVENTIONS = {"brats_finetune": "brats2021", "atlas_finetune": "atlas"}
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
torch.save(difference, SITE + "/difference.pt")
"""


def checkpoint(bundle: str, file: Path) -> Path:
    """What a training at the smallest size would leave."""
    modalities = MODALITIES[bundle]
    torch.manual_seed(0)
    network = SSLHead(len(modalities), "micro")
    if bundle in OUTPUTS:
        network = SwinUNETR(len(modalities), OUTPUTS[bundle], **networks.settings("micro")._asdict())
    metadata = {
        "bundle": bundle,
        "network": type(network).__name__,
        "modalities": modalities,
        "model_size": "micro",
        "patch_size": [64, 64, 64],
        "label_convention": CONVENTIONS.get(bundle),
        "cohort": "embedded",
        "dataset": {"name": "made", "training": 12, "validation": 4},
    }
    weights.write({"network": network.state_dict(), "metadata": metadata}, file)
    return file


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("dist")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_package_verifies(bundle, dist, tmp_path, capfd):
    build(bundle, dist, weights=str(checkpoint(bundle, tmp_path / "model.pt")), weights_url="none")
    printed = capfd.readouterr().out
    steps = re.findall(r"^  (.+): \d+ s$", printed, re.MULTILINE)
    assert steps[-3:] == [
        "TorchScript, traced, gives what the network gives",
        "monai.bundle.load",
        "train, evaluate, infer and a federated round, a step each",
    ]
    assert ("verify_net_in_out" in steps) == (bundle in OUTPUTS)
    assert not list((dist / bundle).rglob("__pycache__")), "what is tried is a copy"


@pytest.fixture(scope="module")
def built(dist) -> Path:
    folder = dist / "unverified"
    file = checkpoint("atlas_finetune", dist / "atlas.pt")
    build("atlas_finetune", folder, weights=str(file), weights_url="none", verify=False)
    return folder / "atlas_finetune"


def test_readme_makes_a_package(tmp_path):
    """The README's lines, with a small network; the second verifies the zip by its files."""
    (block,) = [block for block in bash_blocks() if "scripts.package" in block]
    file = checkpoint("brats_finetune", tmp_path / "model.pt")
    for long, short in {
        "bundles/brats_finetune/models/model.pt": str(file),
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


def test_a_package_runs_from_its_own_folder(built, cohorts, tmp_path):
    """As a user who has unpacked it: MONAI's command, and TorchScript as docs/publishing.md exports it."""
    data = [f"--dataset_dir={cohorts / 'atlas'}", f"--datalist={cohorts / 'atlas.json'}"]
    options = ["--num_workers=0", f"--output_dir={tmp_path / 'predictions'}", *data]
    run = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml", *options]
    result = execute(run, built, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "predictions").glob("*.nii.gz"))
    (command,) = re.findall(r"^python -m monai.bundle ckpt_export.*?(?=^```)", documented(), re.DOTALL | re.MULTILINE)
    for long, short in {"[1,4,96,96,96]": "[1,1,64,64,64]", "models/model.ts": str(tmp_path / "model.ts")}.items():
        command = command.replace(long, short)
    result = execute(["bash", "-euc", command.replace("python", sys.executable)], built, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert torch.jit.load(tmp_path / "model.ts")(torch.ones(1, 1, 64, 64, 64)).shape == (1, 1, 64, 64, 64)


def documented() -> str:
    return (ROOT / "docs/publishing.md").read_text()


def test_a_federation_of_two_sites(built, cohorts, tmp_path):
    """The documents' own lines in two clients, from an empty folder; a server's mean of what they send."""
    loading, example = re.findall(r"^```python\n(.*?)^```$", documented(), re.DOTALL | re.MULTILINE)
    example = example.replace("500", "1")  # iteration
    options = '"num_workers": 0, "batch_size": 2, "warmup_iterations": 0, "global_batch_size": None,'
    example = example.replace('    "bundle_root"', f'    {options}\n    "bundle_root"')
    loading = "import os\nos.chdir(PACKAGE)\n" + loading.replace("brats_finetune", "atlas_finetune")
    program = FEDERATION.format(example=example + loading)
    started = []
    for site in ("north", "south"):
        place = tmp_path / site
        place.mkdir()
        (place / "empty").mkdir()
        data = [str(cohorts / "atlas"), str(cohorts / "atlas.json")]
        command = [sys.executable, "-c", program, str(built), *data, str(place)]
        started.append((place, execute(command, place / "empty", PYTHONPATH=str(built))))
    state = torch.load(built / "models/model.pt", weights_only=True)
    sent = []
    for place, result in started:
        assert result.returncode == 0, result.stderr
        assert not list((place / "empty").iterdir()), "only where its options say"
        sent.append(torch.load(place / "difference.pt", weights_only=True))
    mean = {name: tensor + sum(site[name] for site in sent) / len(sent) for name, tensor in state.items()}
    network = SwinUNETR(1, 1, **networks.settings("micro")._asdict())
    network.load_state_dict(mean)
    assert any(not torch.equal(tensor, state[name]) for name, tensor in mean.items())


def test_the_model_zoo_finds_the_bundle(built, tmp_path):
    """Where a pull request puts them: the package in models/, its test in ci/unit_tests/."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/atlas_finetune").symlink_to(built)
    (tmp_path / "ci/unit_tests").mkdir(parents=True)
    test = tmp_path / "ci/unit_tests/test_atlas_finetune.py"
    test.write_bytes((built / "tests/test_atlas_finetune.py").read_bytes())
    program = "import test_atlas_finetune as test; print(test.BUNDLE)"
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(test.parent), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(tmp_path / "models/atlas_finetune")
