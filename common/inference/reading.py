"""Read cases.json, the record of an evaluation from `common.inference.results`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.regions import display_order, regions_of
from ..errors import InputError, within
from ..files import existing_folder, read_json
from ..metrics.cards import Protocol, Scores
from ..metrics.lesions import Lesion
from ..metrics.protocols import protocol as protocol_of
from .results import CASES, CaseFiles, Details

EVALUATION = "an evaluation by scripts.evaluate or evaluate.yaml"
KEYS = ("name", "label_convention", "protocol", "settings", "cases")


def read(folder: str | Path) -> Details:
    """Read an evaluation, with its cases sorted by name; raise `InputError` if cases.json is missing or incomplete."""
    folder = existing_folder(folder, str(folder), EVALUATION)
    path = folder / CASES
    content = read_json(path, EVALUATION, {"type": "object", "required": KEYS})
    with within(path):
        regions = display_order(regions_of(content["label_convention"]))
        protocol = protocol_of(content["protocol"], content["settings"].get("challenge"))
    if content["settings"] != protocol.settings:
        raise InputError(f"{path}: settings {content['settings']}; expected {protocol.settings}, of {protocol.name}")
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
