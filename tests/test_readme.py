"""The commands of the how-tos on training, taken from the pages and run at a tiny size in a copy."""

import json
import shutil

import pytest

from scripts.phantoms.cohort import make
from tests.support import ROOT, bash_blocks, copy_of_the_repository, run_command, tiny

PAGES = [f"docs/how-to/{name}.md" for name in ("train-the-stages", "cross-validate", "score-and-compare")]
SMALLER = {  # replacements in the commands that write datalists
    "--validation=0.05": "--validation=3",
    "--validation=0.1 --testing=0.2": "--validation=4 --testing=2",  # two for each process of torchrun
    "--validation=0.1 --testing=100": "--validation=2 --testing=2",
}


def command(words: str) -> str:
    """Return the only code block of the how-tos that contains these words."""
    (block,) = [block for page in PAGES for block in bash_blocks(page) if words in block]
    return block.rstrip()


@pytest.mark.slow
def test_the_commands_run_in_their_order(cohorts, tmp_path):
    """Datalists, five trainings (each starts from the previous weights), torchrun, evaluation, inference, scores."""
    copy = copy_of_the_repository(tmp_path)
    shutil.copy(ROOT / ".gitignore", copy)
    brats, scans, theirs = (tmp_path / name for name in ("brats", "scans", "theirs"))
    make("brats", 8, str(brats), spacing=4, workers=1)
    environment = {"UKB": cohorts / "ukb", "BRATS": brats, "ATLAS": cohorts / "atlas", "SCANS": scans, "THEIRS": theirs}
    run_command("git init --quiet && git add --all", copy, {})
    lists = command('--root="$UKB"')
    for large, small in SMALLER.items():
        assert large in lists
        lists = lists.replace(large, small)
    run_command(lists, copy, environment)
    run_command(command("datalists check"), copy, environment)
    assert (copy / "check/findings.csv").is_file()

    for entry in json.loads((copy / "brats.json").read_text())["testing"]:  # without masks
        masks = shutil.ignore_patterns("*_seg.nii.gz")
        shutil.copytree(brats / entry["subject"], scans / entry["subject"], ignore=masks)
    printed = ""
    blocks = [block for block in bash_blocks(PAGES[0]) if "scripts.run" in block]
    assert len(blocks) == 8
    for block in blocks:
        again = " --ckpt_dir=bundles/brats_stage2/models/again" if "torchrun" in block else ""
        printed += run_command(tiny(block) + again, copy, environment)
    assert printed.count(" 0 missing, 0 unexpected") >= 2, "both stages 2 take over the whole network of stage 1"
    assert (copy / "bundles/brats_finetune/eval/evaluation/run.json").is_file()
    assert len([*(copy / "runs/predictions").glob("*.nii.gz")]) == 2

    folds = command("scripts.folds")
    assert "--folds=5" in folds
    printed = run_command(tiny(folds.replace("--folds=5", "--folds=2"), train=True), copy, environment)
    assert all(f"fold{fold}/models/model.pt" in printed for fold in (0, 1)), "the ensemble"
    shutil.copytree(copy / "bundles/brats_finetune/eval/evaluation/predictions", theirs)
    compared = run_command(command("scripts.evaluate compare"), copy, environment)
    assert "bundles/brats_finetune/eval/evaluation  scores/theirs  " in compared, (
        "the bundle's own files are an evaluation"
    )
    assert (copy / "scores/theirs/evaluation.html").is_file()
    assert (copy / "scores/comparison.csv").is_file()
    written = run_command("git ls-files --others --exclude-standard", copy, {})
    assert written == "", "git ignores what the commands write"
