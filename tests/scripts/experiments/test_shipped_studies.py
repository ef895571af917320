"""The studies of the paper: whether every command fits the bundle that it runs, and every row the paper's table."""

import re
from pathlib import Path

import pytest
import yaml

from common.options import TRAINING_DEFAULTS
from scripts.experiments.jobs import OWN, ROOT, Places, jobs_of
from scripts.experiments.rows import select
from scripts.experiments.study import STUDIES, check, paper, read

ROOTS = {layout: Path("/data") / layout for layout in ("ukb", "brats", "atlas", OWN)}
FILES = {name: Path("/files") / name for name in ("folds", "ct", "model_zoo")}
SHIPPED = sorted(path.stem for path in STUDIES.glob("*.yaml"))


def expanded(name, own=ROOTS[OWN]):
    content = read(name)[1]
    return content, jobs_of(content, Places(Path("/out"), {**ROOTS, OWN: own}, FILES))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_command_fits_the_bundle_that_it_runs(name, tmp_path):
    for entry in read(name)[1]["datalists"].values():
        (tmp_path / entry.get("data", "")).mkdir(exist_ok=True)
    _, jobs = expanded(name, tmp_path)
    assert not {job.absent for job in jobs.values()} - {""}
    for job in jobs.values():
        command = job.command
        if "config_file" not in command.options:
            continue
        options = dict(command.options)
        files = yaml.safe_load(options.pop("config_file").replace(",", ", "))
        config = {}
        for file in [files] if isinstance(files, str) else files:
            config |= yaml.safe_load((command.folder / file).read_text(encoding="utf-8"))
        assert command.folder.parent == ROOT / "bundles"
        defaults = TRAINING_DEFAULTS.keys() if "ckpt_dir" in config else set()
        assert options.keys() <= config.keys() | defaults, job.name


@pytest.mark.parametrize("name", SHIPPED)
def test_an_evaluation_measures_the_split_that_its_datalist_holds_out(name):
    content, jobs = expanded(name)
    for job in jobs.values():
        if not job.name.endswith("/evaluation"):
            continue
        chain = [content["datalists"][jobs[job.needs[1]].entry]]
        while "from" in chain[-1]:
            chain.append(content["datalists"][chain[-1]["from"]])
        held_out = "testing" in chain[-1].get("options", {}) or chain[0]["options"].get("fold_to") == "testing"
        assert held_out == ("--split=validation" not in job.command.words), job.name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_row_without_columns_is_one_run_and_one_with_columns_is_one_run_for_each(name):
    content, jobs = expanded(name)
    for table in content.get("tables", []):
        for row in table.get("rows", {}).values():
            columns = {job.values.get(table.get("columns")) for job in select(row, jobs)}
            assert len(select(row, jobs)) == len(columns)
            if "new" not in row and "labels" in paper()[table["table"]]:
                assert len(columns) == len(paper()[table["table"]]["labels"])


def test_the_tables_of_the_documentation_are_valid():
    block = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/reference/studies.md").read_text(encoding="utf-8"), re.DOTALL
    )[1]
    content = read("sizes")[1] | yaml.safe_load(block)
    content["runs"] = content["runs"] | {"mine": content["runs"]["scratch"]}
    check(content, "docs/reference/studies.md")
