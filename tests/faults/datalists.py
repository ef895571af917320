"""Datalists that break a rule, in the command that checks them and in a training."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.table import BRATS, Fault, Prepare, plain

Content = dict[str, Any]
LIST = "{folder}/list.json"
CHECK = f"check --datalist={LIST} --root={{cohorts}}/brats --output={{output}}"


def _text(change: Callable[[str], str]) -> Prepare:
    return lambda folder, cohorts: (folder / "list.json").write_text(change((cohorts / "brats.json").read_text()))


def _content(change: Callable[[Content], object]) -> Prepare:
    def write(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return _text(write)


def _entry(**values: Any) -> Prepare:
    """Other values in the first subject for training."""
    return _content(lambda content: content["training"][0].update(values))


def _pipe(folder: Path, _: Path) -> None:
    os.mkfifo(folder / "list.json")


PIPE = "not a regular file; expected …"
CHECKED: list[tuple[str, Prepare]] = [
    ("not JSON (…); expected a datalist", _text(lambda text: text[:-9])),
    ("nested too deeply; expected a datalist", _text(lambda _: "[" * 10**5)),
    ("$.name = NaN: nan is not of type 'string'", _text(lambda text: text.replace('"brats"', "NaN", 1))),
    (
        '"\\u001b[31mred": expected text of one line in Unicode',
        _content(lambda content: content.update(name="\x1b[31mred")),
    ),
    ('"a\\u202eb": expected text of one line in Unicode', _entry(subject="a\u202eb")),
    ("subject sss…: expected a name that files can have, …", _entry(subject="s" * 5000)),
    ("subject … has 3 images; expected 4: FLAIR, T1ce, T1, T2", _entry(image=["a"] * 3)),
    (PIPE, _pipe),
]
TRAINED: list[tuple[str, Prepare]] = [
    (f"datalist {LIST}: $ = …: 'name' is a required property", _content(lambda content: content.pop("name"))),
    (
        f"datalist {LIST}: subject … is in training and again in validation",
        _content(lambda content: content["validation"].append(content["training"][0])),
    ),
    (
        "subject …: …: also an image of subject …; expected an image of its own",
        _content(lambda content: content["validation"][0].update(image=content["training"][0]["image"])),
    ),
    (
        f"{LIST}: the split training has no subject; splits that have: validation, testing",
        _content(lambda content: content.update(training=[])),
    ),
    (f"datalist {LIST}: {PIPE}", _pipe),
]
FAULTS = [
    *(Fault("scripts.datalists", CHECK, f"datalist {LIST}: {line}", prepare) for line, prepare in CHECKED),
    *(plain(BRATS, f"--datalist={LIST}", line, prepare=prepare) for line, prepare in TRAINED),
]
