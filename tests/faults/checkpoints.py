"""Checkpoints that are damaged, doctored or something else, in every command that takes one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import torch

from tests.faults.table import Fault, plain

BRATS = "brats_finetune"
CONTENT = {"network": {"a": torch.zeros(1000)}, "metadata": {"bundle": BRATS, "modalities": ["FLAIR"]}}


def saved(change: Callable[[bytes], bytes], folder: Path, _: Path) -> None:
    """A checkpoint whose bytes were changed."""
    torch.save(CONTENT, folder / "model.pt")
    (folder / "model.pt").write_bytes(change((folder / "model.pt").read_bytes()))


def with_flipped_bit(content: bytes) -> bytes:
    place = content.index(bytes(3000)) + 1000
    return content[:place] + b"@" + content[place + 1 :]


def inflating(folder: Path, cohorts: Path) -> None:
    saved(bytes, folder, cohorts)
    with ZipFile(folder / "model.pt") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with ZipFile(folder / "model.pt", "w", ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def claiming(folder: Path, _: Path) -> None:
    torch.save(CONTENT | {"network": {"a": torch.zeros(1).expand(10**6, 10**5)}}, folder / "model.pt")


def as_folder(folder: Path, _: Path) -> None:
    (folder / "model.pt").mkdir()


def nothing(_: Path, __: Path) -> None:
    pass


FILES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (nothing, "no such file"),
    "a folder": (as_folder, "a folder; expected a file"),
    "text": (
        partial(saved, lambda _: b"{}"),
        "cannot be read as tensors alone: …; expected a whole file of torch.save",
    ),
    "empty": (
        partial(saved, lambda _: b""),
        "cannot be read as tensors alone: empty; expected a whole file of torch.save",
    ),
    "truncated": (partial(saved, lambda content: content[:900]), "cannot be read as tensors alone: …"),
    "a flipped bit": (partial(saved, with_flipped_bit), "damaged: … has another checksum; …"),
    "an archive that inflates": (inflating, "… is compressed; expected a file as torch.save writes it"),
    "a tensor of 400 GB": (claiming, "a tensor of [1000000, 100000] in 4 bytes; expected all of it, as …"),
}
LAZY = "a flipped bit"  # found where tensors are read, which needs a network that fits


def _commands(name: str, prepare: Callable[[Path, Path], object], line: str) -> list[Fault]:
    """The commands that take a checkpoint, with this one."""
    file, line = "{folder}/model.pt", f"checkpoint {{folder}}/model.pt: {line}"
    found = [
        plain(f"--pretrained: {name}", BRATS, f"--pretrained={file}", line, prepare=prepare),
        Fault(f"weights inspect: {name}", "scripts.weights", f"inspect {file}", line, prepare=prepare),
        Fault(
            f"package: {name}",
            "scripts.package",
            f"{BRATS} --weights={file} --output={{output}}",
            line,
            prepare=prepare,
        ),
    ]
    if name != LAZY:
        data = "--dataset_dir={cohorts}/brats --output_dir={output}/predictions"
        place = f"bundles/{BRATS}"
        inference = f"run --config_file=configs/inference.yaml {data} --checkpoint={file}"
        found += [
            Fault(f"inference: {name}", "monai.bundle", inference, line, place, prepare=prepare),
            plain(f"evaluate: {name}", BRATS, f"--checkpoint={file}", line, "evaluate", prepare=prepare),
        ]
    return found


FAULTS = [fault for name, (prepare, line) in FILES.items() for fault in _commands(name, prepare, line)]
