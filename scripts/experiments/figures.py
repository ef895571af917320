"""The paper's figures with a study's results."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.errors import InputError
from common.pages.charts import INK, SERIES, STYLE, WIDTH, svg
from scripts.experiments.jobs import StudyJob
from scripts.experiments.rows import select
from scripts.experiments.study import paper
from scripts.experiments.tables import Table
from scripts.report.charts import smooth
from scripts.report.runs import read_runs

HEIGHT = 2.9  # inches
DASHES = ("-", "--", ":", "-.")


class LossCurves(NamedTuple):
    """Name, iterations and values of each training and validation curve; `lacking` explains the missing ones."""

    training: Sequence[tuple[str, Sequence[int], Sequence[float]]]
    validation: Sequence[tuple[str, Sequence[int], Sequence[float]]]
    lacking: Sequence[str]


def curves_of(rows: Mapping[str, Any], jobs: Mapping[str, StudyJob]) -> LossCurves:
    """The total losses of the runs of a figure's rows, read from their run.json."""
    training: list[Any] = []
    validation: list[Any] = []
    lacking = []
    for name, row in rows.items():
        for job in select(row, jobs):
            folder = job.results / "eval"
            if not (folder / "run.json").is_file():
                lacking.append(f"{name}: {job.name} has no record")
                continue
            try:
                runs = [run for run in read_runs(folder) if run.folder == folder and run.workflow == "train"]
            except InputError as error:
                lacking.append(f"{name}: {error}")
                continue
            for run in runs:
                if run.losses.get("total"):
                    training.append((name, run.train["iteration"], _floats(run.losses["total"])))
                if run.metrics.get("total"):
                    validation.append((name, run.validation["iteration"], _floats(run.metrics["total"])))
    return LossCurves(training, validation, lacking)


def losses_chart(which: str, curves: Sequence[tuple[str, Sequence[int], Sequence[float]]]) -> Markup:
    """Total losses over the iterations, one colour for each row; training losses are smoothed."""
    names = list(dict.fromkeys(name for name, _, _ in curves))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        drawn: set[str] = set()
        for name, iterations, values in curves:
            place = names.index(name)
            shown = smooth(np.asarray(values)) if which == "training" else values
            style: Any = {"color": SERIES[place % len(SERIES)], "linestyle": DASHES[place // len(SERIES) % len(DASHES)]}
            axes.plot(iterations, shown, label=None if name in drawn else name, linewidth=1.6, **style)
            drawn.add(name)
        axes.set(xlabel="iteration", ylabel=f"{which} loss, sum of the terms")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, borderaxespad=0)
        return svg(figure, f"Figure 4: {which} loss of {', '.join(names)}")


def few_shot_chart(table: Table) -> Markup | None:
    """Figure 5 from a Table 9: means over the subsets as bars with one standard deviation, the paper's as dots.

    None if the study has no results for the table.
    """
    entries = {entry.row.rpartition(" ")[::2]: entry for entry in table.entries}
    if not any(entry.ours is not None for entry in entries.values()):
        return None
    systems, levels = (list(dict.fromkeys(names)) for names in zip(*entries, strict=True))
    width = 0.8 / len(systems)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        for number, system in enumerate(systems):
            found = [entries.get((system, level)) for level in levels]
            places = np.arange(len(levels)) + (number - (len(systems) - 1) / 2) * width
            ours = _floats([entry.ours if entry else None for entry in found])
            spread = [0.0 if entry is None or math.isnan(entry.sd) else entry.sd for entry in found]
            colour = SERIES[number % len(SERIES)]
            axes.bar(places, ours, width * 0.94, yerr=spread, capsize=3, color=colour, ecolor=INK, label=system)
            printed = _floats([entry.paper if entry else None for entry in found])
            axes.plot(places, printed, "D", color=INK, markersize=4, label="paper" if number == 0 else None)
        axes.set_xticks(range(len(levels)), levels)
        axes.set(ylim=(_floor(table), 1), ylabel="Dice", xlabel="training cases")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)
        return svg(figure, f"Figure 5, {table.name}: Dice by share of the training cases")


def _floor(table: Table) -> float:
    """Start of the vertical axis: about 0.1 below all dots and error bars, so that small differences are visible."""
    found = [
        entry.ours - (0 if math.isnan(entry.sd) else entry.sd) for entry in table.entries if entry.ours is not None
    ]
    lowest = min([*found, *(entry.paper for entry in table.entries if entry.paper is not None)])
    return max(0.0, math.floor(10 * lowest - 0.5) / 10)


def cohort_chart(counts: Mapping[str, Mapping[str, int]]) -> Markup:
    """Figure 2: each bin's share of a cohort's people, beside that of the paper's cohort."""
    printed = paper()[7]["groups"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH, HEIGHT), layout="constrained")
        for axes, (group, bins) in zip(figure.subplots(1, len(counts)), counts.items(), strict=True):
            ours, theirs = list(bins.values()), [printed[group][name]["study"][0] for name in bins]
            for shift, numbers, label, colour in ((-0.2, theirs, "paper", SERIES[1]), (0.2, ours, "here", SERIES[0])):
                shares = 100 * np.array(numbers) / max(1, sum(numbers))
                axes.barh(np.arange(len(bins)) + shift, shares, 0.38, color=colour, label=label)
            axes.set_yticks(range(len(bins)), list(bins))
            axes.invert_yaxis()
            axes.set(xlabel="% of people", title=group)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return svg(figure, "Figure 2: age, gender and race of the participants, in the paper and here")


def flow_chart(file: str | Path) -> Markup:
    """Figure 3: the flow chart of a cohort, from a file of `scripts.datalists --consort`."""
    from scripts.consort import figure_of, read_flow

    return svg(figure_of(read_flow(str(file))), "Figure 3: how the participants were chosen")


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]
