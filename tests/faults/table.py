"""A table of bad inputs: a command line, and the line with which it must end."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch

from common.locks import claim
from tests import kept
from tests.support import TINY

__all__ = ["BRATS", "FAULTS", "Fault", "train"]

BRATS = "brats_finetune"
Prepare = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Fault:
    """A command line with a mistake in its words or its input.

    Attributes:
        command: module for `python -m`, and its arguments. {folder} is an empty folder, {output} a folder that must
            stay unchanged, {cohorts} the folder of the cohorts, {data} `--dataset_dir` and `--datalist` of BraTS.
        line: last line of stderr after "error: "; `…` matches anything.
        prepare: writes the command's input into `folder`, from the folder of the cohorts.
        place: working directory, relative to the root of the repository.
        memory: memory limit beyond that of an idle test server, in bytes; None for no limit.
        disk: largest file size, in bytes; None for no limit.
    """

    command: str
    line: str
    prepare: Prepare = lambda folder, cohorts: None  # a default, not a method
    place: str = "."
    memory: int | None = None
    disk: int | None = None

    def words(self, places: Mapping[str, Path]) -> list[str]:
        """The command line with the places of a test: folder, output and cohorts."""
        return shlex.split(_filled(self.command, places))

    def matches(self, line: str, places: Mapping[str, Path]) -> bool:
        """Whether the last line of stderr is as expected."""
        expected = re.escape(f"error: {_filled(self.line, places)}").replace("…", ".*")
        return re.fullmatch(expected, line) is not None


def _filled(text: str, places: Mapping[str, Path]) -> str:
    text = text.replace("{data}", "--dataset_dir={cohorts}/brats --datalist={cohorts}/brats.json")
    for name, value in places.items():  # not str.format, because values may hold braces
        text = text.replace(f"{{{name}}}", str(value))
    return text


def written(name: str, content: str | bytes) -> Prepare:
    """Write a file into the folder."""
    return lambda folder, _: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


# Runs of a bundle

PLACES = f"{{data}} --output_dir={{output}} --ckpt_dir={{output}}/models {' '.join(TINY)}"
OWN = "{folder}/own.yaml"
FILE = "{folder}/model.pt"
FLAIR = "…{folder}/brats/…flair.nii.gz"
DAMAGED = "damaged: the checksum of … is wrong"
MADE = "--dataset_dir={folder}/brats --datalist={folder}/brats.json"


def train(options: str = "", overlay: str = "") -> str:
    """A training by `python -m scripts.run`; options come after those that make it small."""
    return f"scripts.run {BRATS} train {overlay} {PLACES} {options}"


def evaluate(options: str) -> str:
    """An evaluation by `python -m scripts.run`."""
    return f"scripts.run {BRATS} evaluate {{data}} --output_dir={{output}} --checkpoint={FILE} {options}"


def monai(options: str, line: str) -> Fault:
    """A training by MONAI's own command, in the folder of the bundle."""
    return Fault(
        f"monai.bundle run --config_file=configs/train.yaml {PLACES} {options}", line, place=f"bundles/{BRATS}"
    )


def states(count: int) -> Prepare:
    """Write states of a run, the last of them damaged."""

    def prepare(folder: Path, _: Path) -> None:
        (folder / "models").mkdir()
        for number in range(1, count + 1):
            state = folder / f"models/iteration-{number:07d}.pt"
            shutil.copy(kept.trained(BRATS) / "models/iteration-0000001.pt", state)
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1  # in a tensor: they are nearly all of the file
        state.write_bytes(content)

    return prepare


def checkpoint(folder: Path, _: Path) -> None:
    """Copy the weights of a training."""
    shutil.copy(kept.trained(BRATS) / "models/model.pt", folder)


def doctored(change: Callable[[Path], object], modality: str = "image") -> Prepare:
    """Link the cohort's files; `change` one file of a training subject and one of a testing subject."""

    def prepare(folder: Path, cohorts: Path) -> None:
        content = json.loads((cohorts / "brats.json").read_text())
        for path in (cohorts / "brats").rglob("*.nii.gz"):
            copy = folder / "brats" / path.relative_to(cohorts / "brats")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
        for split in ("training", "testing"):
            entry = content[split][0]
            file = folder / "brats" / (entry["label"] if modality == "label" else entry["image"][0])
            source = file.readlink()
            file.unlink()
            shutil.copy(source, file)
            change(file)
        (folder / "brats.json").write_text(json.dumps(content))
        checkpoint(folder, cohorts)

    return prepare


def relabel(file: Path) -> None:
    """Change all labels of a label map."""
    scan = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(np.asarray(scan.dataobj, np.float32) + 7, scan.affine), file)


def hold(folder: Path, _: Path) -> None:
    """Claim a folder for the process of the tests, until it ends."""
    torch.save({"network": {"a": torch.zeros(9)}, "metadata": {"modalities": ["FLAIR"]}}, folder / "model.pt")
    claim("output_dir", folder / "held")


HELD = "--output_dir={folder}/held: in use by process … on … since …; choose a different folder, or wait until …"
RUNS = [
    monai("--lerning_rate=5", "--lerning_rate=5: no such option; did you mean --learning_rate?"),
    monai("--patch_sizee=[32,32,32]", "--patch_sizee=[32, 32, 32]: no such option; did you mean --patch_size?"),
    monai(
        "--train::trainer::max_epochs=3",
        "--max_epochs=3: 3 steps, but the schedule has 1; expected a length set by --iterations and --val_interval",
    ),
    Fault(train("--batch_size=1000000"), "--batch_size=1000000: the crops alone …; the device has … GiB"),
    Fault(
        train(overlay=OWN),
        f"{OWN}: lerning_rate=5: no such key in …; did you mean learning_rate?",
        written("own.yaml", "lerning_rate: 5"),
    ),
    Fault(
        train(overlay=OWN),
        f"{OWN}: optimizer::lr=abc: TypeError: '<=' not supported …",
        written("own.yaml", "optimizer::lr: abc"),
    ),
    Fault(
        train(overlay=OWN),
        f"{OWN}: +loss={{'sigmoit': True}}: TypeError: DiceLoss.__init__() got an unexpected keyword …",
        written("own.yaml", "+loss: {sigmoit: true}"),
    ),
    Fault(
        train(overlay=OWN),
        f"{OWN}: imports=['$import torch']: NameError: name 'common' is not defined",
        written("own.yaml", "imports: [$import torch]"),
    ),
    Fault(train("--cohort='$1/0'"), "--cohort=$1/0: expected up to 100 letters, digits, spaces and . , ( ) ' + : -"),
    Fault(
        train(f"--pretrained={FILE}"),
        f"checkpoint {FILE}: cannot be read as tensors alone: …",
        written("model.pt", b"PK\3\4 cut short"),
    ),
    Fault(
        train("--ckpt_dir={folder}/models --iterations=2 --resume=true"),
        f"checkpoint …iteration-0000002.pt: {DAMAGED}; delete it to continue from iteration-0000001.pt",
        states(2),
    ),
    Fault(
        train("--ckpt_dir={folder}/models"),
        "--ckpt_dir={folder}/models: holds the iteration-0000001.pt of an earlier run; expected resume=true to …",
        states(1),
    ),
    Fault(
        train(MADE),
        f"{FLAIR}: Compressed file ended before …",
        doctored(lambda file: file.write_bytes(file.read_bytes()[:5000])),
    ),
    Fault(
        evaluate(MADE),
        "….nii.gz: label 7, 8, 9, 11; expected labels 0, 1, 2, 4 (brats2021)",
        doctored(relabel, "label"),
    ),
    Fault(
        evaluate("--protocol=isles"),
        "labels of brats2021: not scored by the protocol isles; expected --protocol=brats or dice…",
        checkpoint,
    ),
    Fault(evaluate("--output_dir={folder}/held"), HELD, hold),
    Fault(
        train("--batch_size=6 --patch_size=[64,64,64]"),
        "out of memory on the host: set --activation_checkpointing=true, or set --batch_size=auto …, or lower …",
        memory=2**30,
    ),
    Fault(
        evaluate("--num_workers=0"),
        "{output}/….nii.gz: cannot be written: File too large",
        checkpoint,
        disk=2**10,
    ),
    Fault(train("--save_interval=1"), "{output}/models/….pt: cannot be written: File too large", disk=2**20),
]

# The other commands

LIST = "--datalist={cohorts}/brats.json"
DATA = f"{LIST} --dataset_dir={{cohorts}}/brats"
NEW = "--output={folder}/new"
SCORES = "--predictions={folder}/a --references={folder}/b --output={output}"


def labels(folder: Path, cohorts: Path) -> None:
    """Write folders `a` and `b` with the same label map of the cohort."""
    source = next((cohorts / "brats").rglob("*_seg.nii.gz"))
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "one.nii.gz").write_bytes(source.read_bytes())


COMMANDS: dict[str, str] = {  # command line: its last line
    "scripts.report {folder}/none": "{folder}/none: no such folder; expected a folder that holds run.json files",
    f"scripts.datalists brats --root={{cohorts}}/brats {NEW} --validation=-1": (
        "--validation=-1: expected a number of people, or a fraction from 0 to below 1"
    ),
    f"scripts.datalists check {LIST} --root={{folder}}": "--root={folder}: none of the listed files is in this …",
    f"scripts.store brats_finetune --store={{cohorts}}/brats {DATA}": (
        "--store={cohorts}/brats: holds the scans; expected another folder, or a subfolder"
    ),
    f"scripts.store brats_finetune --store=/proc/store {DATA}": (
        "--store=/proc/store: No such file or directory; expected a folder that can be written to"
    ),
    f"scripts.folds brats_finetune {DATA} --folds=99 {NEW}": "--folds=99: more than the people with labels; …",
    "scripts.experiments pln quickstart": "ACTION=pln: expected one of plan, run, report",
    "scripts.experiments plan {folder}/none.yaml": "study {folder}/none.yaml: no such file; expected one of …",
    f"scripts.export brats_finetune torchscrip {{folder}}/model.ts {DATA}": (
        "FORMAT=torchscrip: expected one of torchscript, onnx, state_dict"
    ),
    "scripts.options brats_finetun": "BUNDLE=brats_finetun: expected one of atlas_finetune, …",
    f"scripts.package brats_finetun {NEW}": "BUNDLE=brats_finetun: expected one of atlas_finetune, …",
    f"scripts.prepare --root={{folder}}/none {NEW} --like=brats": "--root={folder}/none: …; expected …",
    f"scripts.public_scans --clones={{folder}}/none {NEW}": "--clones={folder}/none: no clone in this folder; …",
    f"scripts.phantoms make --layout=brat --subjects=1 {NEW}": "--layout=brat: expected one of atlas, brats, …",
    f"deploy.app --input={{folder}} --bundle={{folder}} {NEW}": "MONAI Deploy is not installed; run make deploy, …",
    "deploy.service status": "ORTHANC_URL: missing from the environment",
}
PREPARED: list[tuple[str, str, Prepare]] = [
    (f"scripts.evaluate {SCORES} --protocol=atlas", "{folder}/b/one.nii.gz: label 2, 4, which …", labels),
    (
        "scripts.report {folder}",
        "{folder}/run.json: $ = []: …; expected the record …",
        written("run.json", "[]"),
    ),
    (
        "scripts.weights inspect {folder}/model.pt",
        "checkpoint {folder}/model.pt: cannot be read as tensors alone: …",
        written("model.pt", "{}"),
    ),
    (
        "scripts.package verify {folder}/package.zip",
        "{folder}/package.zip: cannot be read as a zip (File is not a zip file); expected a package",
        written("package.zip", "no archive"),
    ),
]
FAULTS = [
    *RUNS,
    *(Fault(command, line) for command, line in COMMANDS.items()),
    *(Fault(command, line, prepare) for command, line, prepare in PREPARED),
    Fault(
        "scripts.phantoms make --layout=atlas --subjects=1 --spacing=4 --output={output}/atlas --workers=1",
        "{output}/atlas/….nii.gz: cannot be written: File too large",
        disk=2**14,
    ),
]
