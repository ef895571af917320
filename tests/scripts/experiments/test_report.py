"""The report of a study: from the command to the page and CSV."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from scripts.experiments.__main__ import experiments
from scripts.experiments.engine import inputs_of
from scripts.experiments.jobs import Places, jobs_of
from scripts.experiments.study import read
from tests.html_pages import Page, text_of
from tests.scripts.experiments.evaluated import evaluate, study_of

FRACTIONS, SUBSETS = [0.05, 0.4], [0, 1]
CURVES = {"iteration": [1, 2, 3], "loss": {"total": [3.0, 2.0, 1.0]}}
HELD_OUT = {"iteration": [2, 3], "metrics": {"total": [2.5, 1.5]}}


def content_of(note="A note"):
    """Few-shot runs by subset, a pretraining, and all kinds of tables and figures."""
    rows = {"BSF 5%": {"run": "bsf", "baseline": "SwinU 5%"}, "SwinU 5%": {"run": "swin_unetr"}}
    tables = [{"table": 2}, {"table": 9, "columns": "subset", "note": note, "rows": rows}]
    study = study_of({"bsf": {}, "swin_unetr": {}}, tables, "subset", SUBSETS)
    study["datalists"]["ukb"] = {"layout": "ukb"}
    study["runs"]["stage1"] = {"bundle": "ukb_ssl_pretrain", "datalist": "ukb", "for": {"size": ["tiny", "small"]}}
    tiny, small = ({"run": "stage1", "size": size} for size in ("tiny", "small"))
    study["figures"] = [{"figure": 4, "rows": {"BSF-T": tiny, "BSF-S": small}}]
    return study


def written(folder, content):
    """Options of `report` for a study."""
    path = folder / "few.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return {"study": str(path), "output": str(folder / "out")}


def pages(options):
    experiments("report", **options)
    folder = Path(options["output"]) / "report"
    return folder, (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of the report of a study whose runs but bsf/subset1 are done, and its page."""
    folder = tmp_path_factory.mktemp("study").resolve()
    roots = {layout: folder / layout for layout in ("ukb", "brats")}
    for root in roots.values():
        root.mkdir()
    options, output = written(folder, content_of()), folder / "out"
    jobs = jobs_of(read(options["study"])[1], Places(output, roots))
    for job in jobs.values():
        if job.name.startswith(("bsf/subset1", "stage1/small")):
            continue
        if job.name.endswith("/evaluation"):
            evaluate(job, {"a": [0.8, 0.7, 0.6], "b": [0.9, 0.8, 0.7 + 0.1 * ("bsf" in job.name)]})
            (job.results / "evaluation.html").touch()
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
            record = {"state": "done", "inputs": inputs_of(job)}
            (output / "jobs" / job.name / "record.json").write_text(json.dumps(record))
    return pages(options | {name: str(root) for name, root in roots.items()})


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
    assert (average["baseline"], average["common_cases"], average["p"]) == ("SwinU 5%", "2", "")
    assert (average["trainings"], average["baseline_trainings"]) == ("1", "2")
    assert float(average["gain"]) == pytest.approx((0 + 0.1 / 3) / 2)
    missing = rows["BSF 5%", "Repeat 2"]
    assert (missing["ours"], missing["reason"], missing["paper"]) == ("", "missing", "0.7912")
    assert rows["BSF 40%", "average"]["reason"] == "not in this study"


def test_the_graph_has_the_states_of_each_part_of_the_study(reported):
    graph = re.search(r'<section id="jobs">.*?</section>', reported[1], re.DOTALL)[0]
    boxes = re.findall(r"<text[^>]*>([^<]*)</text>", graph)
    of_part = dict(zip(boxes[::2], boxes[1::2], strict=True))
    expected = {"ukb": "1 done"} | dict.fromkeys(("folds", "swin_unetr", "swin_unetr/evaluation"), "2 done")
    assert of_part == expected | dict.fromkeys(("bsf", "bsf/evaluation", "stage1"), "1 done, 1 missing")


def test_runs_are_listed_with_their_settings_and_scores_best_first(reported):
    folder, page = reported
    rows = rows_of(folder / "tables" / "runs.csv")
    better, worse = (0.7 + (0.9 + 0.8 + 0.8) / 3) / 2, (0.7 + (0.9 + 0.8 + 0.7) / 3) / 2
    expected = [("bsf/subset0", "0", better), ("swin_unetr/subset0", "0", worse), ("swin_unetr/subset1", "1", worse)]
    assert [(row["run"], row["subset"], pytest.approx(float(row["dice"]))) for row in rows[:3]] == expected
    assert [(row["run"], row["dice"], row["reason"]) for row in rows[3:]] == [("bsf/subset1", "", "missing")]
    texts = text_of(page.partition('id="runs"')[2])
    assert texts.index("bsf/subset0") < texts.index("swin_unetr/subset0") < texts.index("bsf/subset1")


def test_the_page_loads_nothing_and_its_links_exist(reported):
    folder, page = reported
    tags = Page(page).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object")]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "default-src 'none'" in page
    links = [value for tag, attributes in tags if tag == "a" and (value := attributes.get("href"))]
    assert {"run.json", "evaluation.html"} <= {Path(link).name for link in links}
    assert all(link.startswith("#") or (folder / unquote(link)).exists() for link in links)


HOSTILE = "<script>alert(1)</script>|`x`"


def test_a_study_without_tables_does_not_explain_them(reported, tmp_path):
    _, page = pages(written(tmp_path, content_of() | {"tables": []}))
    assert "How to read the tables" not in page
    assert "How to read the tables" in reported[1]


def test_a_study_of_which_nothing_is_done_has_a_report_in_which_hostile_text_is_escaped(tmp_path):
    content = content_of(note=HOSTILE) | {"title": HOSTILE}
    content["tables"][1]["rows"][HOSTILE] = {"run": "bsf", "new": True}
    folder, page = pages(written(tmp_path, content))
    assert {row["ours"] for row in rows_of(folder / "tables" / "table-9.csv")} == {""}
    assert "No run of table-9 is done" in text_of(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
