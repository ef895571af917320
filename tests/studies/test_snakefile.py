"""studies/Snakefile: each shipped study's commands fit their bundles, and a tiny study runs, with Snakemake."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support import ROOT, run_of

SNAKEMAKE = ROOT / ".venv-studies/bin/snakemake"
SHIPPED = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml") if path.stem != "paper")
SHORT = {"iterations": 2, "val_interval": 2, "warmup_iterations": 1, "num_workers": 0, "patch_size": [32, 32, 64]}
FIRST = {"bundle": "brats_finetune", "datalist": "brats"}
TINY = {
    "title": "Two trainings",
    "cohorts": {"brats": {"subjects": 6, "spacing": 4, "skull_stripped": True}},
    "settings": {"overlays": ["quickstart.yaml"], "options": SHORT},
    "datalists": {"brats": {"layout": "brats", "options": {"validation": 1, "testing": 2}}},
    "runs": {"first": FIRST, "second": FIRST | {"pretrained": "first", "evaluate": True}},
    "tables": [{"table": 8, "rows": {"Second": {"run": "second", "new": True}}}],
}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SNAKEMAKE.exists(), reason="make studies")]


def snakemake(*words, **config):
    """Run the Snakefile with these settings; return its output."""
    settings = [f"{name}={value}" for name, value in config.items()]
    command = [SNAKEMAKE, "--snakefile", "studies/Snakefile", "--cores", "2", *words, "--config", *settings]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize("study", SHIPPED)
def test_every_command_fits_the_bundle_that_it_runs(study, tmp_path):
    paths = {name: tmp_path / name for name in ("folds", "ct", "model_zoo", "ukb", "brats", "atlas", "dataset_dir")}
    for path in paths.values():
        path.touch()
    printed = snakemake("-n", "-p", study=study, output=tmp_path / "out", **paths)
    assert "left out" not in printed
    commands = re.findall(r"-m scripts\.run (.+)", printed)
    assert commands
    for command in {re.sub(r"\d+", "#", command): command for command in commands}.values():  # one of those alike
        run_of(shlex.split(command))


def test_a_study_is_trained_scored_and_tabulated_once(tmp_path):
    study, output = tmp_path / "tiny.yaml", tmp_path / "out"
    study.write_text(yaml.safe_dump(TINY, sort_keys=False))
    snakemake(study=study, output=output)
    record = json.loads((output / "runs/second/eval/run.json").read_text())
    assert record["weights"]["source"] == str(output / "runs/first/models/model.pt")
    scores = pd.read_csv(output / "runs/second/eval/evaluation/metrics.csv")
    dice = scores[scores["metric"] == "dice"].groupby("region")["value"].mean().mean()
    lines = pd.read_csv(output / "tables/table-8.csv").set_index(["row", "column"])
    assert lines.loc["Second", "average"]["ours"] == pytest.approx(dice)
    assert "Nothing to be done" in snakemake(study=study, output=output)

    started = (output / "runs/second/eval/run.json").stat().st_mtime_ns
    (output / "runs/first/trained").write_text("other weights")
    snakemake(study=study, output=output)
    assert len([*Path(output, "runs").glob("second-*")]) == 1, "the training from other weights is kept aside"
    assert (output / "runs/second/eval/run.json").stat().st_mtime_ns > started
