"""Fixtures: a tiny embedded cohort in each layout, and bundles that run on it with one thread per process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import kept
from tests.support import COHORT_OF, ROOT, Result, execute


@pytest.fixture(scope="session")
def cohorts() -> Path:
    """Folder of all cohorts; see `kept.cohorts`. Tests must not change it."""
    return kept.cohorts()


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Path]:
    """Function: bundle -> folder of its training of one step; see `kept.trained`. Tests must not change it."""
    return kept.trained


@pytest.fixture
def run_bundle(cohorts, tmp_path) -> Callable[..., Result]:
    """Function: run a config of a bundle on its cohort, with the output in `tmp_path/BUNDLE`."""

    def run(bundle: str, *options: str, config: str = "configs/train.yaml", processes: int = 0) -> Result:
        cohort, output = cohorts / COHORT_OF[bundle], tmp_path / bundle
        folders = [f"--dataset_dir={cohort}", f"--datalist={cohort}.json", f"--output_dir={output}"]
        if "train" in config:
            folders.append(f"--ckpt_dir={output / 'models'}")
        program = [sys.executable, "-m"]
        if processes:
            launcher = ["torch.distributed.run", "--standalone", "--master_port=0", f"--nproc_per_node={processes}"]
            program += [*launcher, "-m"]
            config = str([config, "configs/multi_gpu_train.yaml"])
        words = ["monai.bundle", "run", f"--config_file={config}", *folders, *options]
        return execute([*program, *words], ROOT / "bundles" / bundle)

    return run


@pytest.fixture
def without_initialisation(monkeypatch):
    """Networks keep uninitialised weights, for tests of shapes: PyTorch would draw 70 million random numbers."""
    for name in ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "uniform_", "normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


torch.set_num_threads(1)
