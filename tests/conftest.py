"""A tiny embedded cohort in each layout, bundles run on it; one thread a process, enough for such small networks."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.support import ROOT, Result, execute

COHORTS = {"ukb": (6, 3, 0), "brats": (6, 2, 1), "atlas": (7, 3, 1)}  # subjects, validation, testing


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Path:
    """A folder with ukb, brats and atlas, and the datalist of each beside it."""
    folder = tmp_path_factory.mktemp("cohorts")
    for name, (subjects, validation, testing) in COHORTS.items():
        size = [f"--subjects={subjects}", "--spacing=4", f"--output={folder / name}", "--workers=1"]
        split = [f"--root={folder / name}", f"--output={folder / name}.json"]
        split += [f"--validation={validation}", f"--testing={testing}"]
        for command in (["scripts.phantoms", "make", f"--layout={name}", *size], ["scripts.datalists", name, *split]):
            result = execute([sys.executable, "-m", *command])
            assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def run_bundle(cohorts, tmp_path) -> Callable[..., Result]:
    """Runs a config of a bundle on its cohort, all that it writes below `tmp_path/BUNDLE`; returns the process."""

    def run(
        bundle: str,
        *options: str,
        config: str = "configs/train.yaml",
        processes: int | None = None,
        overlays: Sequence[str] = (),
    ) -> Result:
        cohort = bundle.split("_")[0]
        program = [sys.executable, "-m", "monai.bundle", "run"]
        if processes:
            overlays = ["multi_gpu_train", *overlays]
            launcher = ["torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=0", "--standalone"]
            program = [sys.executable, "-m", *launcher, "-m", "monai.bundle", "run"]
        if overlays:
            config = str([config, *(f"configs/{overlay}.yaml" for overlay in overlays)])
        data = [f"--dataset_dir={cohorts / cohort}", f"--datalist={cohorts / cohort}.json"]
        places = [f"--output_dir={tmp_path / bundle}"]
        if "train" in config:
            places.append(f"--ckpt_dir={tmp_path / bundle / 'models'}")
        place = ROOT / "bundles" / bundle
        return execute([*program, f"--config_file={config}", *data, *places, *options], place)

    return run


torch.set_num_threads(1)
