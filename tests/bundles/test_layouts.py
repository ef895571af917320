"""Layouts as distributed are scanned to datalists that their bundles train on; a broken cohort is mended first."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.bundles.workflows import STEP, workflow
from tests.support import execute

pytestmark = pytest.mark.slow
LAYOUTS = {  # layout: options of the cohort, of its scanner and of the check, bundle and its options
    "brats": (
        ["--subjects=14", "--faults=truncated,affine,nan,missing,label,duplicate,4d,empty"],
        ["brats", "--validation=2", "--testing=1"],
        ["--fix=exclude"],
        ["brats_finetune", {}],
    ),
    "brats2023": (
        ["--subjects=4", "--second_visits=1"],
        ["brats", "--validation=1"],
        ["--accept=mask_copy"],  # the second visit has the first one's mask
        ["brats_finetune", {"label_convention": "brats2023"}],
    ),
    "atlas_sites": (
        ["--subjects=7", "--without_mask=2"],
        ["atlas", "--validation=2", "--unlabelled=training"],
        ["--accept=no_label"],
        ["atlas_stage2", {}],
    ),
}


def script(name, *arguments, status=0):
    result = execute([sys.executable, "-m", f"scripts.{name}", *arguments])
    assert result.returncode == status, result.stdout + result.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_scans_to_what_its_bundle_trains_on(tmp_path, layout):
    oddities, scanner, checking, (bundle, options) = LAYOUTS[layout]
    is_broken = "--fix=exclude" in checking
    cohort, datalist = f"{tmp_path}/cohort", f"{tmp_path}/cohort.json"
    script("phantoms", "make", f"--layout={layout}", f"--output={cohort}", "--spacing=4", "--workers=1", *oddities)
    script("datalists", *scanner, f"--root={cohort}", f"--output={datalist}")
    checking = [*checking, f"--fixed={tmp_path}/mended.json"] if is_broken else checking
    script("datalists", "check", f"--datalist={datalist}", f"--root={cohort}", *checking, status=int(is_broken))
    datalist = f"{tmp_path}/mended.json" if is_broken else datalist
    places = {"dataset_dir": cohort, "datalist": datalist}
    workflow(bundle, "train", tmp_path, tmp_path / "out", **places, **STEP, **options).run()
    metadata = torch.load(tmp_path / "out/models/model.pt", weights_only=True)["metadata"]
    assert metadata["preparation"] == json.loads(Path(datalist).read_text())["preparation"]
