"""The paper's figures with a study's results, and the graph of a study's jobs."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import networkx
import numpy as np
from markupsafe import Markup

from common.drawing import new_figure
from common.errors import InputError
from common.pages.charts import INK, PAPER, SERIES, STYLE, WIDTH, curves_chart, smooth, svg
from scripts.experiments.engine import OpenStudy
from scripts.experiments.jobs import StudyJob
from scripts.experiments.rows import select
from scripts.experiments.tables import Table
from scripts.report import read_run


def graph_chart(study: OpenStudy) -> Markup:
    """Draw how the jobs of a study depend on each other; a box counts similar jobs, such as all folds, by state.

    Each box is to the right of the boxes that it needs. A line is left out if a longer path joins the same two boxes.
    """
    parts = {name: _part_of(job) for name, job in study.jobs.items()}
    graph = networkx.DiGraph()
    graph.add_nodes_from(parts.values())  # in the study's order
    graph.add_edges_from((parts[need], parts[name]) for name, job in study.jobs.items() for need in job.needs)
    columns = [[part for part in graph if part in layer] for layer in networkx.topological_generations(graph)]
    at = {part: (x, -y) for x, column in enumerate(columns) for y, part in enumerate(column)}
    width, height = len(columns), max(map(len, columns))
    arrow = {"arrowstyle": "-", "connectionstyle": "arc3,rad=0.1", "color": INK, "linewidth": 0.8}
    box = {"boxstyle": "round", "facecolor": PAPER, "edgecolor": INK}
    style: Any = {"ha": "center", "va": "center", "multialignment": "left", "fontsize": 8}
    with new_figure(STYLE, figsize=(1.9 * width, 0.3 + 0.6 * height)) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-0.5, width - 0.5), ylim=(0.5 - height, 0.5))
        axes.axis("off")
        for need, part in networkx.transitive_reduction(graph).edges:
            axes.annotate("", at[part], at[need], arrowprops=arrow, zorder=0)
        for part, place in at.items():
            states = Counter(study.states[name].name for name in parts if parts[name] == part)
            counts = ", ".join(f"{count} {state}" for state, count in states.items())
            axes.text(*place, f"{part}\n{counts}", bbox=box, **style)
        return svg(figure, "Jobs of the study; lines lead from the left to the jobs that need them")


def _part_of(job: StudyJob) -> str:
    """Return a job's name without its axis values, such as `two_stage/evaluation`."""
    entry, *rest = job.name.split("/")
    return "/".join([entry, *(rest[1:] if job.values else rest)])


def loss_charts(rows: Mapping[str, Any], jobs: Mapping[str, StudyJob]) -> tuple[list[Markup], list[str]]:
    """Return the charts of Figure 4 (total training losses, validation losses), and an error per unreadable run."""
    training, validation, missing = [], [], []
    for name, row in rows.items():
        for job in select(row, jobs):
            try:
                run = read_run(job.results / "eval" / "run.json")
            except InputError as error:
                missing.append(f"{name}: {error}")
                continue
            losses, metrics = run["train"].get("loss", {}), run["validation"].get("metrics", {})
            if "total" in losses:
                training.append((name, run["train"]["iteration"], smooth(losses["total"])))
            if "total" in metrics:
                validation.append((name, run["validation"]["iteration"], metrics["total"]))
    charts = []
    for split, curves in {"training": training, "validation": validation}.items():
        if curves:
            names = ", ".join(dict.fromkeys(name for name, _, _ in curves))
            charts.append(curves_chart(f"Figure 4: {split} loss of {names}", f"{split} loss, sum of the terms", curves))
    return charts, missing


def few_shot_chart(table: Table) -> Markup | None:
    """Draw Figure 5 from Table 9: means over subsets with one standard deviation; diamonds are the paper's means.

    Return None if the study has no results for the table.
    """
    entries = {entry.row.rpartition(" ")[::2]: entry for entry in table.entries}
    if not any(entry.ours is not None for entry in entries.values()):
        return None
    systems, levels = (list(dict.fromkeys(names)) for names in zip(*entries, strict=True))
    with new_figure(STYLE, figsize=(WIDTH, 2.9), layout="constrained") as figure:
        axes = figure.add_subplot()
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
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)
        return svg(figure, f"Figure 5, {table.name}: Dice by share of the training cases")
