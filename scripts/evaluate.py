"""What predictions are worth, ours or anybody's, and how they compare: `python -m scripts.evaluate [compare]`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common import metrics, results
from common.files import looking_at, remove, whole
from common.metrics import Protocol, Scores
from common.preflight import InputError, check_number, chosen
from scripts.cli import run
from scripts.datalist_check import each
from scripts.evaluation_cases import CONVENTIONS, CaseFiles, find_cases, labels_of, listed, masks_of, mixed_labels

__all__ = ["compare", "evaluate", "score"]

PAGE = "evaluation.html"
FILES = ("metrics.csv", "lesions.csv", "summary.json", PAGE)


class _Fault(NamedTuple):
    """Why a process could not do its work on a case."""

    message: str


def evaluate(
    *,
    predictions: str,
    references: str,
    protocol: str,
    output: str,
    challenge: str | None = None,
    tolerance: float | None = None,
    missing: str | None = None,
    images: str | None = None,
    dataset_dir: str | None = None,
    split: str = "testing",
    workers: int = 0,
) -> None:
    """Score label maps against references as a challenge does, by case, region and lesion.

    Both are folders of NIfTI files of the same names. All files are checked before the first one is scored, and
    nothing is written before the last one is. The command compare takes what this one wrote.

    Args:
        predictions: folder of CASE.nii.gz or CASE.nii.
        references: folder of files of the same names; or a datalist (JSON), for the labels of its subjects.
        protocol: atlas (labels 0 and 1; 6-connected lesions), isles (0 and 1; 26-connected, volumes in ml), or brats
            (0, 1, 2, and 3 or 4 for enhancing tumour; lesion-wise, in WT, TC and ET).
        output: folder for metrics.csv, lesions.csv, summary.json and evaluation.html; older ones are replaced.
        challenge: of brats, GLI (default), MET, MEN, SSA or PED.
        tolerance: mm; measure nsd too, the normalised surface Dice at this tolerance.
        missing: worst, to count a prediction that is absent as an empty one. Otherwise it is an error.
        images: folder of CASE.nii.gz, or CASE_*.nii.gz or CASE-*.nii.gz, for the page's pictures; with a datalist, the
            first image of each subject is taken where this is not given.
        dataset_dir: folder that the datalist's paths start from.
        split: of the datalist.
        workers: processes; 0 for one per core.
    """
    chosen("protocol", protocol, CONVENTIONS)
    rules = metrics.protocol(protocol, None if challenge is None else str(challenge), tolerance)
    if missing not in (None, "worst"):
        raise InputError(f"--missing={missing}: expected worst")
    check_number("workers", workers, int, 0, 1024)
    cases = find_cases(predictions, references, protocol, missing, images, dataset_dir, split)
    folder = _output(output, FILES, {"predictions": predictions, "references": references, "images": images})
    _warn_of_images(cases)
    scores = _scores(cases, rules, workers or os.cpu_count() or 1)
    remove(folder / PAGE)  # should the new page fail, this one is of other scores
    summary = results.write(folder, scores, rules, [files.name for files in cases if files.prediction is None])
    _write_page(folder / PAGE, _place(predictions).name, cases, scores, rules, summary)
    print("\n".join([*_lines(summary), "", str(folder / PAGE)]))


def compare(*folders: str, output: str | None = None, names: str | Sequence[str] | None = None) -> None:
    """Compare evaluations of the same cases by the same protocol, pair by pair, and rank them as BraTS does.

    For each pair, region and metric: the mean difference with its 95 % bootstrap interval, the p-value of Wilcoxon's
    signed-rank test, and how many cases the first one wins, ties and loses. The systems are ranked by the mean over
    cases of their cumulative rank, which is the mean rank over regions and the metrics that rank; a permutation test
    compares it for each pair. Holm's correction is over all tests of the command.

    Args:
        folders: two or more that this module wrote, or the evaluate.yaml of a bundle.
        output: folder for comparison.csv, ranking.csv and comparison.json; older ones are replaced.
        names: of the systems, such as ours,theirs; by default what tells their folders apart.
    """
    from scripts import evaluation_compare  # here, as SciPy's statistics take a second that `--help` need not wait

    target = None if output is None else _output(output, evaluation_compare.FILES, {})
    if names is not None:
        names = ",".join(map(str, names)).split(",") if isinstance(names, list | tuple) else str(names).split(",")
    comparison = evaluation_compare.compare(evaluation_compare.read_all([str(folder) for folder in folders], names))
    if target is not None:
        evaluation_compare.write(comparison, target)
    print("\n".join([*evaluation_compare.lines(comparison), *([] if target is None else ["", str(target)])]))


def score(files: CaseFiles, protocol: Protocol) -> dict[str, Scores]:
    """What a protocol measures in each region of a case.

    Raises:
        InputError: as `scripts.evaluation_cases.masks_of`.
    """
    predictions, references, affine = masks_of(files, protocol.name)
    spacing = metrics.spacing_of(affine)
    return {region: protocol.measure(predictions[region], references[region], spacing) for region in references}


def _output(output: str, names: Sequence[str], inputs: Mapping[str, str | None]) -> Path:
    """The folder to write to; refused before an hour of scoring rather than after it."""
    with looking_at(f"--output={output}"):
        folder = Path(str(output)).expanduser()
        same = [name for name, value in inputs.items() if value is not None and _place(value) == _place(output)]
        above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        taken = [name for name in names if (folder / name).is_dir()]
    if same:
        raise InputError(f"--output={output}: the folder of --{same[0]}; expected another one")
    if not above.is_dir() or not os.access(above, os.W_OK) or taken:
        raise InputError(f"--output={output}: expected a folder that {', '.join(names)} can be written to")
    return folder


def _place(path: str) -> Path:
    return Path(str(path)).expanduser().resolve()


def _warn_of_images(cases: Sequence[CaseFiles]) -> None:
    without = [files.name for files in cases if files.image is None]
    if 0 < len(without) < len(cases):
        count = f"{len(without)} of {len(cases)} cases"
        print(f"warning: no image of {count}, whose pictures have no background: {listed(without)}", file=sys.stderr)


def _scores(cases: Sequence[CaseFiles], protocol: Protocol, workers: int) -> dict[str, dict[str, Scores]]:
    """Check all cases, then score them.

    Raises:
        InputError: a file is not what it is to be; names the first one, and how many more cases have such.
    """
    _warm(protocol)
    found = _each(partial(labels_of, protocol_name=protocol.name), cases, workers, " checked")
    mixed = mixed_labels(cases, found)
    if mixed is not None:
        raise InputError(mixed)
    scores = _each(partial(score, protocol=protocol), cases, workers, " scored")
    return {files.name: each_score for files, each_score in zip(cases, scores, strict=True)}


def _warm(protocol: Protocol) -> None:
    """Import what scoring needs: processes that are forked from this one then have it, and need not take seconds."""
    import common.transforms  # noqa: F401

    voxel = np.ones((1, 1, 1), bool)
    protocol.measure(voxel, voxel, (1, 1, 1))


def _each(work: Callable[[CaseFiles], Any], cases: Sequence[CaseFiles], workers: int, unit: str) -> list[Any]:
    done = each(partial(_attempt, work), cases, workers, unit)
    faults = []
    for files, found in zip(cases, done, strict=True):
        if found is None:
            where = files.prediction or files.reference
            faults.append(f"{where}: reading it ended the process, twice; expected a file that fits into memory")
        elif isinstance(found, _Fault):
            faults.append(found.message)
    if faults:
        more = f" ({len(faults) - 1} more of {len(cases)} cases have a fault)" if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    return done


def _attempt(work: Callable[[CaseFiles], Any], files: CaseFiles) -> Any:
    try:
        return work(files)
    except InputError as error:
        return _Fault(str(error))
    except MemoryError:
        return _Fault(f"{files.reference}: out of memory; expected fewer --workers")


def _write_page(
    path: Path,
    name: str,
    files: Sequence[CaseFiles],
    scores: results.Cases,
    protocol: Protocol,
    summary: Mapping[str, Any],
) -> None:
    from scripts.evaluation_page import page  # here, as its pictures take seconds that `--help` need not wait

    with whole(path) as file:
        file.write_text(page(name, files, scores, protocol, dict(summary)), encoding="utf-8")


def _lines(summary: Mapping[str, Any]) -> list[str]:
    """What the terminal shows of a summary."""
    absent = summary["missing"]
    counted = f", {len(absent)} without prediction counted as empty" if absent else ""
    lines = [f"{summary['cases']} {'case' if summary['cases'] == 1 else 'cases'} by {summary['protocol']}{counted}", ""]
    lines.append(f"{'region':<8}{'metric':<25}{'mean':>9}  95 % interval")
    for region, measured in summary["regions"].items():
        for metric, figures in measured.items():
            unit = "" if figures["unit"] == "1" else f" {figures['unit']}"
            interval = "" if figures["ci95"] is None else "[{:.4g}, {:.4g}]".format(*figures["ci95"])
            lines.append(f"{region:<8}{metric:<25}{figures['mean']:>9.4g}  {interval}{unit}".rstrip())
    return lines


if __name__ == "__main__":
    run({"compare": compare}, "evaluate", default=evaluate)
