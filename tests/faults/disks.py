"""Disks that fill while a command writes, by a real limit on the size of files; what was there before stays."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from common.ssl.networks import SSLHead
from tests.faults.table import Fault, plain

BRATS = "brats_finetune"
FULL = "File too large; expected a …"


def _network(folder: Path, _: Path) -> None:
    torch.save({"network": SSLHead(2, "micro").state_dict()}, folder / "foreign.pt")


def _flow(folder: Path, _: Path) -> None:
    steps = [{"step": "all", "text": "Participants", "people": 6, "visits": 6, "excluded": []}]
    content = {"name": "a", "layout": "A", "steps": steps, "splits": {"training": {"people": 6, "visits": 6}}}
    (folder / "flow.json").write_text(json.dumps(content))


ROWS: list[tuple[str, str, int, str, Callable[[Path, Path], object]]] = [  # with the bytes of a file
    (
        "scripts.weights",
        "convert {folder}/foreign.pt --output={folder}/new.pt --modalities=T1,FLAIR",
        2**16,
        f"{{folder}}/new.pt: {FULL}",
        _network,
    ),
    ("scripts.consort", "{folder}/flow.json --output={output}/flow.svg", 2**11, f"{{output}}/flow.svg: {FULL}", _flow),
    (
        "scripts.phantoms",
        "make --layout=atlas --subjects=1 --spacing=4 --output={output}/atlas --workers=1",
        2**14,
        f"{{output}}/atlas/….nii.gz: {FULL}",
        lambda folder, cohorts: None,
    ),
]
FAULTS = [
    *(
        Fault(f"{module}: a full disk", module, arguments, line, prepare=prepare, disk=most)
        for module, arguments, most, line, prepare in ROWS
    ),
    plain("a full disk", BRATS, "--save_interval=1", f"{{output}}/models/….pt: {FULL}", disk=2**20),
]
