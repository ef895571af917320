"""Scans and label maps that are damaged, doctored or copies, in the commands that read them."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch

from common.ssl.networks import swin_unetr
from tests.faults.table import TINY, Fault

BRATS = "brats_finetune"
Change = Callable[[Path, Path], object]


def _doctored(change: Change) -> Callable[[Path, Path], None]:
    """The cohort, linked file by file, after `change` of an image and a label map, one subject of two splits each."""

    def prepare(folder: Path, cohorts: Path) -> None:
        content = json.loads((cohorts / "brats.json").read_text())
        for path in (cohorts / "brats").rglob("*.nii.gz"):
            link = folder / "brats" / path.relative_to(cohorts / "brats")
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
        for split in ("training", "testing"):
            entry = content[split][0]
            flair, label = folder / "brats" / entry["image"][0], folder / "brats" / entry["label"]
            change(flair, label)
        (folder / "brats.json").write_text(json.dumps(content))
        network = swin_unetr(4, 3, "micro")
        metadata = {"bundle": BRATS, "model_size": "micro", "patch_size": [64] * 3, "modalities": content["modalities"]}
        torch.save({"network": network.state_dict(), "metadata": metadata}, folder / "model.pt")

    return prepare


def _image(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other voxels of the image."""

    def write(file: Path, _: Path) -> None:
        scan = nibabel.load(file)
        voxels = change(np.asarray(scan.dataobj, dtype=np.float32))
        file.unlink()  # it is a link
        nibabel.save(nibabel.Nifti1Image(voxels, scan.affine), file)

    return write


def _label(change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> Change:
    """Other voxels of the label map, moved by `shift` mm."""

    def write(_: Path, file: Path) -> None:
        scan = nibabel.load(file)
        voxels, affine = change(np.asarray(scan.dataobj)), scan.affine.copy()
        affine[0, 3] += shift
        file.unlink()
        nibabel.save(nibabel.Nifti1Image(voxels, affine), file)

    return write


def _bytes(change: Callable[[bytes], bytes]) -> Change:
    """Other bytes of the image's file."""

    def write(file: Path, _: Path) -> None:
        content = change(file.read_bytes())
        file.unlink()
        file.write_bytes(content)

    return write


def _header(place: int, kind: str, *values: float) -> Change:
    """Other numbers in the image's header, 348 bytes at the beginning."""
    content = np.array(values, kind).tobytes()

    def change(packed: bytes) -> bytes:
        plain = gzip.decompress(packed)
        return gzip.compress(plain[:place] + content + plain[place + len(content) :], 1)

    return _bytes(change)


def _with_flipped_bit(content: bytes) -> bytes:
    plain = bytearray(gzip.decompress(content))
    plain[-100] ^= 1
    return gzip.compress(bytes(plain), 1)[:-8] + content[-8:]  # with the checksum of before


def _in_place_of(other: str) -> Change:
    """Another modality of the same subject under the image's name."""

    def copy(file: Path, _: Path) -> None:
        file.unlink()
        shutil.copy(file.with_name(file.name.replace("flair", other)), file)

    return copy


def _as_folder(file: Path, _: Path) -> None:
    file.unlink()
    file.mkdir()


def _one_value(voxels: np.ndarray) -> np.ndarray:
    return np.full_like(voxels, 7)


def _mask(voxels: np.ndarray) -> np.ndarray:
    return (voxels > 0).astype(np.float32)


def _spoilt(voxels: np.ndarray) -> np.ndarray:
    voxels[voxels.shape[0] // 2] = np.nan
    return voxels


HEADERS: dict[str, tuple[Change, str]] = {
    "missing": (lambda file, _: file.unlink(), "{flair}: no such file, of subject … in …; 1 of … files are missing"),
    "a folder": (_as_folder, "{flair}: no such file, of subject … in …; 1 of … files are missing"),
    "empty": (_bytes(lambda _: b""), "{flair}: …; expected a NIfTI image"),
    "text": (_bytes(lambda _: b"no scan"), "{flair}: …; expected a NIfTI image"),
    "half of it": (
        _bytes(lambda content: content[: len(content) // 2]),
        "{flair}: Compressed file ended before …; expected …",
    ),
    "four dimensions": (
        _image(lambda voxels: np.stack([voxels, voxels], -1)),
        "{flair}: shape …; expected three dimensions",
    ),
    "complex": (_header(70, "<i2", 32, 64), "{flair}: …; expected …"),
    "a flat affine": (_header(280, "<f4", *[0] * 12), "{flair}: an affine that cannot be inverted; expected …"),
    "an affine of NaN": (_header(280, "<f4", np.nan), "{flair}: an affine that cannot be inverted; expected …"),
    "another shape": (_image(lambda voxels: voxels[1:]), "{flair}: shape …; expected …"),
    "moved": (_header(292, "<f4", 99), "{flair}: affine differs by up to … mm; expected that of …"),
    "3 GiB declared": (_header(42, "<i2", 1024, 1024, 768), "{flair}: shape 1024 x 1024 x 768, which takes 3 GiB …"),
    "negative edges": (_header(42, "<i2", -5), "{flair}: …; expected …"),
    "a copy": (_in_place_of("t1"), "….nii.gz: also an image of another modality; expected another content than …"),
    "a label on another grid": (_label(lambda voxels: voxels, 9), "….nii.gz: affine differs by up to 9 mm; expected …"),
    "a label of another shape": (_label(lambda voxels: voxels[1:]), "….nii.gz: shape …; expected …"),
}
VOXELS: dict[str, tuple[Change, str]] = {
    "a flipped bit": (_bytes(_with_flipped_bit), "{flair}: CRC check failed; expected a NIfTI file as it was written"),
    "one value": (_image(_one_value), "{flair}: 7 in every voxel that is not 0; expected a brain, not a mask of it"),
    "a mask": (_image(_mask), "{flair}: 1 in every voxel that is not 0; expected a brain, not a mask of it"),
    "zeros": (_image(np.zeros_like), "{flair}: zero everywhere; expected a brain"),
    "NaN": (_image(_spoilt), "{flair}: NaN or infinite voxels; expected finite ones"),
    "inflates beyond its header": (
        _bytes(lambda content: gzip.compress(gzip.decompress(content) + bytes(2**22), 1)),
        "{flair}: more than 1048576 bytes after the … that its header declares…",
    ),
    "an unknown label": (
        _label(lambda voxels: voxels + 7),
        "….nii.gz: label 7, 8, 9, 11; the convention brats2021 knows 0, 1, 2, 4",
    ),
}


DATA = "--dataset_dir={folder}/brats --datalist={folder}/brats.json --output_dir={output} --num_workers=0"
TRAINING = f"run --config_file=configs/train.yaml {DATA} --ckpt_dir={{output}}/models {TINY}"
EVALUATION = f"run --config_file=configs/evaluate.yaml {DATA} --checkpoint={{folder}}/model.pt"


def _faults(command: str, arguments: str, rows: dict[str, tuple[Change, str]]) -> list[Fault]:
    return [
        Fault(
            f"{command}: {name}",
            "monai.bundle",
            arguments,
            "…" + line.replace("{flair}", "{folder}/brats/…flair.nii.gz"),
            f"bundles/{BRATS}",
            prepare=_doctored(change),
        )
        for name, (change, line) in rows.items()
    ]


FAULTS = [*_faults("training", TRAINING, HEADERS | VOXELS), *_faults("evaluation", EVALUATION, VOXELS)]
