"""The studies of the paper: how many jobs they have, and whether every command fits the bundle that it runs."""

import re
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml

from scripts.experiments.instances import ROOT, Places
from scripts.experiments.jobs import jobs_of
from scripts.experiments.mapping import check_mapping, paper
from scripts.experiments.rows import select
from scripts.experiments.schema import SCHEMA
from scripts.experiments.study import STUDIES, read

ROOTS = {layout: Path("/data") / layout for layout in ("ukb", "brats", "atlas")}
FILES = {name: Path("/files") / name for name in ("folds", "ct", "model_zoo")}
# Jobs of each entry; those that are evaluated have as many evaluations
COUNTS = {
    "sizes": {"ukb": 1, "folds": 5, "stage1": 3, "stage2": 15, "two_stage": 15, "one_stage": 15, "scratch": 15},
    "few_shot": {
        **{"ukb": 1, "fixed": 1, "few": 4 * 5, "redrawn": 5, "nested": 4 * 5},
        **{"stage1": 1, "stage2": 1, "stage2_redrawn": 5},
        **dict.fromkeys(("bsf", "swin_unetr", "bsf_nested", "swin_unetr_nested"), 4 * 5),
    },
    "modality": {
        **{"ukb": 1, "folds": 5, "stage1": 1, "stage1_t1": 1},
        **dict.fromkeys(("stage2_t1", "bsf_t1", "scratch_t1", "stage2_t1_t2", "bsf_t1_t2"), 5),
    },
    "atlas": {"ukb": 1, "atlas": 1, "stage1": 1, "stage2": 1, "bsf": 1, "scratch": 1},
    "baselines": {
        **{"ukb": 1, "folds": 5, "stage1": 1, "ct": 1},
        **dict.fromkeys(("stage2", "two_stage", "one_stage", "scratch", "target_ssl", "swin_unetr_res"), 5),
        **dict.fromkeys(("swin_unetr_ct", "nnunet", "segresnet", "transbts", "model_zoo"), 5),
    },
}
SHIPPED = sorted(path.stem for path in STUDIES.glob("*.yaml"))


def expanded(name):
    content = read(name)[1]
    return content, jobs_of(content, Places(Path("/out"), ROOTS, FILES))


@pytest.mark.parametrize("name", COUNTS)
def test_a_study_has_the_jobs_of_the_paper(name):
    content, jobs = expanded(name)
    runs = {job: found for job, found in jobs.items() if not job.endswith("/evaluation")}
    assert Counter(job.entry for job in runs.values()) == COUNTS[name]
    evaluated = {entry for entry, run in content["runs"].items() if run.get("evaluate")}
    assert Counter(job.entry for job_name, job in jobs.items() if job_name not in runs) == {
        entry: COUNTS[name][entry] for entry in evaluated
    }
    assert not {job.absent for job in jobs.values()} - {""}


def test_sizes_and_baselines_share_their_jobs_in_one_folder():
    sizes, baselines = (expanded(name)[1] for name in ("sizes", "baselines"))
    shared = sizes.keys() & baselines.keys()
    assert {"stage1/small", "two_stage/fold0-small", "scratch/fold4-tiny/evaluation"} <= shared
    assert all(sizes[name].commands == baselines[name].commands for name in shared)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_command_fits_the_bundle_that_it_runs(name):
    _, jobs = expanded(name)
    for job in jobs.values():
        for command in job.commands:
            if "monai.bundle" not in command.words:
                continue
            options = dict(word.removeprefix("--").split("=", 1) for word in command.words if word.startswith("--"))
            files = yaml.safe_load(options.pop("config_file").replace(",", ", "))
            config = {}
            for file in [files] if isinstance(files, str) else files:
                config |= yaml.safe_load((command.folder / file).read_text(encoding="utf-8"))
            assert command.folder.parent == ROOT / "bundles"
            assert options.keys() <= config.keys(), job.name


@pytest.mark.parametrize("name", SHIPPED)
def test_an_evaluation_measures_the_split_that_its_datalist_holds_out(name):
    content, jobs = expanded(name)
    for job in jobs.values():
        if not job.name.endswith("/evaluation"):
            continue
        datalist = content["datalists"][jobs[job.needs[1]].entry]
        while "from" in datalist:
            datalist = content["datalists"][datalist["from"]]
        tested = "--split=validation" not in job.commands[0].words
        assert tested == ("testing" in datalist["options"]), job.name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_row_without_columns_is_one_run_and_one_with_columns_is_one_run_for_each(name):
    content, jobs = expanded(name)
    for table in content.get("tables", []):
        for row in table.get("rows", {}).values():
            columns = {job.values.get(table.get("columns")) for job in select(row, jobs)}
            assert len(select(row, jobs)) == len(columns)
            if "new" not in row:
                assert len(columns) == len(paper()[table["table"]].get("labels", ["one"]))


def test_a_study_without_the_folds_says_so():
    jobs = jobs_of(read("sizes")[1], Places(Path("/out"), ROOTS))
    assert jobs["folds/fold0"].absent == "expected --files with folds"
    assert jobs["two_stage/fold0-small"].absent == "expected --files with folds"


def test_the_tables_of_the_documentation_are_valid():
    block = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "reports.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    content = read("sizes")[1] | yaml.safe_load(block)
    content["runs"] = content["runs"] | {"mine": content["runs"]["scratch"]}
    jsonschema.validate(content, SCHEMA)
    check_mapping(content, Path("docs/reports.md"))
