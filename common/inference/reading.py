"""Read cases.json, the record of an evaluation from `common.inference.results`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.layouts.listing import UNPRINTABLE
from ..data.regions import display_order, regions_of
from ..errors import InputError, within
from ..files import existing_folder, valid_json
from ..metrics.cards import Protocol, Scores
from ..metrics.lesions import Lesion
from ..metrics.protocols import protocol as protocol_of
from ..schemas import array, check_schema, entries, mapping, only
from .results import CASES, CaseFiles, Details

EVALUATION = "an evaluation by scripts.evaluate or evaluate.yaml"
TEXT = {"type": "string", "pattern": rf"\A[^{UNPRINTABLE.pattern[1:]}+\Z"}
PATH = {"type": "string", "pattern": r"\A(?!([^\0]*/)?\.\.(/|\Z))[^\0]+\Z"}  # without the part ".."; see `check_images`
TEXTS = mapping({"type": "string"})
OPTIONAL_TEXT = {"type": ["string", "null"]}
FLAG, COUNT, AMOUNT = {"type": "boolean"}, {"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0}
SHARE = AMOUNT | {"maximum": 1}
MADE = entries(  # see `common.made.made_by`
    {"command": {"type": "string"}, "started": {"type": "string"}, "git_commit": OPTIONAL_TEXT, "cohort": OPTIONAL_TEXT}
    | {"versions": TEXTS, "made_up": FLAG, "checkpoints": TEXTS},
    split=OPTIONAL_TEXT,
    cleanup=OPTIONAL_TEXT,
)
HEAD = entries(
    {"name": {"type": "string"}, "label_convention": {"type": "string"}, "protocol": {"type": "string"}}
    | {"settings": {"type": "object"}, "cases": {"type": "object"}},
    made=MADE,
)
LESION = only(
    {"is_reference": FLAG, "volume": AMOUNT, "is_scored": FLAG, "is_found": FLAG, "dice": SHARE}
    | {"hd95": AMOUNT | {"type": ["number", "null"]}}
    | {"centre": array(COUNT, minItems=3, maxItems=3)}
)


def _schema_of_cases(protocol: Protocol, regions: Iterable[str]) -> dict[str, Any]:
    """Return the JSON schema of cases scored by a protocol."""
    values = only({name: SHARE if unit == "1" else AMOUNT for name, unit in protocol.units.items()})
    volumes = array(AMOUNT, minItems=2, maxItems=2)
    scores = entries({"values": values, "volumes_mm3": volumes, "lesions": array(LESION)})
    case = entries(
        {
            "prediction": PATH | {"type": ["string", "null"]},
            "reference": PATH,
            "regions": only(dict.fromkeys(regions, scores)),
        },
        part=TEXT,
        missing_modalities=array(TEXT),
        modalities=mapping(PATH, TEXT),
    )
    names = {"pattern": r"\A(?!\.\.?\Z)[^/\x00-\x1f]+\Z"}  # case names become file names of pages
    return mapping(case, names, minProperties=1)


def read(folder: str | Path) -> Details:
    """Read an evaluation, with its cases sorted by name; raise `InputError` if cases.json is missing or invalid."""
    folder = existing_folder(folder, str(folder), EVALUATION)
    path = folder / CASES
    content = valid_json(path, EVALUATION, HEAD)
    with within(path):
        regions = display_order(regions_of(content["label_convention"]))
        protocol = protocol_of(content["protocol"], content["settings"].get("challenge"))
    if content["settings"] != protocol.settings:
        raise InputError(f"{path}: settings {content['settings']}; expected {protocol.settings}, of {protocol.name}")
    check_schema(content["cases"], _schema_of_cases(protocol, regions), f"{path}: cases", EVALUATION)
    cases = dict(sorted(content["cases"].items()))
    scores = {
        case: {region: _scores(entry["regions"][region], protocol) for region in regions}
        for case, entry in cases.items()
    }
    files = [_files(folder, case, entry) for case, entry in cases.items()]
    return Details(content["name"], content["label_convention"], protocol, files, scores, content.get("made", {}))


def _scores(entry: Mapping[str, Any], protocol: Protocol) -> Scores:
    prediction, reference = entry["volumes_mm3"]
    lesions = tuple(map(_lesion, entry["lesions"]))
    return Scores({name: entry["values"][name] for name in protocol.units}, lesions, (prediction, reference))


def _lesion(entry: Mapping[str, Any]) -> Lesion:
    hd95 = math.inf if entry["hd95"] is None else entry["hd95"]
    return Lesion(**{**entry, "centre": tuple(entry["centre"]), "hd95": hd95})


def _files(folder: Path, case: str, entry: Mapping[str, Any]) -> CaseFiles:
    prediction = None if entry["prediction"] is None else folder / entry["prediction"]
    images = tuple((name, folder / file) for name, file in entry.get("modalities", {}).items())
    missing = tuple(entry.get("missing_modalities", ()))
    return CaseFiles(case, prediction, folder / entry["reference"], images, missing, entry.get("part"))


def check_images(folder: str | Path, cases: Iterable[CaseFiles], data: Sequence[str | Path] = ()) -> None:
    """Refuse an evaluation that lists files outside its folder and `data`, as a page could then show private scans.

    Args:
        folder: Folder of the evaluation; links that lead outside are refused.
        cases: Cases of the evaluation.
        data: Further folders with files that may be read; links in these folders are trusted.

    Raises:
        InputError: a listed file is outside these folders.
    """
    inside, trusted = Path(folder).resolve(), [Path(root).absolute() for root in data]
    for case in cases:
        for file in filter(None, (case.prediction, case.reference, *(file for _, file in case.images))):
            if not (
                file.resolve().is_relative_to(inside) or any(file.absolute().is_relative_to(root) for root in trusted)
            ):
                hint = f"if you trust the evaluation, add --data={file.parent} or a parent folder"
                raise InputError(f"{file}: listed by {folder}, but outside it; {hint}")
