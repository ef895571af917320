"""Pool evaluations of different cases, such as those of the folds of a cross-validation, into one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.inference import results
from common.inference.reading import Details, read_details
from common.inference.results import CaseFiles
from common.metrics.protocols import Scores
from scripts.evaluate.folders import check_protocol

__all__ = ["pool"]


def pool(folders: Mapping[str, Path], output: Path) -> dict[str, Any]:
    """Write one evaluation of the cases of several; no voxel is read, and no case is scored again.

    Args:
        folders: of the evaluations by their names, which become the `part` of their cases.
        output: folder of the pooled evaluation; older files are replaced.

    Returns:
        The content of its summary.json.

    Raises:
        InputError: an evaluation cannot be read (see `common.inference.reading.read_details`); two of them share a
            case, or differ in protocol, settings or label convention; a file cannot be written.
    """
    found = {name: read_details(folder) for name, folder in folders.items()}
    first = next(iter(found))
    cases: dict[str, tuple[CaseFiles, Mapping[str, Scores], Path]] = {}
    for name, details in found.items():
        _check_alike(folders[first], found[first], folders[name], details)
        for files in details.files:
            if files.name in cases:
                other = cases[files.name][-1]
                raise InputError(f"{folders[name]}: case {files.name} is in {other}, too; expected each case once")
            cases[files.name] = files._replace(part=name), details.scores[files.name], folders[name]
    names = sorted(cases)
    titles = dict.fromkeys(details.name for details in found.values())
    return results.write(
        output,
        {name: cases[name][1] for name in names},
        found[first].protocol,
        [cases[name][0] for name in names],
        found[first].convention,
        ", ".join(titles),
    )


def _check_alike(first: Path, expected: Details, other: Path, found: Details) -> None:
    check_protocol(first, expected.protocol, other, found.protocol)
    if found.convention != expected.convention:
        raise InputError(f"{other}: label_convention {found.convention}; expected {expected.convention}, as in {first}")
