"""Cohorts, models and the command of the application; all of it is skipped where its requirements are not installed."""

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
        content = {"state_dict": network.state_dict(), "metadata": {"modalities": modalities, "model_size": "micro"}}
        weights.write(content, folder / f"{layout}.pt")
        return folder / f"{layout}.pt"

    return make


@pytest.fixture
def application(models) -> Callable[..., Result]:
    """Runs `python -m deploy.app` with the bundle of a layout."""

    def run(layout: str, study: Path, output: Path, *options: str, module: str = "deploy.app") -> Result:
        bundle = [f"--bundle={ROOT / 'bundles' / f'{layout}_finetune'}", f"--checkpoint={models(layout)}"]
        places = [f"--input={study}"] + ([f"--output={output}"] if module == "deploy.app" else [])
        small = f"--bundle_options={' '.join(SMALL)}"
        return execute([sys.executable, "-m", module, *places, *bundle, small, *options])

    return run
