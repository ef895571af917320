"""Flow chart of the selection of a cohort: `python -m scripts.consort FLOW.json --output=F.svg|F.png`.

`python -m scripts.datalists ... --consort=FLOW.json` writes the numbers:

    {"name": "ukb", "layout": "UK Biobank",
     "steps": [{"step": "participants", "text": "Participants with a scan", "people": 6, "visits": 7, "excluded": []},
               {"step": "modalities", "text": "T1 and FLAIR", "people": 5, "visits": 6,
                "excluded": [{"reason": "no FLAIR", "people": 1}]}],
     "splits": {"training": {"people": 4, "visits": 5}, "validation": {"people": 1, "visits": 1}}}

The file names no subjects. A person may be in two splits, because visits without a mask are in `unlabelled`; the later
split counts these people under `shared`. The people of all splits minus the shared ones are those of the last step.
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import run
from common.errors import InputError
from common.files import atomic_write, valid_json
from scripts.datalists.scan import Visit

FORMATS = (".svg", ".png")
TEXT, COUNT, SOME = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}


def _of(optional: Mapping[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


LOSSES = {"type": "array", "items": _of(reason=TEXT, people=SOME)}
SCHEMA = _of(
    name=TEXT,
    layout=TEXT,
    steps={
        **{"type": "array", "minItems": 1},
        "items": _of(step=TEXT, text=TEXT, people=COUNT, visits=COUNT, excluded=LOSSES),
    },
    splits={
        **{"type": "object", "minProperties": 1},
        "additionalProperties": _of({"shared": SOME}, people=COUNT, visits=COUNT),
    },
)

INK, LINE, KEPT, LOST, SPLIT = "#1f2933", "#7b8794", "#e8f0f8", "#fbf1e6", "#e9f5ee"
ROW, GAP, LEADING = 0.78, 0.46, 0.2  # inches: height of a box, smallest gap between boxes, line spacing
MAIN, SIDE, BETWEEN = 2.9, 3.1, 0.55  # inches: width of a box, width of a side box, gap between them


def count(visits: Sequence[Visit]) -> dict[str, int]:
    """Count people and visits."""
    return {"people": len({visit.person for visit in visits}), "visits": len(visits)}


def count_splits(splits: Mapping[str, Sequence[Visit]]) -> dict[str, dict[str, int]]:
    """`count` for each split; `shared` is the number of its people who are also in an earlier split, if any."""
    counted: dict[str, dict[str, int]] = {}
    before: set[str] = set()
    for split, visits in splits.items():
        people = {visit.person for visit in visits}
        shared = len(people & before)
        counted[split] = count(visits) | ({"shared": shared} if shared else {})
        before |= people
    return counted


def step(
    name: str, text: str, before: Sequence[Visit], reasons: Mapping[str, str]
) -> tuple[list[Visit], dict[str, Any]]:
    """Exclude the visits in `reasons` (subject -> reason); return the remaining visits and the step of the flow.

    A person is excluded if no visit remains, for the reason of the first visit. `before` must be sorted by name.
    """
    kept = [visit for visit in before if visit.subject not in reasons]
    remain = {visit.person for visit in kept}
    why: dict[str, str] = {}
    for visit in before:
        if visit.person not in remain:
            why.setdefault(visit.person, reasons[visit.subject])
    excluded = [{"reason": reason, "people": people} for reason, people in sorted(Counter(why.values()).items())]
    return kept, {"step": name, "text": text} | count(kept) | {"excluded": excluded}


def draw(flow: str, output: str) -> None:
    """Draw the flow chart of a cohort.

    Each step is a box with its people, and its visits if some people came twice. Excluded people and their reasons are
    beside the arrow. The last row shows the splits of the datalist. The same flow gives the same bytes.

    Args:
        flow: JSON file that `python -m scripts.datalists ... --consort=FLOW.json` has written.
        output: the picture, .svg or .png; an existing file is replaced.
    """
    path = Path(str(output))
    if path.suffix not in FORMATS:
        raise InputError(f"--output={output}: expected a file that ends in {' or '.join(FORMATS)}")
    content = read_flow(flow)
    import matplotlib  # late import: `--help` stays fast

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "consort",
        "font.family": "sans-serif",
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style), atomic_write(path) as file:
        figure = figure_of(content)
        figure.savefig(file, format=path.suffix[1:], dpi=200, metadata={"Date": None} if path.suffix == ".svg" else {})


def read_flow(flow: str) -> dict[str, Any]:
    """Read and validate a JSON file that `--consort` wrote."""
    return dict(valid_json(str(flow), "a file of --consort", SCHEMA, f"--flow={flow}"))


def figure_of(flow: Mapping[str, Any]) -> Any:
    """Draw the flow as a Matplotlib figure, in inches from the top left corner."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    steps, splits = flow["steps"], flow["splits"]
    losses = [_losses(steps[n - 1], steps[n]) for n in range(1, len(steps))]
    between = [max(GAP, GAP / 2 + LEADING * len(lines)) + GAP / 2 if lines else GAP for lines in losses]
    tops = [0.1]
    for gap in between:
        tops.append(tops[-1] + ROW + gap)
    last = tops[-1] + ROW + 1.4 * GAP
    ends = {split: [split, *_numbers(entry), *_shared(entry)] for split, entry in splits.items()}
    tall_end = max(ROW, 0.2 + LEADING * max(map(len, ends.values())))
    width, height = 0.2 + MAIN + BETWEEN + SIDE, last + tall_end + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    middle = 0.1 + MAIN / 2

    def box(left: float, top: float, size: tuple[float, float], lines: Sequence[str], colour: str) -> None:
        style: Any = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": colour, "ec": LINE, "lw": 0.9}
        axes.add_patch(FancyBboxPatch((left, top), *size, **style))
        for n, line in enumerate(lines):
            y = top + size[1] / 2 + (n - (len(lines) - 1) / 2) * LEADING
            weight = "bold" if line.startswith("n = ") else "normal"
            axes.text(left + size[0] / 2, y, line, ha="center", va="center", fontsize=9.5, color=INK, weight=weight)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
        )

    for n, (top, entry) in enumerate(zip(tops, steps, strict=True)):
        box(0.1, top, (MAIN, ROW), [*textwrap.wrap(entry["text"], 38), " ".join(_numbers(entry))], KEPT)
        if n == 0:
            continue
        arrow((middle, tops[n - 1] + ROW), (middle, top))
        if losses[n - 1]:
            tall = LEADING * len(losses[n - 1]) + 0.2
            y = (tops[n - 1] + ROW + top) / 2
            arrow((middle, y), (0.1 + MAIN + BETWEEN, y))
            box(0.1 + MAIN + BETWEEN, y - tall / 2, (SIDE, tall), losses[n - 1], LOST)

    gap = 0.15
    each = (width - 0.2 - gap * (len(splits) - 1)) / len(splits)
    rail = (tops[-1] + ROW + last) / 2
    centres = [0.1 + each / 2 + n * (each + gap) for n in range(len(splits))]
    axes.plot([middle, middle], [tops[-1] + ROW, rail], color=LINE, lw=1.1)
    axes.plot([min(*centres, middle), max(*centres, middle)], [rail, rail], color=LINE, lw=1.1)
    for centre, lines in zip(centres, ends.values(), strict=True):
        arrow((centre, rail), (centre, last))
        box(centre - each / 2, last, (each, tall_end), lines, SPLIT)
    return figure


def _numbers(entry: Mapping[str, int]) -> list[str]:
    """The number of people, and the number of visits if it is larger."""
    visits = [f"({entry['visits']:,} visits)"] if entry["visits"] != entry["people"] else []
    return [f"n = {entry['people']:,}", *visits]


def _shared(entry: Mapping[str, int]) -> list[str]:
    """A note on people who are also in an earlier split; without it the splits would not add up."""
    return [f"{entry['shared']:,} of them", "also to the left"] if "shared" in entry else []


def _losses(before: Mapping[str, int], after: Mapping[str, Any]) -> list[str]:
    """The lines of the box beside an arrow; empty if nobody was excluded."""
    gone = before["people"] - after["people"]
    if not gone:
        return []
    lines = [f"excluded: n = {gone:,}"]
    for entry in after["excluded"]:
        lines += textwrap.wrap(f"{entry['reason']}: {entry['people']:,}", 44)
    return lines


if __name__ == "__main__":
    run(draw, "consort")
