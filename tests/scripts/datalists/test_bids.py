"""BIDS, by the command. The names are those of the specification's examples."""

import pytest

PEOPLE = ("01", "02", "03", "04")


def session(person, ses=None):
    return f"sub-{person}/{f'ses-{ses}/' if ses else ''}anat/sub-{person}{f'_ses-{ses}' if ses else ''}"


@pytest.fixture
def bids(data):
    """Four people, of whom two have two sessions; lesions, tissues and a brain mask in derivatives."""
    for person in PEOPLE:
        for ses in ("pre", "post") if person < "03" else ("pre",):
            stem = session(person, ses)
            ends = ("T1w", "acq-3d_run-1_FLAIR", "ce-gadolinium_T1w", "inv-1_MP2RAGE")
            data.touch(*[f"{stem}_{end}.nii.gz" for end in ends], f"{stem}_T1w.json")
            data.touch(*[f"derivatives/pipeline/{stem}_{end}.nii.gz" for end in ("dseg", "desc-brain_mask")])
            data.label(f"derivatives/manual_masks/{stem}_label-tumor_mask.nii.gz", 1)
    data.touch("participants.tsv", "dataset_description.json", "sub-01/ses-pre/func/sub-01_task-rest_bold.nii.gz")
    return data


def test_sessions_are_subjects_of_one_person(bids, capsys):
    content = bids.scan(validation=1, testing=1)
    assert content["modalities"] == ["FLAIR", "T1ce", "T1"]
    assert content["regions"] == {"lesion": [1]}
    people = [{entry["subject"][:6] for entry in content[split]} for split in ("training", "validation", "testing")]
    assert list(map(len, people)) == [2, 1, 1]
    assert len(set().union(*people)) == 4
    entries = bids.entries()
    assert len(entries) == 6
    stem = session("02", "post")
    assert entries["sub-02_ses-post"] == {
        "subject": "sub-02_ses-post",
        "image": [f"{stem}_{end}.nii.gz" for end in ("acq-3d_run-1_FLAIR", "ce-gadolinium_T1w", "T1w")],
        "label": f"derivatives/manual_masks/{stem}_label-tumor_mask.nii.gz",
    }
    printed = capsys.readouterr().out
    assert "labels: manual_masks/label-tumor_mask (6)\n" in printed
    assert "not used: " in printed


def test_label_maps_beside_the_images_count_as_in_atlas(data):
    for person in PEOPLE:
        stem = f"{session(person, 1)}_space-MNI152NLin2009aSym"
        data.touch(f"{stem}_T1w.nii.gz")
        data.label(f"{stem}_label-L_desc-T1lesion_mask.nii.gz", 1)
    assert data.entries()["sub-01_ses-1"]["label"].endswith("_label-L_desc-T1lesion_mask.nii.gz")


def test_an_image_with_contrast_agent_is_no_image_without(data):
    for person in PEOPLE:
        data.touch(
            *[f"{session(person)}_{end}.nii.gz" for end in ("ce-gadolinium_FLAIR", "FLAIR", "ce-gadolinium_T1w")]
        )
    assert data.scan()["modalities"] == ["FLAIR", "T1ce", "FLAIRce"]
    data.touch(f"{session('01')}_T1w.nii.gz")
    assert list(data.entries(modalities="T1=T1w")) == ["sub-01"]


def test_a_label_map_of_a_session_without_images_belongs_to_no_session(data):
    for person in PEOPLE:
        data.touch(f"{session(person, 1)}_T1w.nii.gz")
        data.label(f"derivatives/manual/{session(person, 2 if person == '01' else 1)}_label-lesion_mask.nii.gz", 1)
    assert [name for name, entry in data.entries().items() if "label" not in entry] == ["sub-01_ses-1"]
