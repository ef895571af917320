"""Empty files in the layouts of data sets, and the datalists that the commands write of them."""

import json
from itertools import chain

import nibabel
import numpy as np

from scripts.datalists.__main__ import COMMANDS

SPLITS = ("training", "validation", "testing", "unlabelled")


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def label(file, *values):
    """A label map of some values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.zeros((2, 3, 8), np.int16)
    voxels[0, 0, : len(values)] = values
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)


def add_ukb(root, *people, visits=("2_0",)):
    for person in people:
        for visit in visits:
            touch(root, f"{person}_20252_{visit}/T1/T1_brain_to_MNI.nii.gz")
            touch(root, f"{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz")


def add_brats_2023(root, *people):
    for name in (f"BraTS-GLI-{person:05d}-000" for person in people):
        touch(root, *[f"{name}/{name}-{kind}.nii.gz" for kind in ("t2f", "t1c", "t1n", "t2w", "seg")])


def add_atlas(root, *numbers, above="", mask=True):
    for number in numbers:
        name = f"sub-r{number:03d}s001"
        stem = f"{above.format(number)}{name}/ses-1/anat/{name}_ses-1_space-MNI152NLin2009aSym"
        touch(root, f"{stem}_T1w.nii.gz", *([f"{stem}_label-L_desc-T1lesion_mask.nii.gz"] if mask else []))


def written(command, root, name="list.json", **options):
    """The datalist that a command writes beside the root."""
    COMMANDS[command](str(root), str(root.parent / name), **options)
    return json.loads((root.parent / name).read_text())


def entries(root, **options):
    """Subject -> entry, of all splits."""
    content = written("generic", root, **{"testing": "all", "workers": 1} | options)
    return {entry["subject"]: entry for split in subjects(content) for entry in content[split]}


def subjects(content):
    """Split -> names of its subjects."""
    return {split: [entry["subject"] for entry in content[split]] for split in SPLITS if split in content}


def sizes(splits):
    return [len(members) for members in splits.values()]


def everybody(content):
    """The subjects of all splits, sorted."""
    return sorted(chain.from_iterable(subjects(content).values()))
