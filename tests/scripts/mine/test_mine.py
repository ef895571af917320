"""`python -m scripts.mine` on four heads of the embedded cohort: raw scans to a page, again, and edited plans."""

import json
import shutil
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import yaml

from scripts.mine import __main__ as command
from scripts.mine import planning
from scripts.mine.data import Data, find, subjects_in_words
from scripts.mine.plan import read_plan, steps_of
from scripts.mine.planning import judged
from scripts.prepare.scans import find_subjects
from tests.scripts.prepare.moved_heads import make_raw
from tests.support import execute

TINY = {"patch_size": [32, 32, 64], "iterations": 2, "val_interval": 1, "warmup_iterations": 0, "flips": []}


def mine(*words):
    return execute([sys.executable, "-m", "scripts.mine", *map(str, words)])


def edited(file, plan):
    file.write_text(yaml.safe_dump(plan))
    return file


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Four subjects with T1 and the brightest of its voxels as a lesion; one of them with PD, too."""
    folder = tmp_path_factory.mktemp("mine")
    for number in range(4):
        subject = make_raw("atlas", number, folder, spacing=4.0)
        file = folder / f"raw/{subject}/{subject}_T1.nii.gz"
        scan = nibabel.load(file)
        bright = scan.get_fdata() > np.percentile(scan.get_fdata(), 98)
        drawn = nibabel.Nifti1Image(bright.astype(np.uint8), scan.affine)
        nibabel.save(drawn, file.with_name(f"{subject}_lesion.nii.gz"))
    shutil.copy(file, file.with_name(f"{subject}_PD.nii.gz"))
    return folder / "raw"


@pytest.fixture(scope="module")
def planned(raw):
    """The output folder with a plan, and what the command printed."""
    output = raw.parent / "out"
    result = mine(raw, f"--output={output}", "--hours=0.02", "--device=cpu")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in output.iterdir()] == ["plan.yaml"], "a plan does nothing yet"
    return output, result.stdout


def test_subjects_with_a_damaged_file_are_named_and_left_out(tmp_path, capsys):
    for subject in (f"P{number}" for number in range(7)):
        (tmp_path / subject).mkdir()
        for kind, highest in (("T1", 1000), ("seg", 1)):
            voxels = np.random.default_rng(0).integers(0, highest, (9, 9, 9), np.int16, endpoint=True)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{subject}/{subject}_{kind}.nii.gz")
    (tmp_path / "P1/P1_T1.nii.gz").write_bytes(b"damaged")
    for file in (tmp_path / "P2/P2_seg.nii.gz", tmp_path / "P4/P4_T1.nii.gz"):  # P4 is one of the four that are read
        content = bytearray(file.read_bytes())
        content[-100] ^= 255
        file.write_bytes(content)
    data = find(tmp_path, dict.fromkeys(("modalities", "label", "regions", "person")))
    assert [subject.name for subject in data.cases] == ["P0", "P3", "P5", "P6"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines if "left out" in line] == [f"left out  P{n}" for n in (1, 2, 4)]
    assert "3 left out" in subjects_in_words(data)


def unmeasured(raw, monkeypatch, device="cpu"):
    """A plan without the measurements of this machine."""
    monkeypatch.setattr(planning, "gpu_in_words", str)
    fit = planning.Fit({"patch_size": [64] * 3, "batch_size": 1}, 1.0, 0.3, 0.3, "")
    monkeypatch.setattr(planning, "fit_training", lambda *_: fit)
    options = dict.fromkeys(("modalities", "label", "regions", "person"))
    return planning.make_plan(find(raw, options), None, 1.0, device)


def test_structures_are_not_mirrored_since_numbered_ones_may_have_sides(raw, monkeypatch):
    plans = []
    for is_anatomy in (False, True):
        monkeypatch.setattr(planning, "are_structures", lambda *_, found=is_anatomy: found)
        plans.append(unmeasured(raw, monkeypatch))
    assert [plan["train"]["flips"] for plan in plans] == [[0], []]
    assert plans[0]["seconds"]["evaluation"] == pytest.approx(2 * plans[1]["seconds"]["evaluation"])


@pytest.mark.parametrize(("device", "spacing"), [("cpu", [5.0] * 3), ("cuda", None)])
def test_a_small_network_on_a_cpu_trains_on_coarse_voxels(raw, monkeypatch, device, spacing):
    """The limit is 5 mm here, in place of 2, because the heads have voxels of 4 mm."""
    monkeypatch.setitem(planning.FINEST, "cpu", 5.0)
    plan = unmeasured(raw, monkeypatch, device)
    assert plan["train"].get("spacing") == spacing
    assert plan["prepare"]["spacing"] == 4.0, "the stored scans keep their detail"


def test_time_is_planned_for_all_visits_of_a_person():
    cases = [SimpleNamespace(person=person) for person in ("1", "1", "1", "2")]
    data = Data(None, None, None, cases, {"training": ["2"], "validation": ["1"], "testing": ["3"]})
    assert [data.visits(split) for split in data.people] == [1, 3, 0]


def test_an_unclear_layout_is_read_as_scripts_prepare_reads_it(raw, tmp_path):
    root = shutil.copytree(raw, tmp_path / "raw")
    shutil.copy(next(raw.glob("*/*_T1.nii.gz")), root / "template_T1.nii.gz")
    data = find(root, dict.fromkeys(("modalities", "label", "regions", "person")))
    assert data.scan.layout == "flat"
    assert {case.name for case in data.cases} == {path.name for path in raw.iterdir()}
    prepared = find_subjects(root, ["T1"], {})
    assert {subject.name for subject in prepared if subject.labels} == {case.name for case in data.cases}


def test_subjects_without_label_map_do_not_decide_on_the_modalities(raw, tmp_path):
    root = shutil.copytree(raw, tmp_path / "raw")
    (root / "P9").mkdir()
    shutil.copy(next(raw.glob("*/*_PD.nii.gz")), root / "P9/P9_PD.nii.gz")
    data = find(root, dict.fromkeys(("modalities", "label", "regions", "person")))
    assert (data.modalities, len(data.cases)) == (("T1",), 4)


def carried_out(output, plan):
    """What the command prints for a plan with a training of two steps."""
    plan["train"] |= TINY
    output.mkdir(exist_ok=True)
    edited(output / "plan.yaml", plan)
    result = mine(f"--output={output}", "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert read_plan(output / "plan.yaml") == plan
    summary = json.loads((output / "evaluation/summary.json").read_text())
    assert list(summary["regions"]) == ["lesion"]
    assert (output / "evaluation/evaluation.html").is_file()
    return result.stdout


def test_a_plan_is_carried_out_once(planned, tmp_path):
    """Edited to take the heads as they are: to prepare one takes a quarter of a minute of a core."""
    source, _ = planned
    output, plan = tmp_path / "out", read_plan(source / "plan.yaml") | {"prepare": None}
    printed = carried_out(output, plan)
    assert "$ python -m scripts.run brats_finetune inference --dataset_dir=NEW" in printed
    listed = json.loads((output / "datalist.json").read_text())
    assert [len(listed[split]) for split in ("training", "validation", "testing")] == [2, 1, 1]

    model = output / "training/models/model.pt"
    written = model.stat().st_mtime_ns
    again = mine(source.parent / "raw", f"--output={output}", "--yes")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before") == 2
    assert model.stat().st_mtime_ns == written


@pytest.mark.slow
def test_raw_scans_are_prepared(planned, tmp_path):
    plan = read_plan(planned[0] / "plan.yaml")
    plan["prepare"] |= {"accept": ",".join(sorted(path.name for path in planned[0].parent.joinpath("raw").iterdir()))}
    printed = carried_out(tmp_path / "out", plan)
    assert "$ python -m scripts.segment NEW --bundle=brats_finetune --like=brats" in printed
    assert len([*(tmp_path / "out/prepared").glob("*/*_seg.nii.gz")]) == 4


def test_scans_that_need_no_preparation_have_a_plan_that_is_read(raw, planned, tmp_path):
    data = find(raw, dict.fromkeys(("modalities", "label", "regions", "person")))
    plan = read_plan(planned[0] / "plan.yaml")
    plan |= {"prepare": None, "datalist": planning.datalist(data, None, is_raw=False)}
    assert read_plan(edited(tmp_path / "plan.yaml", plan))["datalist"]["layout"] == "folders"


def test_an_option_with_a_new_value_plans_anew(planned, tmp_path, monkeypatch, capsys):
    """The earlier plan, which may have the user's edits, is moved aside."""
    plan = read_plan(planned[0] / "plan.yaml")
    file = edited(tmp_path / "plan.yaml", plan | {"check": {"accept": "empty_mask"}})

    def make_plan(data, person, hours, device):
        return {**plan, "root": str(data.root), "about": {"made for": f"{person} {hours} {device}"}}

    monkeypatch.setattr(planning, "make_plan", make_plan)
    command.mine(output=str(tmp_path), hours=0.02)
    assert read_plan(file)["check"], "the same value"
    command.mine(output=str(tmp_path), hours=2.0)
    new = read_plan(file)
    assert (new["options"], new["about"]) == ({"hours": 2.0, "device": "cpu"}, {"made for": "None 2.0 cpu"})
    assert "planned anew for --hours=2.0" in capsys.readouterr().out
    (earlier,) = tmp_path.glob("plan-*.yaml")
    assert (read_plan(earlier)["check"], new["check"]) == ({"accept": "empty_mask"}, {})
    command.mine(output=str(tmp_path), modalities="T1")
    assert "planned anew for --modalities=T1" in capsys.readouterr().out, "an option that the plan was made without"


def test_people_are_split_after_the_check(planned, tmp_path):
    steps = steps_of(read_plan(planned[0] / "plan.yaml"), tmp_path)
    assert [*steps] == ["prepare", "datalist", "check", "split", "train", "evaluate"]
    assert f"--datalist={steps['check'].target}" in steps["split"].command
    assert steps["split"].target in steps["train"].inputs


def test_a_relative_folder_of_scans_is_that_of_the_reader(planned, raw, tmp_path, monkeypatch):
    file = edited(tmp_path / "plan.yaml", read_plan(planned[0] / "plan.yaml") | {"root": raw.name})
    monkeypatch.chdir(raw.parent)
    assert read_plan(file)["root"] == str(raw.resolve())


def spheres(folder, name, *middles, radius=4.0):
    """A label map of spheres in a volume of 40 x 50 x 40 voxels, as a case."""
    grid = np.moveaxis(np.indices((40, 50, 40)), 0, -1)
    labels = sum((((grid - middle) ** 2).sum(axis=-1) < radius**2 for middle in middles), np.zeros((40, 50, 40), bool))
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), np.eye(4)), folder / name)
    return {"label": str(folder / name)}


@pytest.mark.parametrize(
    ("middles", "expected"),
    [
        ([[(14, 25, 20), (26, 25, 20)], [(15, 26, 22), (27, 26, 22)]], True),  # on both sides, in all people
        ([[(20, 25, 10)], [(20, 25, 30)]], True),  # in a field of view that ends higher
        ([[(20, 22, 20)], [(20, 28, 20)]], False),  # a tumour in front, or behind
        ([[(12, 25, 20)], [(28, 25, 20)]], False),  # a tumour on either side
        ([[(20, 25, 20)], []], False),  # not in everybody
    ],
)
def test_structures_are_named_and_at_one_place_in_everybody(tmp_path, middles, expected):
    cases = [spheres(tmp_path, f"{number}.nii", *of_case) for number, of_case in enumerate(middles)]
    assert planning.are_structures(cases, "thalamus=1") == expected
    assert not planning.are_structures(cases, "lesion=1")


def test_scans_without_skull_on_one_grid_are_used_as_they_are(cohorts):
    entries = json.loads((cohorts / "brats.json").read_text())["training"][:2]
    files = [[str(cohorts / "brats" / file) for file in entry["image"]] for entry in entries]
    cases = [{"subject": entry["subject"], "image": image} for entry, image in zip(entries, files, strict=True)]
    is_raw, words = judged(cases)
    assert (is_raw, "brains without skull" in words) == (False, True)


def test_heads_and_scans_on_different_grids_are_raw(raw, tmp_path):
    subjects = sorted(raw.iterdir())
    file = str(subjects[0] / f"{subjects[0].name}_T1.nii.gz")
    assert judged([{"subject": "whole", "image": [file]}])[0]
    scan = nibabel.load(file)
    moved = nibabel.Nifti1Image(np.asarray(scan.dataobj), np.diag([2.0, 2, 2, 1]) @ scan.affine)
    nibabel.save(moved, tmp_path / "moved.nii.gz")
    assert judged([{"subject": "apart", "image": [file, str(tmp_path / "moved.nii.gz")]}]) == (
        True,
        "files of a subject on different grids",
    )
