"""docs/how-to/adapt-a-training.md: its overlays and commands, taken from the page."""

import re

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from tests.support import ROOT, SMALL, bash_blocks, copy_of_the_repository, run_command, run_of

PAGE = "docs/how-to/adapt-a-training.md"
OVERLAYS = re.findall(r"^```yaml\n(# (\S+\.yaml):.*?)^```$", (ROOT / PAGE).read_text(), re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for block in bash_blocks(PAGE) for line in block.replace("\\\n", " ").splitlines() if "scripts.run" in line
]
SHORTER = "--warmup_iterations=1 --iterations=2 --val_interval=1"


def write_overlays(folder):
    for text, name in OVERLAYS:
        (folder / name).write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_checks_of_a_run_accept_each_command(command, tmp_path, monkeypatch):
    write_overlays(tmp_path)
    words = [word.strip('"') for word in command.split()[3:]]
    monkeypatch.chdir(ROOT)
    run_of([f"{tmp_path}/{word}" if word.endswith(".yaml") else word for word in words])


@pytest.mark.slow
def test_the_commands_train_and_predict(cohorts, trained, tmp_path):
    copy = copy_of_the_repository(tmp_path)
    write_overlays(copy)
    environment = {"BRATS": cohorts / "brats", "SCANS": cohorts / "brats"}
    environment |= {"MODEL": trained("brats_finetune") / "models/model.pt"}
    environment |= {"STAGE": trained("brats_stage2") / "models/model.pt"}
    assert len(COMMANDS) == 8
    for command in COMMANDS:
        command = command.replace("--datalist=brats.json", f"--datalist={cohorts / 'brats'}.json")
        command = command.replace("bundles/brats_stage2/models/model.pt", "$STAGE").replace("=5000", "=1")
        folder = re.search(r"=(runs/\w+)", command)[1]
        if " train " in command:
            batch = "" if "--batch_size" in command else "--batch_size=2"
            command += f" {SMALL} --device=cpu {SHORTER} {batch} --output_dir={folder}"
        else:
            command += " --num_workers=0 --device=cpu"
        run_command(command, copy, environment)
        if " train " in command:
            assert (copy / folder / "model.pt").is_file()
    for file in (copy / "runs/largest").glob("*.nii.gz"):
        whole = np.asarray(nibabel.load(file).dataobj) > 0
        assert ndimage.label(whole, np.ones((3, 3, 3)))[1] <= 1
        assert nibabel.load(copy / f"runs/probabilities/probabilities/{file.name}").shape == (*whole.shape, 3)
