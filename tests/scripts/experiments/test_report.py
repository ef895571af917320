"""The report of a study: from the command to the page, Markdown and CSV."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from common.errors import InputError
from scripts.experiments.__main__ import report
from scripts.experiments.instances import Places
from scripts.experiments.jobs import jobs_of
from scripts.experiments.status import begin, remember
from scripts.experiments.study import read
from tests.html_pages import Page, text_of
from tests.scripts.experiments.evaluated import evaluate, study_of
from tests.support import one_line

FRACTIONS, SUBSETS = [0.05, 0.4], [0, 1]
CURVES = {"iteration": [1, 2, 3], "loss": {"total": [3.0, 2.0, 1.0]}}
HELD_OUT = {"iteration": [2, 3], "metrics": {"total": [2.5, 1.5]}}


def content_of(note="A note"):
    """Few-shot runs by subset, a pretraining, and all kinds of tables and figures."""
    rows = {"BSF 5%": {"run": "bsf", "baseline": "SwinU 5%"}, "SwinU 5%": {"run": "swin_unetr"}}
    tables = [{"table": 2}, {"table": 9, "columns": "subset", "note": note, "rows": rows}, {"table": 7}]
    study = study_of({"bsf": {}, "swin_unetr": {}}, tables, "subset", SUBSETS)
    study["datalists"]["ukb"] = {"layout": "ukb"}
    study["runs"]["stage1"] = {"bundle": "ukb_ssl_pretrain", "datalist": "ukb", "for": {"size": ["tiny", "small"]}}
    tiny, small = ({"run": "stage1", "size": size} for size in ("tiny", "small"))
    study["figures"] = [{"figure": 4, "rows": {"BSF-T": tiny, "BSF-S": small}}]
    return study


def made_study(folder):
    """Options of `report` for a study whose runs but bsf/subset1 are done."""
    roots = {layout: folder / layout for layout in ("ukb", "brats")}
    for root in roots.values():
        root.mkdir()
    path, output = folder / "few.yaml", folder / "out"
    path.write_text(yaml.safe_dump(content_of(), sort_keys=False))
    jobs = jobs_of(read(str(path))[1], Places(output.resolve(), {name: root.resolve() for name, root in roots.items()}))
    for job in jobs.values():
        if job.name.startswith(("bsf/subset1", "stage1/small")):
            continue
        if job.name.endswith("/evaluation"):
            evaluate(job, {"a": [0.8, 0.7, 0.6], "b": [0.9, 0.8, 0.7 + 0.1 * ("bsf" in job.name)]})
        else:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            job.target.write_text("made")
        if job.name.count("/") == 1 and job.results.is_dir():
            record = {"bundle": "a", "workflow": "train", "train": CURVES, "validation": HELD_OUT}
            (job.results / "eval").mkdir(parents=True, exist_ok=True)
            (job.results / "eval" / "run.json").write_text(json.dumps(record))
    for job in jobs.values():
        if job.target.exists():
            (output / "jobs" / job.name).mkdir(parents=True, exist_ok=True)
            begin(job, output.resolve())
            remember(job, output.resolve())
    return {"study": str(path), "output": str(output), **{name: str(root) for name, root in roots.items()}}


@pytest.fixture
def study(tmp_path):
    return made_study(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of the report, and its page."""
    return pages(made_study(tmp_path_factory.mktemp("study")))


def pages(study):
    report(**study)
    folder = Path(study["output"]) / "report"
    return folder, (folder / "report.html").read_text(encoding="utf-8")


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as content:
        return list(csv.DictReader(content))


def test_csv_has_the_figures_and_why_some_lack(reported):
    folder, _ = reported
    rows = {(row["row"], row["column"]): row for row in rows_of(folder / "tables" / "table-9.csv")}
    average = rows["BSF 5%", "average"]
    assert float(average["paper"]) == 0.7870
    assert float(average["ours"]) == pytest.approx((0.7 + (0.9 + 0.8 + 0.8) / 3) / 2)
    assert (average["runs_done"], average["runs_planned"], average["stale"]) == ("1", "2", "0")
    assert (average["baseline"], average["common_cases"], average["p"]) == ("SwinU 5%", "2", "1.0")
    assert float(average["gain"]) == pytest.approx((0 + 0.1 / 3) / 2)
    missing = rows["BSF 5%", "Repeat 2"]
    assert (missing["ours"], missing["reason"], missing["paper"]) == ("", "missing", "0.7912")
    assert rows["BSF 40%", "average"]["reason"] == "not in this study"


def test_parameters_are_those_of_the_paper(reported):
    found = [row for row in rows_of(reported[0] / "tables" / "table-2.csv") if row["setting"] == "parameters"]
    assert [(row["paper"], row["ours"]) for row in found] == [
        (count, count) for count in ("19097191", "20982103", "26636839")
    ]


def test_markdown_has_one_line_for_each_row(reported):
    lines = (reported[0] / "tables" / "table-9.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Table 9: Few-shot learning on BraTS"
    table = [line for line in lines if line.startswith("| ")]
    assert {line.count(" | ") for line in table[:9]} == {11}
    assert any("SwinU 5%" in line and "2 of 2" in line for line in table)


def test_the_page_loads_nothing_and_its_links_exist(reported):
    folder, page = reported
    tags = Page(page).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object")]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "default-src 'none'" in page
    links = [value for tag, attributes in tags if tag == "a" and (value := attributes.get("href"))]
    assert any(link.endswith("run.json") for link in links)
    assert any(link.endswith("summary.json") for link in links)
    assert all(link.startswith("#") or (folder / unquote(link)).exists() for link in links)
    assert {f"#{attributes['id']}" for tag, attributes in tags if tag == "section"} == {
        link for link in links if link[0] == "#"
    }


def test_the_page_says_what_a_reader_needs(reported):
    _, page = reported
    text = text_of(page)
    for part in ("A note", "stage1/small has no record", "bootstrap", "Not given: a table of the participants"):
        assert part in text
    assert page.count("<svg") == 3  # training and validation losses, few-shot bars
    assert "The repeats of SwinU 40% average 0.8940" in text


def test_changed_results_are_shown_and_marked(study):
    Path(study["output"], "datalists", "folds-subset0.json").write_text("other")
    folder, page = pages(study)
    row = next(row for row in rows_of(folder / "tables" / "table-9.csv") if row["column"] == "Repeat 1")
    assert row["stale"] == "1"
    assert row["reason"].startswith("stale: ")
    assert row["ours"]
    assert 'class="tag">stale' in page


def test_a_study_of_which_nothing_is_done_has_a_report(tmp_path, study):
    study["output"] = str(tmp_path / "other")
    folder, page = pages(study)
    assert {row["ours"] for row in rows_of(folder / "tables" / "table-9.csv")} == {""}
    assert "No run of table-9 is done" in text_of(page)


HOSTILE = "<script>alert(1)</script>|`x`"


def test_hostile_text_is_escaped(study):
    content = content_of(note=HOSTILE) | {"title": HOSTILE}
    content["tables"][1]["rows"][HOSTILE] = {"run": "bsf", "new": True}
    Path(study["study"]).write_text(yaml.safe_dump(content, sort_keys=False))
    folder, page = pages(study)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    table = (folder / "tables" / "table-9.md").read_text(encoding="utf-8")
    assert not [line for line in table.splitlines() if "<script" in line]


TABLE_9 = {"table": 9, "rows": {"BSF 5%": {"run": "bsf"}}}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tables", [{"table": 3}], "tables.0.table: 3 is not one of"),
        ("tables", [{"table": 9}], "tables.0: 'rows' is a required property"),
        ("tables", [TABLE_9 | {"script": "x"}], "tables.0: Additional properties"),
        ("tables", [{"table": 9, "rows": {"\n": {"run": "bsf"}}}], r"'\n': expected one of"),
        ("tables", [{"table": 9, "rows": {"BSF 5%": {"run": "stage1"}}}], "run=stage1: expected a run with evaluate"),
        ("tables", [{"table": 9, "rows": {"BSF 5%": {"run": "bsf", "fold": 1}}}], "fold=1: expected one of the axes"),
        ("tables", [{"table": 9, "rows": {"BSF 5%": {"run": "bsf", "subset": 7}}}], "subset=7: expected 0, 1"),
        ("tables", [TABLE_9 | {"columns": "fold"}], "columns=fold: expected an axis of bsf"),
        ("tables", [TABLE_9 | {"baseline": "SwinU 5%"}], "baseline='SwinU 5%': expected a row of this table"),
        ("figures", [{"figure": 1, "rows": {"a": {"run": "stage1"}}}], "figures.0.figure: 4 was expected"),
        ("figures", [{"figure": 4, "rows": {"a": {"run": "none"}}}], "run=none: expected a run of a bundle"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_in_one_line(study, key, value, message):
    Path(study["study"]).write_text(yaml.safe_dump(content_of() | {key: value}, sort_keys=False))
    with pytest.raises(InputError) as refused:
        report(**study)
    assert message in one_line(refused)
