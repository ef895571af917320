"""Each layout as distributed is scanned to a datalist that its bundle trains on; a broken one is mended first."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.support import ROOT, TINY, execute

pytestmark = pytest.mark.slow
LAYOUTS = {  # layout: options of the cohort, of its scanner and of the check, bundle and its options
    "ukb": (["--second_visits=2"], ["ukb", "--validation=2"], [], ["ukb_ssl_pretrain"]),
    "brats": (
        ["--faults=truncated,affine,nan,missing,label,duplicate,4d,empty"],
        ["brats", "--validation=2", "--testing=1"],
        ["--fix=exclude"],
        ["brats_finetune"],
    ),
    "brats2023": (
        ["--second_visits=1"],
        ["brats", "--validation=2"],
        ["--accept=mask_copy"],  # the second visit has the first one's mask
        ["brats_finetune", "--label_convention=brats2023"],
    ),
    "atlas_sites": (
        ["--without_mask=2"],
        ["atlas", "--validation=2", "--unlabelled=training"],
        ["--accept=no_label"],
        ["atlas_stage2"],
    ),
    "atlas": (["--without_mask=2"], ["atlas", "--validation=2"], [], ["atlas_finetune"]),
}


def script(name, *arguments, status=0):
    result = execute([sys.executable, "-m", f"scripts.{name}", *arguments])
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_scans_to_what_its_bundle_trains_on(tmp_path, layout):
    oddities, scanner, checking, (bundle, *options) = LAYOUTS[layout]
    is_broken = "--fix=exclude" in checking
    cohort, datalist = f"{tmp_path}/cohort", f"{tmp_path}/cohort.json"
    size = [f"--subjects={14 if is_broken else 7}", "--spacing=4", "--workers=1"]
    script("phantoms", "make", f"--layout={layout}", f"--output={cohort}", *size, *oddities)
    script("datalists", *scanner, f"--root={cohort}", f"--output={datalist}")
    checking = [*checking, f"--fixed={tmp_path}/mended.json"] if is_broken else checking
    script("datalists", "check", f"--datalist={datalist}", f"--root={cohort}", *checking, status=int(is_broken))
    datalist = f"{tmp_path}/mended.json" if is_broken else datalist

    places = [f"--dataset_dir={cohort}", f"--datalist={datalist}", f"--output_dir={tmp_path}/eval"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml"]
    command += [*TINY, *places, f"--ckpt_dir={tmp_path}/models", *options]
    result = execute(command, ROOT / "bundles" / bundle)
    assert result.returncode == 0, result.stderr
    metadata = torch.load(tmp_path / "models/model.pt", weights_only=True)["metadata"]
    assert metadata["preparation"] == json.loads(Path(datalist).read_text())["preparation"]
