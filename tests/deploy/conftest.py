"""Cohorts, models and the command of the application; all of it is skipped where its requirements are not installed."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR

from common import weights
from common.networks import settings
from tests.bundles.conftest import ROOT, Result, execute

CHANNELS = {"brats": (["FLAIR", "T1ce", "T1", "T2"], 3), "atlas": (["T1"], 1)}
SMALL = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]  # options of the bundles' inference


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Callable[..., Path]:
    """Makes the folder of a cohort of one subject, in a layout, with its skull or without."""
    folder = tmp_path_factory.mktemp("cohorts")

    def make(layout: str, skull_stripped: bool | None = None) -> Path:
        place = folder / f"{layout}-{skull_stripped}"
        if not place.exists():
            options = [f"--layout={layout}", "--subjects=1", "--spacing=4", f"--output={place}", "--workers=1"]
            options += [] if skull_stripped is None else [f"--skull_stripped={skull_stripped}"]
            result = execute([sys.executable, "-m", "scripts.phantoms", "make", *options])
            assert result.returncode == 0, result.stderr
        return place

    return make


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Callable[[str], Path]:
    """Makes a checkpoint for a layout's bundle: a network as initialised, whose masks are noise, of every segment."""
    folder = tmp_path_factory.mktemp("models")

    def make(layout: str) -> Path:
        modalities, regions = CHANNELS[layout]
        size = settings("micro")
        torch.manual_seed(0)
        network = SwinUNETR(
            in_channels=len(modalities),
            out_channels=regions,
            depths=size.depths,
            num_heads=size.num_heads,
            feature_size=size.feature_size,
            window_size=size.window_size,
        )
        metadata = {
            "bundle": f"{layout}_finetune",
            "network": "SwinUNETR",
            "modalities": modalities,
            "label_convention": {"brats": "brats2021", "atlas": "atlas"}[layout],
            "model_size": "micro",
            "patch_size": [64, 64, 64],
        }
        weights.write({"network": network.state_dict(), "metadata": metadata}, folder / f"{layout}.pt")
        return folder / f"{layout}.pt"

    return make


@pytest.fixture(scope="session")
def packages(tmp_path_factory, models) -> Callable[[str], Path]:
    """Makes the package of a layout's bundle, as `python -m scripts.package` builds it, with weights."""
    folder = tmp_path_factory.mktemp("dist")

    def make(layout: str) -> Path:
        place = folder / f"{layout}_finetune"
        if not place.exists():
            weights_options = [f"--weights={models(layout)}", "--weights_url=none"]
            options = [place.name, f"--output={folder}", *weights_options, "--verify=false"]
            result = execute([sys.executable, "-m", "scripts.package", *options])
            assert result.returncode == 0, result.stderr
        return place

    return make


def documented(module: str, **values: str) -> list[str]:
    """The command of README.md and deploy/README.md that starts a module, with other values of its options."""
    texts = [(ROOT / file).read_text() for file in ("README.md", "deploy/README.md")]
    lines = [re.findall(rf"\.venv-deploy/bin/python (-m {re.escape(module)} [^`\n]+)", text) for text in texts]
    (options,) = {tuple(re.findall(r"--(\w+)=", line)) for (line,) in lines}  # one in each, and the same
    return [sys.executable, "-m", module, *(f"--{option}={values[option]}" for option in options)]


@pytest.fixture
def application(models, packages) -> Callable[..., Result]:
    """Runs README's command of the application, or another module's, with a layout's bundle or its package."""

    def run(
        layout: str, study: Path, output: Path, *options: str, module: str = "deploy.app", package: bool = False
    ) -> Result:
        bundle = packages(layout) if package else ROOT / "bundles" / f"{layout}_finetune"
        command = documented(module, input=str(study), bundle=str(bundle), output=str(output))
        checkpoint = [] if package else [f"--checkpoint={models(layout)}"]
        return execute([*command, *checkpoint, f"--bundle_options={' '.join(SMALL)}", *options])

    return run
