"""How the tests run a bundle: as a user does."""

import sys
from collections.abc import Callable

import pytest

from tests.support import ROOT, Result, execute


@pytest.fixture
def run_bundle(cohorts, tmp_path) -> Callable[..., Result]:
    """Runs a config of a bundle on its cohort, all that it writes below `tmp_path/BUNDLE`; returns the process."""

    def run(bundle: str, *options: str, config: str = "configs/train.yaml", processes: int | None = None) -> Result:
        cohort = bundle.split("_")[0]
        program = [sys.executable, "-m", "monai.bundle", "run"]
        if processes:
            config = "['configs/train.yaml','configs/multi_gpu_train.yaml']"
            launcher = ["torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=0", "--standalone"]
            program = [sys.executable, "-m", *launcher, "-m", "monai.bundle", "run"]
        data = [f"--dataset_dir={cohorts / cohort}", f"--datalist={cohorts / cohort}.json"]
        places = [f"--output_dir={tmp_path / bundle}"]
        if "train" in config:
            places.append(f"--ckpt_dir={tmp_path / bundle / 'models'}")
        place = ROOT / "bundles" / bundle
        return execute([*program, f"--config_file={config}", *data, *places, *options], place)

    return run
