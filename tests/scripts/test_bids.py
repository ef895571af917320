"""Predictions become a BIDS derivative dataset; bids-validator 3.0.2 accepts the expected names."""

import json

import nibabel
import numpy as np

from common.files import write_csv, write_json
from common.inference.tables import write_label_tables
from scripts.bids import copy_as_bids


def predictions(folder, *subjects, convention="core=1+3:56b4e9,whole=1+2+3:ff0000", finished=True):
    folder.mkdir()
    rows = [(subject, "lesion", "1.5", "1500") for subject in subjects]
    write_csv(folder / "volumes.csv", [("subject", "region", "volume_ml", "voxels"), *rows])
    for number, subject in enumerate(subjects):
        write_map(folder / f"{subject}.nii.gz", [0] * number + [1, 2, 3])
    write_label_tables(folder, convention)
    versions = {"brainsegfounder": "1.2.3"}
    made = {"checkpoints": {"a/m.pt": "0a1b"}, "settings": {"label_convention": convention}, "versions": versions}
    made |= {"command": "python -m scripts.segment '/home/Smith, John'", "finished": finished}
    write_json(folder / "made.json", made)
    return folder


def write_map(path, labels):
    """Write a label map of a row of voxels."""
    nibabel.save(nibabel.Nifti1Image(np.array(labels, np.uint8).reshape(-1, 1, 1), np.eye(4)), path)


def files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_names_are_those_of_bids(tmp_path, capsys):
    source = predictions(tmp_path / "in", "sub-01_ses-pre", "sub-01_ses-post", "P_2-a")
    copy_as_bids(str(source), str(tmp_path / "deep/out"))
    assert capsys.readouterr().out.endswith("BIDS derivative dataset, label maps: 3\n")
    written = files(tmp_path / "deep/out")
    end = "space-orig_seg-regions_dseg"
    maps = {
        f"sub-01/ses-pre/anat/sub-01_ses-pre_{end}.nii.gz": "sub-01_ses-pre.nii.gz",
        f"sub-01/ses-post/anat/sub-01_ses-post_{end}.nii.gz": "sub-01_ses-post.nii.gz",
        f"sub-P2a/anat/sub-P2a_{end}.nii.gz": "P_2-a.nii.gz",
    }
    assert {name for name in written if name.endswith(".nii.gz")} == maps.keys()
    for name, original in maps.items():
        assert written[name].read_bytes() == (source / original).read_bytes()
    assert written.keys() - maps.keys() == {"README", "dataset_description.json", f"{end}.json", f"{end}.tsv"}
    assert written[f"{end}.tsv"].read_text() == (source / "dseg.tsv").read_text()
    description = json.loads(written["dataset_description.json"].read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Version"] == "1.2.3"
    assert description["GeneratedBy"][0]["Description"] == "weights m.pt, SHA-256 0a1b"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert not [path for path in written.values() if b"Smith" in path.read_bytes()], "paths may name a patient"


def test_a_challenges_labels_are_named_and_unfinished_results_warned_of(tmp_path, capsys):
    source = predictions(tmp_path / "in", "P1", finished=False)
    write_map(source / "P1.nii.gz", [0, 1, 2, 4])
    write_label_tables(source, "brats2021")
    made = json.loads((source / "made.json").read_text()) | {"settings": {}, "label_convention": "brats2021"}
    write_json(source / "made.json", made)  # as scripts.segment does
    copy_as_bids(str(source), str(tmp_path / "out"))
    assert "sub-P1/anat/sub-P1_space-orig_seg-brats2021_dseg.nii.gz" in files(tmp_path / "out")
    assert "its command has not finished" in capsys.readouterr().err
