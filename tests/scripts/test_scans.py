"""`scans` on collections as published, with their tables, and on other folders."""

import pytest

from common.data.datalists import Datalist
from tests.scripts.datalists.folders import touch, written

FOMO_300K = "PT030_OpenNeuro/ds000001/sub-{n}/ses-01/anat/sub-{n}_ses-01_"
OPEN_MIND = "ds000001/sub-{n}/anat/sub-{n}_"
MASKS = f"{OPEN_MIND}T1w_anon_mask {OPEN_MIND}mod-T1w_defacemask {OPEN_MIND}part-phase_T1w"
IXI = "IXI0{n}-Guys-0828-T1"
LAYOUTS = {  # paths of each of four people; person; sequences of the scans; what else; options
    "FOMO-60K": ("PT001_OASIS1/sub_{n}/ses_1/t1_2 PT001_OASIS1/sub_{n}/ses_2/scan", "PT001_OASIS1/sub_{n}", "T1 -"),
    "FOMO-60K, first release": ("sub_{n}/ses_1/t1 sub_{n}/ses_1/dwi", "sub_{n}", "DWI T1"),
    "FOMO-300K": (f"{FOMO_300K}run-1_T1w {FOMO_300K}T2w", "PT030_OpenNeuro/ds000001/sub-{n}", "T1 T2"),
    "FOMO-300K, without session": ("PT021_IXI/sub-{n}/anat/sub-{n}_ce-gd_T1w", "PT021_IXI/sub-{n}", "T1ce"),
    "OpenMind": (f"OpenMind/{OPEN_MIND}T1w", "OpenMind/ds000001/sub-{n}", "T1", MASKS),
    "OpenMind itself": (f"{OPEN_MIND}inplaneT2 {OPEN_MIND}T2w", "ds000001/sub-{n}", "inplaneT2 T2", MASKS),
    "a flat folder": (IXI, "IXI0{n}-Guys", "T1", "IXI0{n}-Guys-0828-T1_mask"),
    "two files for a modality": ("P{n}/a_T1 P{n}/b_T1 P{n}/post_T1", "P{n}", "T1 T1 T1|T1ce"),
    "visits in names": ("sub-{n}_ses-01/T1 sub-{n}_ses-02/T1", "sub-{n}", "T1 T1"),
    "a pattern for visits": ("P{n}_v1/T1 P{n}_v2/T1", "P{n}", "T1 T1", "", {"pattern": "{subject}/{modality}"}),
    "a pattern": ("{n}/late/x T1/{n}", "{n}", "x", "", {"pattern": "{subject}/{session}/{modality}"}),
}


def scans(root, **options):
    """The datalist, and path without suffix -> entry."""
    content = written("scans", root, **{"validation": 2} | options)
    entries = [entry for split in ("training", "validation", "testing") for entry in content[split]]
    return content, {entry["image"][0].removesuffix(".nii.gz"): entry for entry in entries}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_collections_are_read(root, tmp_path, capsys, name):
    paths, person, sequences, others, options = (*LAYOUTS[name], *("", {})[len(LAYOUTS[name]) - 3 :])
    for number in "1234":
        touch(root, *[f"{path}.nii.gz".format(n=number) for path in (paths + " " + others).split()])
    content, found = scans(root, **options)
    for number in "1234":
        listed = [entry for path, entry in found.items() if path in paths.format(n=number).split()]
        assert {entry["person"] for entry in listed} == {person.format(n=number)}
        stated = sorted(entry.get("sequence", "-").replace("T1 or T1ce", "T1|T1ce") for entry in listed)
        assert stated == sorted(sequences.split())
    assert len(found) == 4 * len(sequences.split())
    assert content["modalities"] == ["MR"]
    assert Datalist(tmp_path / "list.json", root).load("training", ["MR"])
    assert ("left out: masks" in capsys.readouterr().out) == ("mask" in others)


def test_tables_state_sequences_and_people_of_two_data_sets(root):
    rows = {"mapping.tsv": ["dataset old_path new_path"], "mri_info.tsv": ["dataset filename SeriesDescription"]}
    for dataset, numbers in (("PT005_ADHD-200", (11, 12, 13)), ("PT014_CoRR", (13, 14, 15))):
        for index, number in enumerate(numbers):
            path = f"sub-{index}/ses-01/anat/sub-{index}_ses-01_scan.nii.gz"
            touch(root, f"{dataset}/{path}")
            rows["mapping.tsv"].append(f"{dataset} NYU_00100{number}/x.nii.gz {path}")
            rows["mri_info.tsv"].append(f"{dataset} {path} {'t2_tirm_dark-fluid' if index else 't1_mprage_sag'}")
    for table, lines in rows.items():
        (root / table).write_text("\n".join(lines).replace(" ", "\t") + "\n")
    _, found = scans(root)
    assert [entry["sequence"] for entry in found.values()].count("FLAIR") == 4
    people = {path.partition("/ses")[0]: entry["person"] for path, entry in found.items()}
    assert people.pop("PT014_CoRR/sub-0") == "PT005_ADHD-200/sub-2"
    assert people == {person: person for person in people}
    (root / "openneuro_metadata.csv").write_text("image_path,modality\nds1/sub-1/anat/scan.nii.gz,T2w\n")
    touch(root, "OpenMind/ds1/sub-1/anat/scan.nii.gz")
    assert scans(root)[1]["OpenMind/ds1/sub-1/anat/scan"]["sequence"] == "T2"


def test_all_scans_of_a_person_are_in_one_split(root, capsys):
    for dataset in ("PT001", "PT002"):
        for person in range(10):
            touch(root, *[f"{dataset}/sub-{person}/ses-{n}/{kind}.nii.gz" for n in (1, 2) for kind in ("t1", "flair")])
    content, found = scans(root, validation=0.2, testing=3)
    people = [{entry["person"] for entry in content[split]} for split in ("training", "validation", "testing")]
    assert [len(part) for part in people] == [13, 4, 3]
    assert len(set().union(*people)) == 20
    assert len(found) == 80
    again, flair = scans(root, validation=0.2, testing=3, sequences="FLAIR,PDw")
    assert {path.rpartition("/")[2] for path in flair} == {"flair"}
    assert {entry["person"] for entry in again["testing"]} == people[2]
    assert "left out: other sequences: 40, such as PT001/sub-0/ses-1/t1.nii.gz, " in capsys.readouterr().out
