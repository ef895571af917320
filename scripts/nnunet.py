"""Write a datalist as nnU-Net's raw data, `python -m scripts.nnunet --datalist=F.json --output=DIR`; read regions."""

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.data.datalists import SPLITS, Datalist
from common.data.names import files_in
from common.data.regions import declaration, known_labels, regions_of, with_sides
from common.data.volumes import forms_of, read_scan, write_volume
from common.errors import InputError, choice, show, within
from common.files import write_json
from scripts import cli
from scripts.layouts.reading import DESCRIPTION


def nnunet(datalist: str, output: str, dataset_dir: str | None = None, split: str = "testing") -> None:
    """Write a datalist's subjects as raw data of nnU-Net 2: OUTPUT/Dataset001_NAME, with splits_final.json.

    Training and validation subjects go to imagesTr and labelsTr, those of `split` to imagesTs and labelsTs. Images are
    links to the originals. nnU-Net needs consecutive label values: if those of the datalist have gaps, the label maps
    are renumbered copies. docs/how-to/train-baselines.md has nnU-Net's commands.

    Args:
        datalist: JSON file with labelled training and validation subjects.
        output: folder that nnU-Net knows as nnUNet_raw; the data set must not exist there.
        dataset_dir: folder that the datalist's paths are relative to; by default the datalist's folder.
        split: split to predict, such as testing or validation.
    """
    choice("split", split, SPLITS)
    file = Path(datalist).expanduser()
    listed = Datalist(file, file.parent if dataset_dir is None else Path(dataset_dir).expanduser())
    convention, modalities = listed.content["label_convention"], listed.content["modalities"]
    if convention is None:
        raise InputError(f"--datalist={datalist}: no labels to train on")
    training, validation = (listed.load(part, label_convention=convention) for part in ("training", "validation"))
    has_labels = all("label" in entry for entry in listed.content.get(split, []))
    held_out = listed.load(split, label_convention=convention if has_labels else None)
    paths = [path for case in (*training, *validation, *held_out) for path in files_in(case)]
    ending = ".nii.gz" if paths[0].endswith(".nii.gz") else ".nii"
    if odd := [path for path in paths if not path.endswith(ending)]:
        raise InputError(f"{odd[0]}: expected all images and labels as .nii.gz, or all as .nii")
    folder = Path(output).expanduser() / f"Dataset001_{listed.content['name']}"
    if folder.exists():
        raise InputError(f"--output={output}: {folder} exists; expected a new data set")
    numbers = {value: number for number, value in enumerate(sorted(known_labels(convention)))}
    nested = sorted(regions_of(convention).items(), key=lambda region: -len(region[1]))  # the outermost first
    regions = {name: {numbers[value] for value in values} for name, values in nested}
    partial = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(partial, ignore_errors=True)
    for part, cases in {"Tr": [*training, *validation], "Ts": held_out}.items():
        for case in cases:
            _write_case(case, partial, part, ending, numbers)
    labels = {name: sorted(values) if len(values) > 1 else min(values) for name, values in regions.items()}
    content = {
        "channel_names": {str(channel): name for channel, name in enumerate(modalities)},
        "labels": {"background": 0, **labels},
        "numTraining": len(training) + len(validation),
        "file_ending": ending,
        "overwrite_image_reader_writer": "NibabelIO",  # SimpleITK refuses axes that are not quite orthogonal
    }
    if any(len(values) > 1 for values in regions.values()):
        content["regions_class_order"] = [_class_of(values, regions.values()) for values in regions.values()]
    splits = [{"train": [case["subject"] for case in training], "val": [case["subject"] for case in validation]}]
    write_json(partial / "splits_final.json", splits)
    write_json(partial / "dataset.json", content)
    partial.rename(folder)
    counts = f"{len(training)} subjects for training, {len(validation)} for validation, {len(held_out)} of {split}"
    show(f"{folder}: {counts}")
    if any(value != number for value, number in numbers.items()):
        renumbered = ",".join(f"{name}={'+'.join(map(str, sorted(values)))}" for name, values in regions.items())
        show(f"renumbered; score with --references={folder}/labelsTs --label_convention={renumbered}")
    if sided := with_sides(regions_of(convention)):
        show(f"{sided[0]} has a side: train with nnUNetv2_train -tr nnUNetTrainerNoMirroring")


def _class_of(region: set[int], regions: Collection[set[int]]) -> int:
    """Return the smallest label of a region outside its inner regions, or of the whole region."""
    inner = {label for other in regions if other < region for label in other}
    return min(region - inner or region)


def _write_case(case: Mapping[str, Any], folder: Path, part: str, ending: str, numbers: Mapping[int, int]) -> None:
    """Link a case's images and write its label map."""
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(exist_ok=True)
    for channel, image in enumerate(case["image"]):
        (images / f"{case['subject']}_{channel:04d}{ending}").symlink_to(Path(image).absolute())
    if "label" not in case:
        return
    target = labels / f"{case['subject']}{ending}"
    if all(value == number for value, number in numbers.items()):
        target.symlink_to(Path(case["label"]).absolute())
        return
    scan, voxels = read_scan(case["label"])
    if unknown := sorted({*np.unique(voxels).tolist()} - numbers.keys()):
        raise InputError(f"{case['label']}: label value {unknown[0]:g}; expected only {', '.join(map(str, numbers))}")
    renumbered = np.select([voxels == value for value in numbers], [*numbers.values()]).astype(np.uint8)
    write_volume(target, renumbered, forms_of(scan), compresslevel=1, is_label=True)


def regions_stated(root: str, labels: Mapping[str, Any]) -> str | None:
    """Return the regions in the labels of a data set's dataset.json as text; None if there is only background."""
    regions: dict[str, Any] = {}
    with within(Path(root, DESCRIPTION)):
        for name, value in labels.items():
            text = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")  # region names are words
            text = (text if re.match("[A-Za-z]", text) else f"region_{text}")[:40]
            if name == "ignore" or text in regions:
                raise InputError(f"labels: {name}={value}", "ignores voxels, or repeats a region", "--regions")
            if value not in (0, [0]):
                regions[text] = value
        return declaration(regions) if regions else None


if __name__ == "__main__":
    cli.run(nnunet, "nnunet")
