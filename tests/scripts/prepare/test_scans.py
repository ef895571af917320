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


def test_a_folder_of_dicom_files_is_left_out_with_a_hint(tmp_path):
    root = folder_with(tmp_path, "a/a_T1.nii", "b/IM1")
    (root / "b/IM1").write_bytes(bytes(128) + b"DICM")
    a, b = find_subjects(root, ["T1"], {})
    assert a.fault == ""
    assert "dcm2niix" in b.fault


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


def test_a_subject_may_lack_modalities_but_not_all(tmp_path):
    root = folder_with(tmp_path, "a/a_T1.nii.gz", "a/a_FLAIR.nii.gz", "b/b_T1.nii.gz", "c/c_T2.nii.gz")
    a, b, c = find_subjects(root, ["T1", "FLAIR"], {}, keeps_missing=True)
    assert (list(a.files), list(b.files), b.fault) == (["T1", "FLAIR"], ["T1"], "")
    assert c.fault == "no file of T1, FLAIR; expected at least one"


def test_masks_of_ones_own_are_found(tmp_path):
    root = folder_with(tmp_path, "a/a_T1.nii.gz", "a/a_brain.nii.gz", "b/b_T1.nii.gz")
    a, b = find_subjects(root, ["T1"], {}, masks="*_brain.nii.gz")
    assert (a.files["T1"].name, a.brain.name) == ("a_T1.nii.gz", "a_brain.nii.gz")
    assert b.fault == "no brain mask; expected one file (--brain=*_brain.nii.gz)"
    clashing = folder_with(tmp_path / "clashing", "a/a_T1.nii.gz", "a/x_brain.nii.gz", "a/y_brain.nii.gz")
    (c,) = find_subjects(clashing, ["T1"], {}, masks="*_brain.nii.gz")
    masks = "a/x_brain.nii.gz and a/y_brain.nii.gz"
    assert c.fault == f"two files for the brain mask of a: {masks}; expected one (--brain=*_brain.nii.gz matches both)"
    alone = folder_with(tmp_path / "alone", "a_T1.nii", "d_brain.nii")
    *_, d = find_subjects(alone, ["T1"], {}, masks="*_brain.nii")
    assert d.fault == (
        "the brain mask d_brain.nii belongs to no scan; expected a scan of d, or a pattern that leaves it out "
        "(--brain=*_brain.nii)"
    )
    other = folder_with(tmp_path / "other", "a/a_T1.nii.gz", "a/a_mask.nii.gz")
    assert find_subjects(other, ["T1"], {}, masks="*_mask.nii.gz")[0].brain.name == "a_mask.nii.gz", "no label word"
