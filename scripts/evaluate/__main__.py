"""Score predictions, draw pages of evaluations, compare and pool them: `python -m scripts.evaluate [COMMAND]`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.data.volumes import is_made_up
from common.errors import aligned, choice, show
from common.files import claimed, write_csv
from common.inference.evaluation import entry_of, new_record, set_aside, write
from common.made import origin_of, read_origin
from common.metrics.protocols import PROTOCOLS, Protocol, Scores
from common.metrics.protocols import protocol as protocol_of
from scripts import cli
from scripts.evaluate import several
from scripts.evaluate.cases import Case, find_cases, read_masks
from scripts.evaluate.definitions import meaning_of, metrics_of, title_of
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
) -> None:
    """Score label maps against references by case, region and lesion; nothing is written before all are scored.

    Other commands: protocols, page, compare (evaluations of the same cases), pool (evaluations of different cases).

    Args:
        predictions: folder of CASE.nii.gz or CASE.nii.
        references: folder of files with the same names; or a datalist (JSON) with labels, which are the references.
        output: folder for the scores and evaluation.html; an earlier evaluation in it is moved aside.
        protocol: scoring protocol (the command protocols prints all); by default that of the labels' challenge, or
            lesions (Dice and lesion F1) for your own labels.
        challenge: variant of a protocol, such as MET for brats; by default the first.
        missing: worst counts a missing prediction as empty; by default a missing prediction is an error.
        dataset_dir: folder that the datalist's paths are relative to.
        split: split of the datalist.
        label_convention: label convention of a folder of references; by default the protocol's, or lesion=1.
        workers: processes; 0 for one per core.
    """
    choice("missing", missing or "worst", ["worst"])
    selected = None if protocol is None else protocol_of(protocol, challenge)
    convention, cases = find_cases(predictions, references, selected, missing, dataset_dir, split, label_convention)
    rules = selected or protocol_of(None, challenge, convention)
    folder = Path(output).expanduser()
    source = Path(predictions).expanduser()
    stated = read_origin(source)
    with claimed("output", folder):
        voxel = np.ones((1, 1, 1), bool)
        rules.measure(voxel, voxel)  # imports everything once, before the workers start
        work = partial(_score, protocol=rules, convention=convention)
        scores = map_in_processes(work, cases, workers, " scored")
        settings = {"split": split if dataset_dir else stated.get("split")}
        settings["cleanup"] = stated["settings"].get("cleanup")
        made = origin_of(settings, is_made_up(cases[0].reference)) | {"checkpoints": stated["checkpoints"]}
        record = new_record(source.resolve().name, convention, rules, made)
        for case, measured in zip(cases, scores, strict=True):
            record["cases"][case.name] = entry_of(folder, measured, case.prediction, case.reference, case.images)
        _publish(folder, record, rules)


def protocols() -> None:
    """Print the protocols: definition of a lesion, label conventions, settings, and metrics with their units."""
    for name, card in PROTOCOLS.items():
        default = protocol_of(name)
        show(f"{name}: {title_of(card)}", f"  {meaning_of(default)}")
        show(f"  label conventions: {', '.join(card.conventions) or 'all'}, or regions of your own")
        for settings in (card.settings, *({"challenge": name, **values} for name, values in card.challenges.items())):
            show("  " + ", ".join(f"{name} {value}" for name, value in settings.items()))
        for metric in metrics_of(default).values():
            kind = "fraction; higher" if metric.unit == "1" else f"{metric.unit}; lower"
            show(f"  {metric.name} ({kind} is better): {metric.meaning}")
        show("")


def page(folder: str, slices: str = "chosen") -> None:
    """Draw the page of an evaluation, FOLDER/evaluation.html, from cases.json and the files that it lists.

    Args:
        folder: folder of an evaluation, written by this command or by a bundle's evaluate.yaml.
        slices: cases with a page to scroll through the slices, FOLDER/slices/CASE.html: none, chosen (those of
            evaluation.html) or all.
    """
    from scripts.pages.evaluation import write_pages  # late import: `--help` stays fast

    show(write_pages(Path(folder).expanduser(), slices))


def compare(*folders: str, output: str | None = None, names: str | Sequence[str] | None = None) -> None:
    """Compare evaluations of the same cases by the same protocol, pair by pair.

    Args:
        folders: two or more evaluation folders, written by this command or by a bundle's evaluate.yaml.
        output: folder for comparison.csv, with bootstrap intervals, Wilcoxon's test and Holm's correction.
        names: names of the systems, such as ours,theirs; by default the folders as given.
    """
    tests = several.compare(*several.read_all(folders, names))
    rounded = [[f"{it:.4g}" if isinstance(it, float) else it for it in test.values()] for test in tests]
    show(*aligned([[*tests[0]], *rounded]))
    if output is not None:
        file = Path(output).expanduser() / "comparison.csv"
        write_csv(file, [[*tests[0]], *([*test.values()] for test in tests)])
        show("", file)


def pool(*folders: str, output: str, names: str | Sequence[str] | None = None) -> None:
    """Merge evaluations of different cases, such as the folds of a cross-validation, into a single evaluation.

    Args:
        folders: two or more folders of evaluations by the same protocol, as for compare.
        output: folder for the scores of all cases and evaluation.html; an earlier evaluation in it is moved aside.
        names: names of the evaluations, such as fold0,fold1; by default the folders as given.
    """
    records, protocol = several.read_all(folders, names)
    target = Path(output).expanduser()
    with claimed("output", target):
        _publish(target, several.pool(records), protocol)


def _publish(folder: Path, record: dict[str, Any], protocol: Protocol) -> None:
    set_aside(folder)
    write(folder, record, protocol)
    page(str(folder))


def _score(case: Case, protocol: Protocol, convention: str) -> Mapping[str, Scores]:
    """Return a case's scores by region."""
    return protocol.score(*read_masks(case.prediction, case.reference, convention))


if __name__ == "__main__":
    cli.run({"protocols": protocols, "page": page, "compare": compare, "pool": pool}, "evaluate", default=evaluate)
