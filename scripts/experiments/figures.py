"""The paper's figures with a study's results, and the graph of a study's jobs."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from markupsafe import Markup

from common.drawing import Axes, new_figure
from common.errors import InputError
from common.pages.charts import INK, PAPER, SERIES, STYLE, svg
from scripts.experiments.engine import OpenStudy
from scripts.experiments.jobs import StudyJob
from scripts.experiments.rows import select
from scripts.experiments.tables import Table
from scripts.report.charts import over_iterations, panel, smooth, thin
from scripts.report.runs import Run, read_run

Curves = Sequence[tuple[str, Mapping[str, Any], Sequence[float | None]]]  # (row, mapping with "iteration", losses)


def graph_chart(study: OpenStudy) -> Markup:
    """Draw how the jobs of a study depend on each other; a box counts similar jobs, such as all folds, by state.

    Each box is to the right of the boxes that it needs. A line is left out if a longer path joins the same two boxes.
    """
    kinds = {name: _part_of(job) for name, job in study.jobs.items()}
    needs: dict[str, set[str]] = {}
    states: dict[str, Counter[str]] = {}
    for name, job in study.jobs.items():
        needs.setdefault(kinds[name], set()).update(kinds[need] for need in job.needs)
        states.setdefault(kinds[name], Counter())[study.states[name].name] += 1
    columns: dict[str, int] = {}
    before: dict[str, set[str]] = {}
    for kind in TopologicalSorter(needs).static_order():
        columns[kind] = 1 + max((columns[need] for need in needs[kind]), default=-1)
        before[kind] = needs[kind].union(*(before[need] for need in needs[kind]))
    rows: Counter[int] = Counter()
    at = {}
    for kind in needs:  # in the study's order
        at[kind] = (columns[kind], -rows[columns[kind]])
        rows[columns[kind]] += 1
    with new_figure(STYLE, figsize=(1.9 * len(rows), 0.3 + 0.6 * max(rows.values()))) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-0.5, len(rows) - 0.5), ylim=(0.5 - max(rows.values()), 0.5))
        axes.axis("off")
        for kind, place in at.items():
            for need in needs[kind].difference(*(before[need] for need in needs[kind])):
                arrow = {"arrowstyle": "-", "connectionstyle": "arc3,rad=0.1", "color": INK, "linewidth": 0.8}
                axes.annotate("", place, at[need], arrowprops=arrow, zorder=0)
            counts = ", ".join(f"{count} {state}" for state, count in states[kind].items())
            box = {"boxstyle": "round", "facecolor": PAPER, "edgecolor": INK}
            style: Any = {"ha": "center", "va": "center", "multialignment": "left", "fontsize": 8}
            axes.text(*place, f"{kind}\n{counts}", bbox=box, **style)
        return svg(figure, "Jobs of the study; lines lead from the left to the jobs that need them")


def _part_of(job: StudyJob) -> str:
    """Return a job's name without its axis values, such as `two_stage/evaluation`."""
    entry, *rest = job.name.split("/")
    return "/".join([entry, *(rest[1:] if job.values else rest)])


def loss_charts(rows: Mapping[str, Any], jobs: Mapping[str, StudyJob]) -> tuple[list[Markup], list[str]]:
    """Return the charts of Figure 4 (total training losses, validation losses), and an error per unreadable run."""
    runs: list[tuple[str, Run]] = []
    missing = []
    for name, row in rows.items():
        for job in select(row, jobs):
            try:
                runs.append((name, read_run(job.results / "eval" / "run.json")))
            except InputError as error:
                missing.append(f"{name}: {error}")
    training = [(name, run.train, run.losses["total"]) for name, run in runs if "total" in run.losses]
    validation = [(name, run.validation, run.metrics["total"]) for name, run in runs if "total" in run.metrics]
    curves_of = {"training": training, "validation": validation}
    return [_losses_chart(split, curves) for split, curves in curves_of.items() if curves], missing


def _losses_chart(split: str, curves: Curves) -> Markup:
    """Draw total losses over the iterations, with a colour for each row; training losses are smoothed."""
    names = list(dict.fromkeys(name for name, _, _ in curves))

    def draw(axes: Axes) -> None:
        labels = dict(enumerate(names))
        for name, axis, losses in curves:
            index, values = names.index(name), np.array(losses, float)
            style: Any = {"label": labels.pop(index, None), "color": SERIES[index % len(SERIES)]}
            curve = smooth(values) if split == "training" else values
            axes.plot(*thin(axis["iteration"], curve), linewidth=1.6, **style)
        axes.set_ylabel(f"{split} loss, sum of the terms")

    return over_iterations(f"Figure 4: {split} loss of {', '.join(names)}", draw)


def few_shot_chart(table: Table) -> Markup | None:
    """Draw Figure 5 from Table 9: means over subsets with one standard deviation; diamonds are the paper's means.

    Return None if the study has no results for the table.
    """
    entries = {entry.row.rpartition(" ")[::2]: entry for entry in table.entries}
    if not any(entry.ours is not None for entry in entries.values()):
        return None
    systems, levels = (list(dict.fromkeys(names)) for names in zip(*entries, strict=True))

    def draw(axes: Axes) -> None:
        for number, system in enumerate(systems):
            row = [entries.get((system, level)) for level in levels]
            positions = np.arange(len(levels)) + (number - (len(systems) - 1) / 2) * 0.8 / len(systems)
            ours = np.array([entry.ours if entry else None for entry in row], float)
            spread = [0.0 if entry is None or math.isnan(entry.sd) else entry.sd for entry in row]
            axes.errorbar(positions, ours, spread, fmt="o", capsize=3, color=SERIES[number % len(SERIES)], label=system)
            printed = np.array([entry.paper if entry else None for entry in row], float)
            axes.plot(positions, printed, "D", color=INK, markersize=4, label="paper" if number == 0 else None)
        axes.set_xticks(range(len(levels)), levels)
        axes.set(ylabel="Dice", xlabel="training cases")

    return panel(f"Figure 5, {table.name}: Dice by share of the training cases", draw)
