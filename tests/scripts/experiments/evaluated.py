"""A study with evaluations whose scores a test chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.metrics import Scores, protocol
from scripts.experiments.engine import State
from scripts.experiments.jobs import Places, StudyJob, jobs_of
from tests.scripts.evaluate.evaluations import write_evaluation

ROOTS = {layout: Path("/data") / layout for layout in ("ukb", "brats", "atlas")}
REGIONS = ("WT", "TC", "ET")
FOLDS = [0, 1, 2, 3, 4]


def study_of(runs: Mapping, tables: Sequence[Mapping], axis: str = "fold", values: Sequence = FOLDS) -> dict:
    """A study of fine-tunings on one datalist for each value of an axis."""
    run = {"bundle": "brats_finetune", "datalist": "folds", "evaluate": True}
    return {
        "title": "A study",
        "datalists": {"folds": {"layout": "brats", "for": {axis: list(values)}, "options": {"seed": f"{{{axis}}}"}}},
        "runs": {name: run | dict(entry) for name, entry in runs.items()},
        "tables": list(tables),
    }


def expand(study: Mapping, output: Path) -> dict[str, StudyJob]:
    return jobs_of(study, Places(output, ROOTS))


def evaluate(job: StudyJob, dice: Mapping[str, Sequence[float]], kind: str = "brats") -> None:
    """Write the evaluation of a job: Dice of each case in each region; other metrics are zero."""
    measured = protocol(kind)
    regions = REGIONS if kind == "brats" else ("lesion",)
    zeros = dict.fromkeys(measured.units, 0.0)
    scores = {
        case: {
            region: Scores(zeros | {"dice": value}, volumes=(1.0, 1.0))
            for region, value in zip(regions, of_case, strict=True)
        }
        for case, of_case in dice.items()
    }
    write_evaluation(job.results, scores, measured)


def states(jobs: Mapping[str, StudyJob], **others: State) -> dict[str, State]:
    """All jobs are done except `others`, named as the jobs with _ for / and -."""
    by_name = {}
    for name in jobs:
        key = name.replace("/", "_").replace("-", "_")
        by_name[name] = others.pop(key, State("done"))
    assert not others, others
    return by_name
