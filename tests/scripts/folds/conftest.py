"""A datalist of empty files, and a cross-validation of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.folds.setup import Setup, set_up

REGIONS = {"whole": [1, 2], "core": [2]}


@pytest.fixture
def own(tmp_path) -> Path:
    """The datalist own.json of nine people with T1 and FLAIR and two regions, whose files are in the folder data."""
    root = tmp_path / "data"
    root.mkdir()
    entries = []
    for number in range(9):
        files = [f"p{number}_{kind}.nii" for kind in ("t1", "flair", "seg")]
        for file in files:
            (root / file).touch()
        entries.append({"subject": f"p{number}", "image": files[:2], "label": files[2]})
    head = {"name": "own", "modalities": ["T1", "FLAIR"], "regions": REGIONS}
    splits = {"training": entries[:6], "validation": entries[6:8], "testing": entries[8:]}
    (tmp_path / "own.json").write_text(json.dumps(head | splits))
    return tmp_path / "own.json"


@pytest.fixture
def prepare(own) -> Callable[..., Setup]:
    """Sets up a cross-validation of two folds; arguments of `set_up` and options of the bundle replace these."""

    def prepared(folds=2, fold_to="testing", validation=1, person=None, **others):
        names = ("bundle", "datalist", "dataset_dir", "output", "overlays", "gpus")
        replaced = {name: others.pop(name) for name in names if name in others}
        arguments = {
            "bundle": "brats_finetune",
            "datalist": str(own),
            "dataset_dir": str(own.parent / "data"),
            "output": str(own.parent / "out"),
            "overlays": [],
            "gpus": 1,
        }
        fold_options = {"folds": folds, "fold_to": fold_to, "seed": 0, "validation": validation, "person": person}
        options = {"modalities": "['T1','FLAIR']"} | others
        return set_up(**arguments | replaced, fold_options=fold_options, options=options)

    return prepared
