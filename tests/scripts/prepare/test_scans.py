"""Which files are taken for which modality."""

from scripts.prepare.scans import find_subjects


def folder_with(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


def found(root, modalities, patterns=None):
    return {
        subject.name: subject.fault or {modality: path.name for modality, path in subject.files.items()}
        for subject in find_subjects(root, modalities, patterns or {})
    }


def test_two_files_of_a_modality_need_a_pattern(tmp_path):
    root = folder_with(tmp_path, "a/run-1_T1w.nii.gz", "a/run-2_T1w.nii.gz")
    assert "two files for the T1 of a: a/run-1_T1w.nii.gz and a/run-2_T1w.nii.gz;" in found(root, ["T1"])["a"]
    assert found(root, ["T1"], {"T1": "run-1_T1w"})["a"] == {"T1": "run-1_T1w.nii.gz"}
    assert found(root, ["T1"], {"T1": "run-2_*"})["a"] == {"T1": "run-2_T1w.nii.gz"}


def test_label_maps_are_no_scans(tmp_path):
    files = ["a/a_T1.nii.gz", "a/a_T1_seg.nii.gz", "b/b_T1.nii.gz", "c/one_seg.nii", "c/two_seg.nii"]
    root = folder_with(tmp_path / "folders", *files)
    a, b, c = find_subjects(root, ["T1"], {}, labels="seg")
    assert (a.files["T1"].name, a.labels.name, b.labels) == ("a_T1.nii.gz", "a_T1_seg.nii.gz", None)
    assert "two files for the label of c: c/one_seg.nii and c/two_seg.nii;" in c.fault
    assert find_subjects(root, ["T1"], {}, labels="*_seg.nii.gz")[0].labels == a.labels
    assert find_subjects(root, ["T1"], {})[0].labels == a.labels
    assert find_subjects(root, ["T1"], {}, labels="none")[0].labels is None
    a, b = find_subjects(folder_with(tmp_path / "flat", "a_T1.nii", "a_seg.nii", "b_T1.nii"), ["T1"], {}, labels="seg")
    assert (a.name, a.labels.name, b.labels) == ("a", "a_seg.nii", None)
