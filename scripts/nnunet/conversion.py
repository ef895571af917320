"""Convert a datalist to nnU-Net's raw data: dataset.json, label maps with consecutive values, and the split.

dataset.json refers to the images in place, without copies or links. MONAI's `nnUNetV2Runner.convert_dataset` does not
fit: it takes one image per subject and knows no regions.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from common.bars import tqdm
from common.data.regions import known_labels, regions_of
from common.data.scan_checks import files_in, read_scan
from common.data.volumes import forms_of, write_volume
from common.errors import InputError
from common.files import write_json

Case = Mapping[str, Any]


class LabelScheme:
    """A label convention in nnU-Net's terms: consecutive label values, and the regions of dataset.json.

    `values` maps the convention's labels to nnU-Net's consecutive labels. `labels` and `class_order` are the entries
    `labels` and `regions_class_order` of dataset.json, the outermost region first. `class_order` has the smallest label
    of each region outside its inner regions, or of the whole region if the inner regions cover it. It is None for a
    single region, because nnU-Net then needs no order.

    Example:
        >>> scheme = LabelScheme("brats2021")
        >>> scheme.labels, scheme.class_order
        ({'background': 0, 'WT': [1, 2, 3], 'TC': [1, 3], 'ET': 3}, [2, 1, 4])
    """

    def __init__(self, convention: str) -> None:
        self.values = {value: index for index, value in enumerate(sorted(known_labels(convention)))}
        regions = dict(sorted(regions_of(convention).items(), key=lambda region: -len(region[1])))
        self.labels: dict[str, Any] = {"background": 0}
        order: list[int] = []
        for name, values in regions.items():
            mapped = sorted(self.values[value] for value in values)
            self.labels[name] = mapped if len(mapped) > 1 else mapped[0]
            inner = [other for other in regions.values() if other < values]
            order.append(min(values.difference(*inner) or values))
        self.class_order = order if len(regions) > 1 else None

    @property
    def is_consecutive(self) -> bool:
        """Whether the convention's labels are 0, 1, 2, ... without gaps, as nnU-Net requires."""
        return all(value == index for value, index in self.values.items())


def convert(
    folder: Path, training: Sequence[Case], validation: Sequence[Case], modalities: Sequence[str], convention: str
) -> None:
    """Write dataset.json and splits_final.json and, if the label values have gaps, renumbered label maps.

    In planning, nnU-Net copies the split and computes a fingerprint of the training and validation cases. Raises an
    InputError if the files are not all .nii.gz or all .nii, or if a label map has an unknown value.
    """
    scheme = LabelScheme(convention)
    cases = [*training, *validation]
    ending = _common_ending(cases)
    labels = {case["subject"]: case["label"] for case in cases}
    if not scheme.is_consecutive:
        for case in tqdm(cases, desc="labels"):
            labels[case["subject"]] = f"labelsTr/{case['subject']}{ending}"
            _renumber(case["label"], folder / labels[case["subject"]], scheme.values)
    dataset = {
        "name": folder.name,
        "channel_names": {str(channel): name for channel, name in enumerate(modalities)},
        "labels": scheme.labels,
        **({"regions_class_order": scheme.class_order} if scheme.class_order else {}),
        "numTraining": len(cases),
        "file_ending": ending,
        "overwrite_image_reader_writer": "NibabelIO",  # SimpleITK refuses axes that are not quite orthogonal
        "dataset": {case["subject"]: {"images": case["image"], "label": labels[case["subject"]]} for case in cases},
    }
    split = {"train": [case["subject"] for case in training], "val": [case["subject"] for case in validation]}
    for name, content in {"splits_final.json": [split], "dataset.json": dataset}.items():
        write_json(folder / name, content)


def _common_ending(cases: Sequence[Case]) -> str:
    endings: dict[str, str] = {}
    for case in cases:
        for path in (*case["image"], case["label"]):
            endings.setdefault(".nii.gz" if path.endswith(".nii.gz") else Path(path).suffix, path)
    if len(endings) > 1 or not endings.keys() <= {".nii.gz", ".nii"}:
        raise InputError(f"{endings.popitem()[1]}: expected all images and labels as .nii.gz, or all as .nii")
    return next(iter(endings))


def verify(cases: Sequence[Case]) -> None:
    """Read all files to their checksums, which nnU-Net's readers skip; an InputError names a damaged file."""
    files = [file for case in cases for file in files_in(case)]
    with ThreadPoolExecutor() as pool:
        for _ in tqdm(pool.map(lambda file: read_scan(file) and None, files), desc="files", total=len(files)):
            pass


def _renumber(source: str, target: Path, values: Mapping[int, int]) -> None:
    """Write a label map with new values on the same grid."""
    scan, voxels = read_scan(source)
    if unknown := sorted(set(np.unique(voxels).tolist()) - values.keys()):
        expected = ", ".join(str(value) for value in values)
        raise InputError(f"{source}: label value {unknown[0]}; expected only {expected}")
    table = np.zeros(max(values) + 1, dtype=np.uint8)
    table[list(values)] = list(values.values())
    write_volume(target, table[voxels.astype(np.uint8)], forms_of(scan), compresslevel=1, is_label=True)
