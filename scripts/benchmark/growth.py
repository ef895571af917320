"""How time and memory grow: with the crop, the cohort, the lesions of a case and the processes that read crops."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.bars import tqdm
from common.files import atomic_write
from scripts.benchmark.timing import PLAIN_MEMORY, Measured, run_alone, timed

__all__ = ["Points", "draw", "measure", "read_cohort"]

EDGES = (64, 96, 128)  # voxels
SUBJECTS = (100, 1_000, 10_000, 40_000)
LESIONS = (1, 5, 10, 20, 40)
WORKERS = (1, 2)
READ = (4, 16, 64)  # subjects of the cohorts whose reader is watched
BATCHES = 40  # that are timed
Points = dict[str, list[tuple[float, float]]]  # of each line


def measure() -> dict[str, Points]:
    """Points of each line, by "what, unit" of the vertical axis and of the horizontal one."""
    sizes = list(tqdm(_crop_sizes(), total=2 * len(EDGES), desc="growth: crops"))
    return {
        "fine-tuning step, s|edge of the crop, voxels": _lines(sizes, "seconds"),
        "peak memory, GiB|edge of the crop, voxels": _lines(sizes, "peak"),
        "reading a datalist, s|subjects": {"ours": [(count, _cohort(count)) for count in SUBJECTS]},
        "lesion-wise scores of a case, s|lesions": _lesions(),
        "peak memory of a reader, GiB|subjects": _readers_memory(),
        "crops read from a store, 1/s|processes": {"ours": [(count, _readers(count)) for count in WORKERS]},
    }


def _crop_sizes() -> Iterator[tuple[str, int, Measured]]:
    function = "scripts.benchmark.training:fine_tuning_step"
    for edge in EDGES:
        yield "ours", edge, run_alone(function, "float32", "cpu", "micro", str(edge))
        yield "stock", edge, run_alone(function, "stock", "cpu", "micro", str(edge), environment=PLAIN_MEMORY)


def _lines(found: Sequence[tuple[str, int, Measured]], name: str) -> Points:
    kinds = dict.fromkeys(kind for kind, _, _ in found)
    return {each: [(edge, getattr(taken, name)) for kind, edge, taken in found if kind == each] for each in kinds}


def _cohort(subjects: int) -> float:
    """Seconds to read a datalist and resolve its training split; the files need not exist."""
    import json

    from common.data.datalists import Datalist

    with _folder() as folder:
        entries = [
            {"subject": f"s{number}", "image": [f"s{number}/{name}.nii.gz" for name in "ab"]}
            for number in range(subjects)
        ]
        content = {"name": "growth", "modalities": ["T1", "FLAIR"], "label_convention": None, "training": entries}
        (folder / "list.json").write_text(json.dumps(content))
        return timed(lambda: Datalist(folder / "list.json", folder).load("training", must_exist=False))


def _lesions() -> Points:
    import numpy as np

    from common.metrics.protocols import brats
    from scripts.benchmark.lesions import score_plainly

    points: Points = {"ours": [], "stock, distances in boxes": []}
    for count in LESIONS:
        mask = np.zeros((240, 240, 155), dtype=bool)
        for number in range(count):
            x, y, z = number % 5, number // 5 % 4, number // 20
            mask[30 + 40 * x : 42 + 40 * x, 30 + 50 * y : 42 + 50 * y, 30 + 60 * z : 42 + 60 * z] = True
        other = np.roll(mask, 2, axis=0)
        if not points["ours"]:
            brats(other, mask)  # imports what it needs
        points["ours"].append((count, timed(partial(brats, other, mask))))
        points["stock, distances in boxes"].append((count, timed(partial(score_plainly, other, mask, in_boxes=True))))
    return points


def _readers(processes: int) -> float:
    """Crops a second by the clock, as several processes share the work."""
    from scripts.benchmark.reading import CROPS, make_entries, reading_batches

    with _folder() as folder:
        batches = reading_batches(make_entries(str(folder)), 1, str(folder / "store"), processes)
        for _ in range(2 * processes):  # what the processes have read ahead
            next(batches)
        start = time.perf_counter()
        for _ in range(BATCHES):
            next(batches)
        return BATCHES * CROPS / (time.perf_counter() - start)


def _readers_memory() -> Points:
    """GiB of a process that reads crops of small volumes: from a store, and with all of them in memory."""
    with _folder() as folder:
        _link_cohort(folder, max(READ))
        read_cohort("ours", str(folder), str(max(READ)))  # fills the store
        kinds = ("ours", "stock, cached")
        return {
            kind: [
                (count, run_alone("scripts.benchmark.growth:read_cohort", kind, str(folder), str(count)).peak or 0.0)
                for count in READ
            ]
            for kind in kinds
        }


def _link_cohort(folder: Path, subjects: int) -> None:
    """Volumes of 4 mm of many subjects, whose files are links to those of four; `subjects.json` lists them."""
    import json

    from scripts.benchmark.reading import make_entries

    made = make_entries(f"{folder}/made", min(4, subjects), spacing=4.0)
    entries = []
    for number in range(subjects):
        files = [f"{folder}/s{number}_{channel}.nii.gz" for channel in range(2)]
        for source, file in zip(made[number % len(made)]["image"], files, strict=True):
            os.link(source, file)
        entries.append({"subject": f"s{number}", "image": files})
    (folder / "subjects.json").write_text(json.dumps(entries))


def read_cohort(kind: str, folder: str, subjects: str) -> Callable[[], Any]:
    """Batches of the first subjects in a folder of `_link_cohort`, as many for each number of subjects."""
    import json

    from scripts.benchmark.reading import reading_batches, stock_batches

    entries = json.loads((Path(folder) / "subjects.json").read_text())[: int(subjects)]
    is_ours = kind == "ours"
    batches = reading_batches(entries, 1, f"{folder}/store") if is_ours else stock_batches(entries, is_cached=True)
    return lambda: [None for _ in range(BATCHES) if next(batches)]


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)


def draw(found: dict[str, Points], file: Path) -> None:
    """A panel for each quantity."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(3.4 * len(found), 3), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (titles, lines) in zip(panels, found.items(), strict=True):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        title, label = titles.split("|")
        axes.set(title=title, xlabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend()
    with atomic_write(file) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
