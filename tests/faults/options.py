"""Mistakes in the options of a run and in its config files, and what the machine lacks or another process holds."""

import json
import shlex
from pathlib import Path

import torch

from common.locks import claim
from common.ssl.networks import SSLHead
from tests.faults.table import BRATS, Fault, plain, wrapped, written

UKB = "ukb_ssl_pretrain"


def option(command, words: str, line: str, bundle: str = BRATS, config: str = "train") -> Fault:
    """A mistake in one option, with which the line begins."""
    return command(bundle, shlex.quote(words), f"{words}: {line}", config)


OPTIONS = [
    *(
        option(command, "--lerning_rate=5", "no such option in …train.yaml; did you mean --learning_rate?")
        for command in (plain, wrapped)
    ),
    option(plain, "--overlab=0.1", "no such option in …evaluate.yaml; did you mean --overlap?", config="evaluate"),
    option(plain, "--loss::temperature=-1", "DiceLoss: got an unexpected keyword argument 'temperature'"),
    option(plain, "--init_id=begin", "no such key in …train.yaml; expected initialize"),
    option(plain, "--=5", "no name; expected that of an option"),
    option(wrapped, "--network::size=1", "…; network has no keys"),  # MONAI's command shows a traceback
    option(plain, "--loss::_target_=DiceLos", "no class or function DiceLos; did you mean DiceLoss?"),
    option(wrapped, "--optimizer::lr=abc", "optimizer cannot be built: TypeError: '<=' not supported between …"),
    option(plain, "--loss::temperature=-1", "loss cannot be built: ValueError: temperature -1: expected …", UKB),
    option(plain, "--learning_rate=$1 / 0", "learning_rate cannot be built: ZeroDivisionError: division by zero"),
    option(plain, "--batch_size=two", "expected a whole number from 1"),
    option(plain, "--ckpt_dir=~no_such_user/run", "no home folder is looked up here; expected its path, or …"),
    option(wrapped, "--dataset_dir=~no_such_user/scans", "…; expected a path that can be read"),
    option(plain, "--batch_size=1000000000", "the crops alone, …, take … GiB; this machine has … GiB"),
    option(plain, "--num_workers=9999", "expected at most …"),
    option(plain, "--batch_size=1000", "a step keeps … GiB for its backward pass; this machine has … GiB; set …"),
]
OWN = "{folder}/own.yaml"
FILES = [
    plain(
        BRATS,
        "",
        f"{OWN}: lerning_rate: 5: no such key in …; did you mean learning_rate?",
        f"['configs/train.yaml','{OWN}']",
        prepare=written("own.yaml", "lerning_rate: 5"),
    ),
    *(
        wrapped(BRATS, "", line, f"train {OWN}", prepare=written("own.yaml", content))
        for content, line in (  # where MONAI's command shows a traceback, but for the first
            ("validate: {}", f"{OWN}: validate: {{}}: leaves no validate::evaluator, which … refers to"),
            ("a: [1\nb: }\n", f"--config_file={OWN}: not YAML: line 2: expected ',' or ']', but got ':'"),
        )
    ),
    wrapped(BRATS, "", f"--config_file={OWN}: no such file", f"train {OWN}"),
    wrapped("brats_finetun", "", "BUNDLE brats_finetun: no such; did you mean brats_finetune?"),
]


def hold(folder: Path, _: Path) -> None:
    """The process of the tests has the folder until it ends."""
    torch.save({"network": {"a": torch.zeros(1)}}, folder / "model.pt")
    claim("output_dir", folder / "held")


HELD = "in use by process … on … since …; expected a folder of its own, or the end of that run"
CHECKPOINT = "--checkpoint={folder}/model.pt"
IN_USE = [
    command(BRATS, f"--{name}={{folder}}/held {more}", f"--{name}={{folder}}/held: {HELD}", config, prepare=hold)
    for command, name, config, more in (
        (plain, "ckpt_dir", "train", ""),
        (wrapped, "output_dir", "train", ""),
        (wrapped, "output_dir", "evaluate", CHECKPOINT),
    )
]


def _network(folder: Path, _: Path) -> None:
    torch.save({"network": SSLHead(2, "micro").state_dict()}, folder / "foreign.pt")


FLOW = {
    "name": "a",
    "layout": "A",
    "steps": [{"step": "all", "text": "Participants", "people": 6, "visits": 6, "excluded": []}],
    "splits": {"training": {"people": 6, "visits": 6}},
}
FULL = "File too large; expected a …"
LACKING = [
    plain(
        BRATS,
        "--batch_size=6 --patch_size=[64,64,64]",
        "out of memory on the host, … asked for: set --activation_checkpointing=true, or lower --batch_size=6 or …",
        memory=2**30,
    ),
    plain(BRATS, "--save_interval=1", f"{{output}}/models/….pt: {FULL}", disk=2**20),
    Fault(
        "scripts.weights",
        "convert {folder}/foreign.pt --output={folder}/new.pt --modalities=T1,FLAIR",
        f"{{folder}}/new.pt: {FULL}",
        _network,
        disk=2**16,
    ),
    Fault(
        "scripts.consort",
        "{folder}/flow.json --output={output}/flow.svg",
        f"{{output}}/flow.svg: {FULL}",
        written("flow.json", json.dumps(FLOW)),
        disk=2**11,
    ),
    Fault(
        "scripts.phantoms",
        "make --layout=atlas --subjects=1 --spacing=4 --output={output}/atlas --workers=1",
        f"{{output}}/atlas/….nii.gz: {FULL}",
        disk=2**14,
    ),
]
FAULTS = [*OPTIONS, *FILES, *IN_USE, *LACKING]
