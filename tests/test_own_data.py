"""The commands of docs/tutorials/own-data.md, taken from the page and run at a tiny size in a copy."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.support import bash_blocks, copy_of_the_repository, run_command, tiny

PAGE = "docs/tutorials/own-data.md"
VALUES = np.array([0, 10, 20, 0, 30], np.uint8)  # the page's label values for BraTS's 0 to 4 (1 NCR, 2 ED, 4 ET)


def rename(source: Path, target: Path, scans: Path) -> None:
    """Write subjects as the page describes them (two modalities, three label values), and one as a new scan."""
    for number, folder in enumerate(sorted(source.iterdir())):
        subject = target / f"P{number}"
        subject.mkdir(parents=True)
        for modality in ("T1", "FLAIR"):
            shutil.copy(folder / f"{folder.name}_{modality.lower()}.nii.gz", subject / f"P{number}_{modality}.nii.gz")
        mask = nibabel.load(folder / f"{folder.name}_seg.nii.gz")
        labels = VALUES[np.asarray(mask.dataobj).astype(np.uint8)]
        nibabel.save(nibabel.Nifti1Image(labels, mask.affine), subject / f"P{number}_seg.nii.gz")
    shutil.copytree(target / "P0", scans, ignore=shutil.ignore_patterns("*_seg*"))


@pytest.mark.slow
def test_the_commands_lead_from_a_folder_to_label_maps(cohorts, trained, tmp_path):
    rename(cohorts / "brats", tmp_path / "own", tmp_path / "scans")
    copy = copy_of_the_repository(tmp_path)
    encoder = trained("ukb_ssl_pretrain") / "models/model.pt"
    environment = {"DATA": tmp_path / "own", "UKB_MODEL": encoder, "SCANS": tmp_path / "scans"}
    blocks = bash_blocks(PAGE)
    assert sum("scripts.run" in block for block in blocks) == 3
    printed = [run_command(tiny(block) if "scripts.run" in block else block, copy, environment) for block in blocks]

    assert "no problems found" in printed[2]
    content = json.loads((copy / "mine.json").read_text())
    assert [len(content[split]) for split in ("training", "validation", "testing")] == [4, 1, 1]
    assert content["modalities"] == ["T1", "FLAIR"]
    labels = {name: region["labels"] for name, region in content["regions"].items()}
    assert labels == {"whole": [10, 20, 30], "core": [10, 30], "active": [30]}
    weights = json.loads((copy / "runs/mine/run.json").read_text())["weights"]
    assert (weights["matched"] > 0, weights["changed"]) == (True, 0), "both modalities keep their filters"
    assert not any(name.startswith("swinViT.") for name in weights["tensors"]["missing"])
    summary = json.loads((copy / "runs/mine/evaluation/summary.json").read_text())
    assert list(summary["regions"]) == ["whole", "core", "active"]
    assert (copy / "runs/mine/evaluation/evaluation.html").is_file()
    prediction = nibabel.load(copy / "runs/mine/predictions/P0.nii.gz")
    assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 10, 20, 30}
    assert "P0,whole," in (copy / "runs/mine/predictions/volumes.csv").read_text()
