"""README.md's commands, taken from README.md and run at a tiny size in a copy of the repository."""

import json
import shutil

import nibabel
import numpy as np
import pytest

from scripts.phantoms.cohort import make
from tests.support import ROOT, bash_blocks, copy_of_the_repository, run_command, tiny

SMALLER = {  # in the commands that write datalists
    "source .venv/bin/activate\n": "",
    "--validation=0.05": "--validation=3",
    "--validation=0.1 --testing=0.2": "--validation=4 --testing=2",  # two for each process of torchrun
    "--validation=0.1 --testing=100": "--validation=2 --testing=2",
}


def blocks(words: str) -> list[str]:
    return [block for block in bash_blocks() if words in block]


@pytest.mark.slow
def test_the_commands_run_in_their_order(cohorts, tmp_path):
    """Datalists, five trainings (each from the weights of the one before), torchrun, evaluation, inference, scores."""
    copy = copy_of_the_repository(tmp_path)
    shutil.copy(ROOT / ".gitignore", copy)
    brats, scans, theirs = (tmp_path / name for name in ("brats", "scans", "theirs"))
    make("brats", 8, str(brats), spacing=4, workers=1)
    places = {"UKB": cohorts / "ukb", "BRATS": brats, "ATLAS": cohorts / "atlas", "SCANS": scans, "THEIRS": theirs}
    environment = {name: str(place) for name, place in places.items()}

    def run(words: str, options: str = "") -> str:
        (block,) = blocks(words)
        return run_command(f"{block.rstrip()}{options}", copy, environment)

    run_command("git init --quiet && git add --all", copy, {})
    (lists,) = blocks("scripts.datalists brats")
    for large, small in SMALLER.items():
        assert large in lists
        lists = lists.replace(large, small)
    run_command(lists, copy, environment)
    run("datalists check")
    assert (copy / "check/findings.html").is_file()

    for entry in json.loads((copy / "brats.json").read_text())["testing"]:  # without masks
        masks = shutil.ignore_patterns("*_seg.nii.gz")
        shutil.copytree(brats / entry["subject"], scans / entry["subject"], ignore=masks)
    printed = ""
    for command in blocks("monai.bundle run"):
        elsewhere = " --ckpt_dir models/again" if "torchrun" in command else ""  # as models/ holds a run already
        printed += run_command(tiny(command) + elsewhere, copy, environment)
    assert printed.count(" 0 missing, 0 unexpected") >= 2, "both stages 2 take over the whole network of stage 1"
    assert (copy / "bundles/brats_finetune/eval/evaluation/run.json").is_file()
    predictions = sorted((copy / "bundles/brats_finetune/predictions").glob("*.nii.gz"))
    assert len(predictions) == 2
    prediction = nibabel.load(predictions[0])
    subject = predictions[0].name.removesuffix(".nii.gz")
    image = nibabel.load(brats / subject / f"{subject}_t1.nii.gz")
    assert prediction.shape == image.shape
    np.testing.assert_allclose(prediction.affine, image.affine)
    assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 1, 2, 4}

    (folds,) = blocks("scripts.folds")
    assert "--folds=5" in folds
    printed = run_command(tiny(folds.replace("--folds=5", "--folds=2"), train=True), copy, environment)
    assert all(f"fold{fold}/models/model.pt" in printed for fold in (0, 1)), "the ensemble"
    run("scripts.export")
    assert (copy / "brats.onnx").stat().st_size > 1e6
    shutil.copytree(copy / "bundles/brats_finetune/eval/evaluation/predictions", theirs)
    compared = run("scripts.evaluate compare")
    assert "evaluation against theirs" in compared, "the bundle's own files are an evaluation"
    assert (copy / "scores/theirs/evaluation.html").is_file()
    assert (copy / "scores/comparison.csv").is_file()
    written = run_command("git ls-files --others --exclude-standard", copy, {})
    assert written == "", "git ignores what the commands write"
