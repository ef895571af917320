"""Datalists that break a rule, in the command that checks them and in a training."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.table import TINY, Fault

LONG = 5000  # characters
Content = dict[str, Any]


def _changed(change: Callable[[Content], object]) -> Callable[[str], str]:
    """The text of the datalist after a change of its content."""

    def write(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return write


def _entry(**values: Any) -> Callable[[str], str]:
    """Other values in the first subject for training."""
    return _changed(lambda content: content["training"][0].update(values))


def _without(key: str) -> Callable[[str], str]:
    return _changed(lambda content: content.pop(key))


def _all(**values: Any) -> Callable[[str], str]:
    return _changed(lambda content: content.update(values))


def _image(path: str | None) -> Callable[[str], str]:
    """Another path of the first subject's FLAIR."""
    return _changed(lambda content: content["training"][0]["image"].__setitem__(0, path))


TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda _: "", "not JSON (…); expected a datalist"),
    "cut": (lambda text: text[:-9], "not JSON (…); expected a datalist"),
    "a list": (lambda _: "[]", "$ = []: [] is not of type 'object'"),
    "nested": (lambda _: "[" * 10**5, "nested too deeply; expected a datalist"),
    "a key twice": (lambda text: '{"name": "a", ' + text.lstrip()[1:], 'not JSON (the key "name" occurs twice); …'),
    "NaN as a name": (lambda text: text.replace('"brats"', "NaN", 1), "$.name = NaN: nan is not of type 'string'"),
    "no name": (_without("name"), "$ = …: 'name' is a required property"),
    "no modalities": (_without("modalities"), "$ = …: 'modalities' is a required property"),
    "no convention": (_without("label_convention"), "label_convention and regions: neither; expected one of the two"),
    "two conventions": (_all(regions={"core": 1}), "label_convention and regions: both; expected one of the two"),
    "an unknown convention": (_all(label_convention="brats2077"), "label_convention=brats2077: expected one of …"),
    "a modality twice": (_all(modalities=["T1"] * 4), "$.modalities = …: … has non-unique elements"),
    "an unknown key": (_all(trainning=[]), "$ = …: Additional properties are not allowed ('trainning' was unexpected)"),
    "escape sequences": (_all(name="\x1b[31mred"), '"\\u001b[31mred": expected text of one line in Unicode'),
    "a subject as a number": (_entry(subject=7), "$.training[0].subject = 7: 7 is not of type 'string'"),
    "a blank subject": (_entry(subject=" "), "subject  : expected a name that files can have, …"),
    "a subject above": (_entry(subject=".."), "subject ..: expected a name that files can have, …"),
    "a subject with a slash": (_entry(subject="a/b"), "subject a/b: expected a name that files can have, …"),
    "a long subject": (_entry(subject="s" * LONG), "subject sss…: expected a name that files can have, …"),
    "a subject turned around": (_entry(subject="a\u202eb"), '"a\\u202eb": expected text of one line in Unicode'),
    "a subject of two lines": (_entry(subject="a\nb"), '"a\\nb": expected text of one line in Unicode'),
    "no image": (_entry(image=[None] * 4), "subject … has no image; expected one of FLAIR, T1ce, T1, T2"),
    "three images": (_entry(image=["a"] * 3), "subject … has 3 images; expected 4: FLAIR, T1ce, T1, T2"),
    "an absolute path": (_image("/etc/passwd"), "subject …: path /etc/passwd; expected one relative to and below root"),
    "a path that escapes": (_image("a/../../b"), "subject …: path a/../../b; expected one relative to and below root"),
    "a long path": (_image("a/" * LONG), "subject …: path a/a/…... of 10000 characters; expected one of 4000 bytes …"),
    "a long file name": (_image("f" * 300), "subject …: path fff…... of 300 characters; expected one of 4000 bytes …"),
}
IN_TRAINING = {  # what checking one list alone does not find
    "a subject twice": (
        _changed(lambda content: content["validation"].append(content["training"][0])),
        "datalist {folder}/list.json: subject … is in training and again in validation",
    ),
    "one file for two modalities": (
        _changed(lambda content: content["training"][0].update(image=content["training"][0]["image"][:1] * 4)),
        "datalist {folder}/list.json: subject …: … is its FLAIR and its T1ce; expected two",
    ),
    "a file of another subject": (
        _changed(lambda content: content["validation"][0].update(image=content["training"][0]["image"])),
        "subject …: …: also an image of subject …; expected an image of its own",
    ),
    "no subject for training": (
        _changed(lambda content: content.update(training=[])),
        "{folder}/list.json: the split training has no subject; splits that have: validation, testing",
    ),
    "a subject without label": (
        _changed(lambda content: content["training"][0].pop("label")),
        "datalist {folder}/list.json: subject … of training has no label; expected one",
    ),
}


def _written(change: Callable[[str], str]) -> Callable[[Path, Path], object]:
    return lambda folder, cohorts: (folder / "list.json").write_text(change((cohorts / "brats.json").read_text()))


PLACES = "--datalist={folder}/list.json --dataset_dir={cohorts}/brats --output_dir={output} --ckpt_dir={output}/models"
FAULTS = [
    Fault(
        f"datalists check: {name}",
        "scripts.datalists",
        "check --datalist={folder}/list.json --root={cohorts}/brats --output={output}",
        f"datalist {{folder}}/list.json: {line}",
        prepare=_written(change),
    )
    for name, (change, line) in TEXTS.items()
] + [
    Fault(
        f"training: {name}",
        "monai.bundle",
        f"run --config_file=configs/train.yaml {PLACES} {TINY}",
        line,
        "bundles/brats_finetune",
        prepare=_written(change),
    )
    for name, (change, line) in IN_TRAINING.items()
]
FAULTS += [
    Fault(
        f"{module}: a datalist that is a pipe",
        module,
        arguments,
        "datalist {folder}/list.json: not a regular file; expected …",
        place,
        prepare=lambda folder, _: os.mkfifo(folder / "list.json"),
    )
    for module, arguments, place in (
        ("scripts.datalists", "check --datalist={folder}/list.json --root={cohorts}/brats --output={output}", "."),
        ("monai.bundle", f"run --config_file=configs/train.yaml {PLACES} {TINY}", "bundles/brats_finetune"),
    )
]
