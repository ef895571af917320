"""Write a datalist as the input of MONAI's Auto3DSeg."""

from typing import Any

import yaml

from common.data import datalists
from common.data.regions import regions_of
from common.errors import InputError, check_number, show
from common.files import atomic_write, check_new_files, expand_home, write_json
from scripts.datalists.splits import MOST, random_folds, with_people


def auto3dseg(datalist: str, root: str, output: str, folds: int = 5, seed: int = 0) -> None:
    """Write a datalist as the input of MONAI's Auto3DSeg: OUTPUT/input.yaml and OUTPUT/datalist.json.

    People in training and validation are assigned to folds; people in testing are not. Then run
    `python -m monai.apps.auto3dseg AutoRunner run --input=OUTPUT/input.yaml`.

    Args:
        datalist: JSON file to convert; each subject needs all modalities and a label.
        root: folder of the scans.
        output: folder for the two files; neither may exist there.
        folds: number of folds. All visits of a person are in the same fold.
        seed: seed of the random folds, 0 or more.
    """
    source = expand_home(datalist, f"--datalist={datalist}")
    target = expand_home(output, f"--output={output}")
    check_number("folds", folds, int, 2, MOST)
    check_number("seed", seed, int, 0)
    check_new_files(f"--output={output}", target / "datalist.json", target / "input.yaml")
    cohort = datalists.Datalist(source, root)
    if (convention := cohort.content["label_convention"]) is None:
        raise InputError(f"datalist {datalist}", "no labels", "labels, as Auto3DSeg trains a segmentation")
    parts = {split: cohort.content.get(split, []) for split in ("training", "validation", "testing")}
    for split, entries in parts.items():
        if entries:
            cohort.load(split, label_convention=convention)  # raises if a file or modality is missing
    with_people(cohort.content, None)
    dealt = parts["training"] + parts["validation"]
    fold_of, _ = random_folds(folds, sorted({datalists.person_in(entry) for entry in dealt}), seed)
    training = [{"fold": fold_of[datalists.person_in(entry)], **_listed(entry)} for entry in dealt]
    content = {"training": training, "testing": [_listed(entry) for entry in parts["testing"]]}
    settings: dict[str, Any] = {
        "modality": "MRI",
        "datalist": str((target / "datalist.json").absolute()),
        "dataroot": str(expand_home(root, f"--root={root}").absolute()),
        "sigmoid": True,  # regions may overlap
        "class_names": [{"name": name, "index": sorted(labels)} for name, labels in regions_of(convention).items()],
    }
    write_json(target / "datalist.json", content)
    with atomic_write(target / "input.yaml") as file:
        file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    show(f"{output}: {len(training)} subjects in {folds} folds, {len(content['testing'])} for testing")


def _listed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry in MONAI's form, with a list of images or the path of a single image."""
    images = entry["image"]
    return {"image": images if len(images) > 1 else images[0], "label": entry["label"]}
