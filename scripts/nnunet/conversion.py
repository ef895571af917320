"""From a datalist to nnU-Net's raw data: dataset.json, label maps with consecutive values, and the split.

nnU-Net's dataset.json may name the files of each case, so images are read where they are, without copies or links.
MONAI's `nnUNetV2Runner.convert_dataset` takes one image per subject, where datalists have one per modality, and has no
regions.
"""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.bars import tqdm
from common.data.regions import known_labels, regions_of
from common.errors import InputError
from common.files import atomic_write, write_json

Case = Mapping[str, Any]


class LabelScheme:
    """How nnU-Net sees the labels of a convention.

    Attributes:
        values: label value in the files -> value for nnU-Net, which wants 0, 1, 2, ... without gaps.
        labels: entry `labels` of dataset.json, the outermost region first.
        class_order: entry `regions_class_order`: the value, of the convention, that a region leaves to the voxels that
            no region after it covers. None for a single region, which is plain segmentation.

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
            order.append(min(values.difference(*inner)))
        self.class_order = order if len(regions) > 1 else None

    @property
    def is_consecutive(self) -> bool:
        """Whether nnU-Net can read the files as they are."""
        return all(value == index for value, index in self.values.items())


def convert(
    folder: Path, training: Sequence[Case], validation: Sequence[Case], modalities: Sequence[str], convention: str
) -> None:
    """Write dataset.json and splits_final.json, and the label maps if their values have gaps.

    nnU-Net copies the split from here when it plans. It takes its fingerprint from all these cases.

    Args:
        folder: of the data set, in nnU-Net's raw folder.
        training: entries as `Datalist.load` returns them, with labels.
        validation: the same.
        modalities: names of the channels.
        convention: of the labels.

    Raises:
        InputError: the files are not all .nii.gz or all .nii, or a label map has an unknown value.
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


def _renumber(source: str, target: Path, values: Mapping[int, int]) -> None:
    """Write a label map with other values, on the same grid."""
    image = nibabel.Nifti1Image.from_filename(source)
    voxels = np.asarray(image.dataobj)
    if unknown := sorted(set(np.unique(voxels).tolist()) - values.keys()):
        expected = ", ".join(str(value) for value in values)
        raise InputError(f"{source}: label value {unknown[0]}; expected only {expected}")
    table = np.zeros(max(values) + 1, dtype=np.uint8)
    table[list(values)] = list(values.values())
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    content = nibabel.Nifti1Image(table[voxels.astype(np.uint8)], image.affine, header).to_bytes()
    with atomic_write(target) as file:
        file.write_bytes(gzip.compress(content, 1) if target.name.endswith(".gz") else content)
