"""Score predictions, draw pages of evaluations, compare and pool them: `python -m scripts.evaluate [COMMAND]`."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.data.volumes import is_made_up
from common.errors import InputError, check_number, choice, show
from common.files import expand_home
from common.inference.masks import masks_of
from common.inference.publishing import PAGE, begin, finish
from common.inference.results import CaseFiles, Details
from common.locks import claimed
from common.metrics.cards import Protocol, Scores
from common.metrics.protocols import PROTOCOLS
from common.metrics.protocols import protocol as protocol_of
from common.values import OPTIONS
from scripts.cli import run
from scripts.evaluate.cases import find_cases
from scripts.pools import map_in_processes

METRICS = "metrics.csv"


def evaluate(
    *,
    predictions: str,
    references: str,
    output: str,
    protocol: str | None = None,
    challenge: str | None = None,
    missing: str | None = None,
    dataset_dir: str | None = None,
    split: str = "testing",
    label_convention: str | None = None,
    workers: int = 0,
    slices: str = "chosen",
    background: str | None = None,
) -> None:
    """Score label maps against references by case, region and lesion, for the labels of a challenge or your own.

    Predictions and references are NIfTI files with the same names. Nothing is written before all cases are scored.
    Other commands: protocols prints the protocols, page draws the page of an evaluation, compare compares evaluations,
    and pool merges evaluations of different cases.

    Args:
        predictions: folder of CASE.nii.gz or CASE.nii.
        references: folder of files with the same names; or a datalist (JSON) with labels, which are the references.
        protocol: scoring protocol, such as atlas, isles, brats, dice or lesions; the command protocols prints all. By
            default the protocol of the labels' challenge, or lesions (Dice and lesion F1) for your own labels.
        output: folder for metrics.csv, lesions.csv, cases.json, summary.json and evaluation.html. Earlier files are
            moved aside when all new files are complete.
        challenge: variant of a protocol, such as MET for brats; by default the first.
        missing: worst counts a missing prediction as empty; by default a missing prediction is an error.
        dataset_dir: folder that the datalist's paths are relative to.
        split: split of the datalist.
        label_convention: label convention of a folder of references; by default the protocol's, or lesion=1.
        workers: processes; 0 for one per core.
        slices: cases with a page to scroll through the slices: none, chosen (the cases of evaluation.html) or all.
        background: modality of the slices in pictures; by default the modality on which the labels stand out most.
    """
    OPTIONS["slices"](slices)
    OPTIONS["split"](split)
    variant = None if challenge is None else str(challenge)
    selected = None if protocol is None else protocol_of(protocol, variant)
    if missing not in (None, "worst"):
        raise InputError(f"--missing={missing}: expected worst")
    check_number("workers", workers, int, 0, 1024)
    convention, cases, scored = find_cases(
        predictions, references, selected, missing, dataset_dir, split, label_convention
    )
    rules = selected or protocol_of(None, variant, convention)
    check_background(background, cases)
    folder = _output(output, {"--predictions": predictions, "--references": references})
    source = expand_home(predictions, predictions)
    from common import made as origin  # late import: `--help` stays fast

    source_record = origin.read_origin(source) or {"checkpoints": {}, "settings": {}}
    with claimed("output", folder):
        scores = _scores(cases, rules, convention, workers or os.cpu_count() or 1)
        settings = {"split": scored or source_record.get("split"), "cleanup": origin.stated(source_record, "cleanup")}
        made = origin.origin_of(settings, is_made_up(cases[0].reference))
        made["checkpoints"] = source_record["checkpoints"]
        _publish(folder, Details(source.resolve().name, convention, rules, cases, scores, made, background), slices)


def protocols() -> None:
    """Print the protocols: definition of a lesion, label conventions, settings, and metrics with their units."""
    for card in PROTOCOLS.values():
        settings = [card.settings, *({"challenge": name, **values} for name, values in card.challenges.items())]
        show(f"{card.name}: {card.title}", f"  {protocol_of(card.name).meaning}")
        show(f"  label conventions: {', '.join([*card.conventions] or ['all'])}, or regions of your own")
        show(*("  " + ", ".join(f"{name} {value}" for name, value in values.items()) for values in settings if values))
        for metric in card.metrics:
            unit = "fraction" if metric.unit == "1" else metric.unit
            better = "higher" if metric.more_is_better else "lower"
            use = "; used for ranking" * metric.ranks
            show(f"  {metric.name} ({unit}; {better} is better{use}): {metric.meaning}")
        show("")


def check_background(background: str | None, cases: Sequence[CaseFiles]) -> None:
    """Raise InputError if no case has an image of the modality `background`."""
    if background is not None:
        modalities = {name: None for files in cases for name, _ in files.images}
        choice("background", background, modalities)


def page(folder: str, slices: str = "chosen", background: str | None = None) -> None:
    """Draw the page of an evaluation, FOLDER/evaluation.html, from the files in its folder. Nothing is scored.

    Args:
        folder: folder of an evaluation with cases.json, written by this command or by a bundle's evaluate.yaml. The
            label maps and images that cases.json lists are read for the pictures.
        slices: cases with a page to scroll through the slices, FOLDER/slices/CASE.html: none, chosen or all.
        background: modality of the slices in pictures; by default the modality on which the labels stand out most.
    """
    from common.inference.reading import read  # late imports: `--help` stays fast
    from common.pages import evaluation

    path = expand_home(folder, str(folder))
    details = read(path)._replace(background=background)
    check_background(background, details.files)
    show(evaluation.write_pages(path, details, slices))


def compare(*folders: str, output: str | None = None, names: str | Sequence[str] | None = None) -> None:
    """Compare evaluations of the same cases by the same protocol, pair by pair, and rank them as BraTS does.

    For each pair, region and metric: the mean difference with its 95 % bootstrap interval, the p-value of Wilcoxon's
    signed-rank test, and the numbers of cases that the first system wins, ties and loses. Holm's correction covers all
    tests of the command. The systems are ranked by their cumulative rank, averaged over the cases; the cumulative rank
    of a case is the mean rank over regions and ranked metrics.

    Args:
        folders: two or more evaluation folders, written by this command or by a bundle's evaluate.yaml.
        output: folder for comparison.csv and ranking.csv, which are replaced.
        names: names of the systems, such as ours,theirs; by default the shortest distinct ends of the folders' paths.
    """
    from scripts.evaluate import compare as comparing  # late imports: `--help` stays fast
    from scripts.evaluate import folders as several

    paths = several.named_folders("compare", [str(folder) for folder in folders], names)
    target = None if output is None else _output(output, {})
    comparison = comparing.compare(comparing.read_all(paths))
    if target is not None:
        comparing.write(comparison, target)
    show(*comparing.lines(comparison), *([] if target is None else ["", str(target)]))


def pool(
    *folders: str,
    output: str,
    names: str | Sequence[str] | None = None,
    slices: str = "chosen",
    background: str | None = None,
) -> None:
    """Merge evaluations of different cases, such as the folds of a cross-validation, into a single evaluation.

    Each case keeps its scores; nothing is scored again. Means, intervals and counts are over all cases.

    Args:
        folders: two or more folders of evaluations by the same protocol, as for compare.
        output: folder for metrics.csv, lesions.csv, cases.json, summary.json and evaluation.html. Earlier files are
            moved aside. cases.json and the page name the evaluation of each case.
        names: names of the evaluations, such as fold0,fold1; by default the shortest distinct ends of the paths.
        slices: cases with a page to scroll through the slices: none, chosen (the cases of evaluation.html) or all.
        background: modality of the slices in pictures; by default the modality on which the labels stand out most.
    """
    OPTIONS["slices"](slices)
    from scripts.evaluate import folders as several

    paths = several.named_folders("pool", [str(folder) for folder in folders], names)
    target = _output(output, {name: str(folder) for name, folder in paths.items()})
    details = several.pool(paths)._replace(background=background)
    check_background(background, details.files)
    _publish(target, details, slices)


def _publish(folder: Path, details: Details, slices: str) -> None:
    """Publish the files and pages of an evaluation; warn if a page cannot be drawn."""
    from common.pages import results  # late import: `--help` stays fast

    lines = results.write(begin(folder, "output"), details, slices)
    finish(folder)
    show(*lines, "", str(folder / (PAGE if (folder / PAGE).is_file() else METRICS)))


def _output(output: str, inputs: Mapping[str, str]) -> Path:
    """Return the output folder; raise an InputError if it is an input folder."""
    folder = expand_home(output, f"--output={output}")
    for name, value in inputs.items():
        if expand_home(value, f"{name}={value}").resolve() == folder.resolve():
            raise InputError(f"--output={output}: the same folder as {name}; expected a different folder")
    return folder


def _scores(
    cases: Sequence[CaseFiles], protocol: Protocol, convention: str, workers: int
) -> dict[str, dict[str, Scores]]:
    """Score all cases in worker processes; return the scores by case and region.

    If cases fail, raise an InputError with the first error and the number of further errors.
    """
    voxel = np.ones((1, 1, 1), bool)
    protocol.measure(voxel, voxel, (1, 1, 1))  # imports everything once, before the workers start
    work = partial(_attempt, protocol=protocol, convention=convention)
    done = map_in_processes(work, cases, workers, " scored")
    faults = [result for result in done if isinstance(result, str)]
    if faults:
        further = len(faults) - 1
        more = f" ({further} more of {len(cases)} cases {'has' if further == 1 else 'have'} errors)" if further else ""
        raise InputError(faults[0] + more)
    return {files.name: measured for files, measured in zip(cases, done, strict=True)}


def _attempt(files: CaseFiles, protocol: Protocol, convention: str) -> Any:
    """Return a case's scores by region, or an error message as text."""
    try:
        return protocol.score(*masks_of(files, convention))
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{files.reference}: out of memory; use fewer --workers"


if __name__ == "__main__":
    run({"protocols": protocols, "page": page, "compare": compare, "pool": pool}, "evaluate", default=evaluate)
