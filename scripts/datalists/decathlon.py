"""Convert tasks of the Medical Segmentation Decathlon to nnU-Net raw data."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.data.layouts.listing import ImageFile, list_images
from common.data.layouts.names import naming
from common.data.scan_checks import first_line
from common.data.volumes import open_volume, read_voxels, write_volume
from common.errors import InputError, show
from common.files import check_writable_folder, expand_home, reporting_path_errors, valid_json, write_json

_NAMES = {"type": "object", "propertyNames": {"pattern": r"^\d+$"}, "additionalProperties": {"type": "string"}}
SCHEMA = {"type": "object", "properties": {"modality": _NAMES, "labels": _NAMES}}


def decathlon(root: str, output: str, modalities: str | Sequence[str] | None = None) -> None:
    """Write a task of the Medical Segmentation Decathlon as nnU-Net raw data, which `generic` reads.

    Each image of the task holds all modalities in a fourth dimension, and becomes one file per modality.

    Args:
        root: folder with imagesTr, labelsTr and dataset.json, such as Task01_BrainTumour.
        output: a new folder.
        modalities: names of the modalities in the order of the images, such as FLAIR,T1,T1ce,T2; by default those in
            dataset.json.
    """
    from common.bars import tqdm  # late import: `--help` stays fast

    source, target = expand_home(root, f"--root={root}"), expand_home(output, f"--output={output}")
    with reporting_path_errors(f"--root={root}", "a folder with imagesTr"):
        tops = list_images(source).tops
    if not (images := tops.get("imagesTr")):
        raise InputError(f"--root={root}: no image in imagesTr; expected a task of the Medical Segmentation Decathlon")
    file = source / "dataset.json"
    stated: dict[str, Any] = valid_json(file, "the description of a Decathlon task", SCHEMA) if file.is_file() else {}
    listed = stated.get("modality", {})
    names = naming(modalities, None).modalities or [listed[number] for number in sorted(listed, key=int)]
    if not names:
        raise InputError(f"--modalities: missing, as {file} states none; expected names such as FLAIR,T1,T1ce,T2")
    check_writable_folder(target, f"--output={output}")
    if target.exists():
        raise InputError(f"--output={output}: exists; expected a new folder")
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        for image in tqdm([*images, *tops.get("imagesTs", [])], desc="split", unit="image"):
            _split(source, image, partial, names)
        for label in tops.get("labelsTr", []):
            (partial / "labelsTr").mkdir(exist_ok=True)
            shutil.copyfile(source / label.path, partial / "labelsTr" / Path(label.path).name)
        labels = {name: int(value) for value, name in stated.get("labels", {}).items()}
        channels = {str(number): name for number, name in enumerate(names)}
        content = {"channel_names": channels, "labels": labels, "numTraining": len(images), "file_ending": ".nii.gz"}
        write_json(partial / "dataset.json", content)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    show(f"{output}: {len(images)} cases with {', '.join(names)}; `generic --root={output}` reads them")


def _split(root: Path, image: ImageFile, output: Path, names: Sequence[str]) -> None:
    """Write each modality of a 4D image to a separate file: CASE_0000.nii.gz, CASE_0001.nii.gz, ..."""
    file = root / image.path
    try:
        scan = open_volume(file)
        voxels = read_voxels(scan, file)
    except Exception as error:  # damaged files raise many exceptions
        raise InputError(f"{file}: {first_line(error)}; expected a file that can be read to its end") from error
    volumes = voxels.reshape((*voxels.shape[:3], -1))
    if volumes.shape[3] != len(names):
        raise InputError(f"{file}: number of volumes {volumes.shape[3]}; expected {len(names)}: {', '.join(names)}")
    for channel in range(len(names)):
        name = f"{image.stem}_{channel:04d}.nii.gz"
        write_volume(output / image.folders[0] / name, volumes[..., channel], scan.affine)
