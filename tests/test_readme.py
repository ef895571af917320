"""README.md's commands, taken from README.md and run at a tiny size in a copy of the repository."""

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.support import ROOT, bash_blocks, copy_of_the_repository, execute, run_command, tiny


def bundle_commands() -> list[str]:
    return [block for block in bash_blocks() if "monai.bundle run" in block]


def at_tiny_size(command: str) -> str:
    """The same command, with options that make it small."""
    elsewhere = " --ckpt_dir models/again" if "torchrun" in command else ""  # as models/ holds a run already
    return tiny(command) + elsewhere


def test_readme_runs_every_bundle():
    commands = "\n".join(bundle_commands())
    for bundle in (ROOT / "bundles").iterdir():
        assert f"cd bundles/{bundle.name}\n" in commands


def test_readme_names_only_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", "\n".join(bash_blocks())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_git_ignores_what_the_commands_write():
    reported = re.findall(r"scripts\.report (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    written = [f"{folder}/report.html" for folder in reported]
    for block in bash_blocks():
        folder = Path((re.findall(r"^cd (\S+)$", block, re.MULTILINE) or ["."])[0])
        names = [folder / name for name in re.findall(r"--output(?:_dir)?[= ]([\w./]+)", block)]
        written += [str(name if name.suffix else name / "file") for name in names]
    assert {"bundles/report.html", "ukb.json", "check/file", "scores/file"} <= set(written)
    assert "bundles/brats_finetune/predictions/file" in written
    ignored = execute(["git", "check-ignore", "--no-index", *written])
    assert ignored.stdout.splitlines() == written


@pytest.mark.slow
def test_the_stage_commands_run_in_their_order(tmp_path):
    """Datalists, five trainings (each from the weights of the one before), torchrun, evaluation, inference, scores."""
    copy = copy_of_the_repository(tmp_path)
    shutil.copy(ROOT / ".gitignore", copy)
    run_command("git init --quiet && git add --all", copy, {})
    environment: dict[str, str] = {}
    for name in ("ukb", "brats", "atlas"):
        environment[name.upper()] = str(tmp_path / name)
        make = f"python -m scripts.phantoms make --layout={name} --subjects=8 --spacing=4 --output={tmp_path / name}"
        run_command(f"{make} --workers=1", copy, environment)
    lists = next(block for block in bash_blocks() if "scripts.datalists" in block)
    for large, small in {
        "source .venv/bin/activate\n": "",
        "n=0.1 ": "n=4 ",
        "n=0.05": "n=4",
        "--testing=100": "--testing=2",
    }.items():
        lists = lists.replace(large, small)
    run_command(lists, copy, environment)

    check = next(block for block in bash_blocks() if "datalists check" in block)
    run_command(check, copy, environment)
    assert (copy / "check/findings.html").is_file()

    environment["SCANS"] = str(tmp_path / "scans")  # of the first two subjects of the testing split, without masks
    testing = [entry["subject"] for entry in json.loads((copy / "brats.json").read_text())["testing"]]
    for subject in testing[:2]:
        masks = shutil.ignore_patterns("*_seg.nii.gz")
        shutil.copytree(tmp_path / "brats" / subject, tmp_path / "scans" / subject, ignore=masks)
    printed = "".join(run_command(at_tiny_size(command), copy, environment) for command in bundle_commands())

    assert printed.count(" 0 missing, 0 unexpected") >= 2, "both stages 2 take over the whole network of stage 1"
    assert (copy / "bundles/brats_finetune/eval/evaluation/run.json").is_file()
    predictions = sorted((copy / "bundles/brats_finetune/predictions").glob("*.nii.gz"))
    assert len(predictions) == 2
    prediction = nibabel.load(predictions[0])
    subject = predictions[0].name.removesuffix(".nii.gz")
    image = nibabel.load(tmp_path / "brats" / subject / f"{subject}_t1.nii.gz")
    assert prediction.shape == image.shape
    np.testing.assert_allclose(prediction.affine, image.affine)
    assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 1, 2, 4}

    folds = next(block for block in bash_blocks() if "scripts.folds" in block)
    commands = run_command(f"{folds.rstrip()} --model_size micro --commands=true", copy, environment)
    assert commands.count("configs/train.yaml") == commands.count("configs/evaluate.yaml") == 5

    run_command(next(block for block in bash_blocks() if "scripts.export" in block), copy, environment)
    assert (copy / "brats.onnx").stat().st_size > 1e6

    environment["THEIRS"] = str(tmp_path / "theirs")
    shutil.copytree(copy / "bundles/brats_finetune/eval/evaluation/predictions", environment["THEIRS"])
    compared = run_command(next(block for block in bash_blocks() if "scripts.evaluate" in block), copy, environment)
    assert "evaluation against theirs" in compared, "the bundle's own files are an evaluation"
    assert (copy / "scores/theirs/evaluation.html").is_file()
    assert json.loads((copy / "scores/comparison.json").read_text())["cases"] == 2
    assert run_command("git ls-files --others --exclude-standard", copy, {}) == ""
