"""A tiny embedded cohort in each layout, bundles run on it; one thread a process, enough for such small networks."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests import kept, processes
from tests.support import COHORT_OF, ROOT, Result, execute


@pytest.fixture(scope="session")
def cohorts() -> Path:
    """A folder with ukb, brats and atlas, and the datalist of each beside it. No test changes it."""
    return kept.cohorts()


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Path]:
    """The folder of a bundle's training of one step, each stage from the one before. No test changes it."""
    return kept.trained


@pytest.fixture
def run_bundle(cohorts, tmp_path) -> Callable[..., Result]:
    """Run a config of a bundle on its cohort; what it writes is below `tmp_path/BUNDLE`."""

    def run(
        bundle: str,
        *options: str,
        config: str = "configs/train.yaml",
        processes: int | None = None,
        overlays: Sequence[str] = (),
    ) -> Result:
        cohort = COHORT_OF[bundle]
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
processes.reset_signals()
processes.end_programs_at_exit()
