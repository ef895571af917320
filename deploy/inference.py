"""Run a bundle's inference on one case.

The inference config runs in a separate process in the bundle's folder and imports that bundle's code. All pre- and
postprocessing stays in the bundle, so DICOM and NIfTI input give the same result.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from common.data.volumes import write_volume
from common.errors import InputError
from common.files import write_json
from deploy.bundle import Bundle
from scripts.cli import ending_of
from scripts.prepare.volumes import Volume, read_labels
from scripts.run import argument

CASE = "case"  # subject in the datalist; the patient's name is not used
FAILURE = f"failed: subject {CASE}: "  # the bundle prints the reason after this


def infer(bundle: Bundle, aligned: Mapping[str, Volume], work: Path, options: Sequence[str]) -> NDArray[Any]:
    """Run the bundle's inference on volumes that share a grid; return the label map on that grid.

    Temporary files go into the folder `work`, under names that do not identify the patient. If the command fails, raise
    an InputError with the reason, without the path of `work`, which may name the patient.
    """
    images = {modality: f"{CASE}_{modality}.nii.gz" for modality in bundle.modalities}
    for modality, name in images.items():
        write_volume(work / name, aligned[modality].array, aligned[modality].affine, compresslevel=1)
    entry = {"subject": CASE, "image": list(images.values())}
    datalist = {"name": CASE, "modalities": list(images), "label_convention": None, "testing": [entry]}
    write_json(work / "datalist.json", datalist)
    arguments = {
        "bundle_root": bundle.root,
        "dataset_dir": work,
        "datalist": work / "datalist.json",
        "split": "testing",
        "output_dir": work / "predictions",
        "label_convention": bundle.convention,
        "checkpoint": bundle.checkpoint,
    }
    words = [*(f"--{name}={value}" for name, value in arguments.items()), *options]
    command = [sys.executable, "-m", "monai.bundle", "run", f"--config_file={bundle.config}", *map(argument, words)]
    own = ("PYTHONPATH", "PYTHONSAFEPATH")  # the bundle has its own code, in its folder
    environment = {name: value for name, value in os.environ.items() if name not in own}
    result = subprocess.run(command, cwd=bundle.root, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no message"]
        causes = re.findall(rf"{FAILURE}.*|^[\w.]+Error: .*", result.stderr, re.MULTILINE)  # MONAI's last says little
        message = (causes or lines[-1:])[0].replace(f"{work}/", "")
        why = f": {message[:300]}" if result.returncode > 0 else ""
        raise InputError(f"the bundle's inference {ending_of(result.returncode)}{why}")
    return read_labels(work / f"predictions/{CASE}.nii.gz", aligned[bundle.modalities[0]].grid).array
