"""Score predictions, draw pages of evaluations, compare and pool them: `python -m scripts.evaluate [COMMAND]`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.data.volumes import is_made_up
from common.errors import InputError, check_number, choice, show
from common.files import expand_home, write_csv
from common.locks import claimed
from common.metrics.cards import Protocol, Scores
from common.metrics.protocols import PROTOCOLS
from common.metrics.protocols import protocol as protocol_of
from scripts import cli
from scripts.evaluate.cases import Case, find_cases
from scripts.pools import map_in_processes


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
        output: folder for metrics.csv, summary.json, cases.json and evaluation.html. Results of an earlier evaluation
            are moved aside.
        challenge: variant of a protocol, such as MET for brats; by default the first.
        missing: worst counts a missing prediction as empty; by default a missing prediction is an error.
        dataset_dir: folder that the datalist's paths are relative to.
        split: split of the datalist.
        label_convention: label convention of a folder of references; by default the protocol's, or lesion=1.
        workers: processes; 0 for one per core.
        slices: cases with a page to scroll through the slices: none, chosen (the cases of evaluation.html) or all.
        background: modality of the slices in pictures; by default each case's first.
    """
    choice("slices", slices, SLICES)
    choice("missing", missing or "worst", ["worst"])
    check_number("workers", workers, int, 0, 1024)
    variant = None if challenge is None else str(challenge)
    selected = None if protocol is None else protocol_of(protocol, variant)
    convention, cases = find_cases(predictions, references, selected, missing, dataset_dir, split, label_convention)
    rules = selected or protocol_of(None, variant, convention)
    folder = _output(output, predictions, references)
    from common import made as origin  # late imports: `--help` stays fast
    from common.inference.evaluation import entry_of, new_record

    source = expand_home(predictions, predictions)
    stated = origin.read_origin(source) or {"checkpoints": {}, "settings": {}}
    with claimed("output", folder):
        scores = _scores(cases, rules, convention, workers)
        scored = split if dataset_dir else stated.get("split")
        settings = {"split": scored, "cleanup": origin.stated(stated, "cleanup")}
        made = origin.origin_of(settings, is_made_up(cases[0].reference)) | {"checkpoints": stated["checkpoints"]}
        record = new_record(source.resolve().name, convention, rules, made)
        for case, measured in zip(cases, scores, strict=True):
            record["cases"][case.name] = entry_of(folder, measured, case.prediction, case.reference, case.images)
        _publish(folder, record, rules, slices, background)


SLICES = ("none", "chosen", "all")


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


def page(folder: str, slices: str = "chosen", background: str | None = None) -> None:
    """Draw the page of an evaluation, FOLDER/evaluation.html, from the files in its folder. Nothing is scored.

    Args:
        folder: folder of an evaluation with cases.json, written by this command or by a bundle's evaluate.yaml. The
            label maps and images that cases.json lists are read for the pictures.
        slices: cases with a page to scroll through the slices, FOLDER/slices/CASE.html: none, chosen or all.
        background: modality of the slices in pictures; by default each case's first.
    """
    from scripts.pages.evaluation import write_pages  # late import: `--help` stays fast

    show(write_pages(expand_home(folder, str(folder)), slices, background))


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
    from scripts.evaluate import several  # late import: `--help` stays fast

    tests, ranking = several.compare(*several.read_all([str(folder) for folder in folders], names))
    show(*several.lines(tests, ranking))
    if output is not None:
        folder = _output(output)
        write_csv(folder / "comparison.csv", [several.PairedTest._fields, *tests])
        write_csv(folder / "ranking.csv", [several.Rank._fields, *ranking])
        show("", folder)


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
        output: folder for metrics.csv, summary.json, cases.json and evaluation.html. Results of an earlier evaluation
            are moved aside. cases.json and the page name the evaluation of each case.
        names: names of the evaluations, such as fold0,fold1; by default the shortest distinct ends of the paths.
        slices: cases with a page to scroll through the slices: none, chosen (the cases of evaluation.html) or all.
        background: modality of the slices in pictures; by default each case's first.
    """
    choice("slices", slices, SLICES)
    from scripts.evaluate import several

    records, protocol = several.read_all([str(folder) for folder in folders], names)
    target = _output(output, *map(str, folders))
    with claimed("output", target):
        _publish(target, several.pool(records), protocol, slices, background)


def _publish(folder: Path, record: dict[str, Any], protocol: Protocol, slices: str, background: str | None) -> None:
    """Write the files, then the pages, of an evaluation."""
    from common.inference.evaluation import set_aside, write  # late import: `--help` stays fast

    set_aside(folder)
    show(*write(folder, record, protocol), "")
    page(str(folder), slices, background)


def _output(output: str, *inputs: str) -> Path:
    """Return the output folder; raise an InputError if it is an input folder."""
    folder = expand_home(output, f"--output={output}")
    for value in inputs:
        if expand_home(value, value).resolve() == folder.resolve():
            raise InputError(f"--output={output}", "an input", "a different folder")
    return folder


def _scores(cases: Sequence[Case], protocol: Protocol, convention: str, workers: int) -> list[Mapping[str, Scores]]:
    """Return the scores of each case by region, scored in worker processes; raise the first InputError of all cases."""
    voxel = np.ones((1, 1, 1), bool)
    protocol.measure(voxel, voxel, (1, 1, 1))  # imports everything once, before the workers start
    return map_in_processes(partial(_score, protocol=protocol, convention=convention), cases, workers, " scored")


def _score(case: Case, protocol: Protocol, convention: str) -> Mapping[str, Scores]:
    from scripts.evaluate.records import read_masks

    return protocol.score(*read_masks(case.prediction, case.reference, convention))


if __name__ == "__main__":
    cli.run({"protocols": protocols, "page": page, "compare": compare, "pool": pool}, "evaluate", default=evaluate)
