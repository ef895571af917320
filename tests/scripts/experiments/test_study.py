"""The jobs of studies, and refused studies."""

import re
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import yaml

from common.configs import parsed
from common.errors import InputError
from common.literals import literal
from scripts.experiments.jobs import OWN, ROOT, Places, jobs_of, texts_of
from scripts.experiments.study import STUDIES, check, read

ROOTS = {"ukb": Path("/data/ukb"), "brats": Path("/data/brats"), "atlas": Path("/data/atlas")}
SIZES, FOLDS = ["tiny", "small"], [0, 1, 2]
CONTENT = {
    "title": "Sizes",
    "datalists": {
        "ukb": {"layout": "ukb", "options": {"validation": 0.05}},
        "brats": {"layout": "brats", "for": {"fold": FOLDS}, "options": {"seed": "{fold}"}},
        "few": {"from": "brats", "for": {"fraction": [0.05, 0.1]}, "options": {"fraction": "{fraction}"}},
    },
    "runs": {
        "stage1": {
            "bundle": "ukb_ssl_pretrain",
            "datalist": "ukb",
            "for": {"size": SIZES},
            "options": {"model_size": "{size}"},
        },
        "stage2": {"bundle": "brats_stage2", "datalist": "brats", "pretrained": "stage1"},
        "two_stage": {"bundle": "brats_finetune", "datalist": "brats", "pretrained": "stage2", "evaluate": True},
        "few_shot": {"bundle": "brats_finetune", "datalist": "few", "pretrained": "stage2"},
    },
}


def jobs(content=CONTENT, **places):
    return jobs_of(content, Places(Path("/out"), ROOTS, **places))


def test_jobs_are_all_combinations_whose_shared_axes_agree_and_that_an_entry_chooses():
    small = {"bundle": "brats_finetune", "datalist": "brats", "pretrained": "stage2", "for": {"size": ["small"]}}
    by_name = jobs(CONTENT | {"runs": CONTENT["runs"] | {"small": small}})
    pairs = [f"fold{fold}-{size}" for fold, size in product(FOLDS, SIZES)]
    expected = {
        "ukb": ["ukb"],
        "brats": [f"brats/fold{fold}" for fold in FOLDS],
        "stage1": [f"stage1/{size}" for size in SIZES],  # shared by all folds
        "stage2": [f"stage2/{pair}" for pair in pairs],
        "two_stage": [f"two_stage/{pair}{end}" for pair in pairs for end in ("", "/evaluation")],
        "small": [f"small/fold{fold}-small" for fold in FOLDS],
    }
    assert {entry: [name for name, job in by_name.items() if job.entry == entry] for entry in expected} == expected
    assert sum(job.entry == "few_shot" for job in by_name.values()) == len(FOLDS) * len(SIZES) * 2
    assert by_name["small/fold2-small"].needs == ("brats/fold2", "stage2/fold2-small")


def test_a_job_comes_after_what_it_needs_and_starts_from_the_same_fold_and_size():
    by_name = jobs()
    places = list(by_name)
    for name, job in by_name.items():
        assert all(places.index(need) < places.index(name) for need in job.needs)
        for need in job.needs:
            assert all(job.values[axis] == value for axis, value in by_name[need].values.items())
    job = by_name["few_shot/fold2-fraction0.05-small"]
    assert job.needs == ("few/fold2-fraction0.05", "stage2/fold2-small")
    assert Path("/out/runs/stage2/fold2-small/models/model.pt") in job.inputs


def test_monai_gets_an_expression_for_a_folder_with_a_hash():
    command = jobs_of(CONTENT, Places(Path("/out#1"), ROOTS))["stage1/tiny"].command
    assert "--ckpt_dir=/out#1/runs/stage1/tiny/models" in command.words
    assert r"--ckpt_dir=$'/out\U000000231/runs/stage1/tiny/models'" in command.arguments
    assert r"'--ckpt_dir=$'" in str(command)


def test_commands_are_those_that_a_user_would_type():
    by_name = jobs()
    datalist = by_name["brats/fold1"].command
    assert datalist.words == [
        *("python", "-m", "scripts.datalists", "brats", "--root=/data/brats", "--seed=1"),
        "--output=/out/datalists/brats-fold1.json",
    ]
    training = by_name["stage2/fold1-tiny"].command
    assert training.folder == ROOT / "bundles/brats_stage2"
    assert training.words == [
        *("python", "-m", "monai.bundle", "run", "--config_file=configs/train.yaml", "--dataset_dir=/data/brats"),
        "--datalist=/out/datalists/brats-fold1.json",
        "--output_dir=/out/runs/stage2/fold1-tiny/eval",
        "--ckpt_dir=/out/runs/stage2/fold1-tiny/models",
        *("--pretrained=/out/runs/stage1/tiny/models/model.pt", "--resume=auto"),
    ]
    assert by_name["stage1/tiny"].command.words[-1] == "--model_size=tiny"
    training = jobs(gpus=4)["stage1/tiny"].command
    assert training.program[2:] == ("torch.distributed.run", "--nproc_per_node=4", "-m", "monai.bundle", "run")
    assert training.options["config_file"] == "['configs/train.yaml','configs/multi_gpu_train.yaml']"


def test_a_cohort_that_is_not_given_is_made_or_its_jobs_say_what_is_missing():
    made = jobs_of(CONTENT | {"cohorts": {"ukb": {"subjects": 3}}}, Places(Path("/out"), {}))
    assert made["cohorts/ukb"].command.words[-1] == "--subjects=3"
    assert (made["ukb"].needs, made["ukb"].absent) == (("cohorts/ukb",), "")
    assert {job.entry for job in made.values() if Path("/out/cohorts/ukb") in job.inputs} == {"ukb", "stage1"}
    absent = {job.absent for job in made.values() if job.entry in ("brats", "few", "stage2")}
    assert absent == {"expected --brats, the folder of the cohort"}


def test_the_documented_study_has_the_documented_jobs(tmp_path):
    block, _ = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/reference/studies.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "s.yaml").write_text(block)
    by_name = jobs(read(str(tmp_path / "s.yaml"))[1])
    counts = Counter(job.entry for job in by_name.values())
    assert [counts[entry] for entry in ("stage1", "two_stage", "scratch")] == [2, 8, 4]


def of_own_datalist(**run):
    """A study of the folds of a user's datalist."""
    folds = {"from": "own", "files": ["own"], "for": {"fold": FOLDS}, "options": {"folds": 3, "fold": "{fold}"}}
    model = {"bundle": "brats_finetune", "datalist": "folds", "evaluate": "validation"}
    return {"title": "Own", "datalists": {"folds": folds}, "runs": {"model": model | run}}


OWN_PLACES = Places(Path("/out"), {OWN: Path("/data/own")}, {"own": Path("/own.json")})


def test_the_folds_of_a_datalist_that_is_given(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(of_own_datalist(), sort_keys=False))
    _, content = read(str(path))
    by_name = jobs_of(content, OWN_PLACES)
    fold = by_name["folds/fold2"]
    assert fold.command.words == [
        *("python", "-m", "scripts.datalists", "fold", "--datalist=/own.json", "--folds=3", "--fold=2"),
        "--output=/out/datalists/folds-fold2.json",
    ]
    assert fold.inputs == (Path("/own.json"),)
    assert "--dataset_dir=/data/own" in by_name["model/fold2"].command.words
    for places, missing in (
        (Places(Path("/out"), {}, OWN_PLACES.files), "expected --dataset_dir, the folder of the datalist's paths"),
        (Places(Path("/out"), OWN_PLACES.roots), "expected --files with own"),
    ):
        assert {job.absent for job in jobs_of(content, places).values()} == {missing}


def test_data_sets_of_a_folder(tmp_path):
    """`datalists generic` reads each; jobs that start from its datalist have its folder, too."""
    data = {"data": "IXI-2", "options": {"testing": 40}}
    few = {"from": "all", "for": {"fraction": [0.1]}, "options": {"fraction": "{fraction}"}}
    model = {"bundle": "brats_finetune", "datalist": "few", "evaluate": True}
    content = {"title": "Real", "datalists": {"all": data, "few": few}, "runs": {"model": model}}
    check(content, "a study")
    for entry in ({**data, "data": "../ixi"}, {**data, "data": "a/b"}, {**data, "options": {"root": "/etc"}}):
        with pytest.raises(InputError):
            check({**content, "datalists": {"all": entry}}, "a study")
    root = tmp_path / "IXI-2"
    places = Places(Path("/out"), {OWN: tmp_path})
    missing = jobs_of(content, places)
    assert {job.absent for job in missing.values()} == {f"expected a folder {root}"}
    root.mkdir()
    by_name = jobs_of(content, places)
    assert by_name["all"].command.words == [
        *("python", "-m", "scripts.datalists", "generic", f"--root={root}", "--testing=40"),
        "--output=/out/datalists/all.json",
    ]
    model, evaluation = by_name["model/fraction0.1"], by_name["model/fraction0.1/evaluation"]
    assert all(f"--dataset_dir={root}" in job.command.words for job in (model, evaluation))
    missing = jobs_of(content, Places(Path("/out")))
    assert {job.absent for job in missing.values()} == {"expected --dataset_dir, the folder of the datalist's paths"}


def test_options_of_the_evaluation_are_its_own():
    by_name = jobs_of(of_own_datalist(evaluation={"protocol": "dice", "overlap": 0.25}), OWN_PLACES)
    assert {"--protocol=dice", "--overlap=0.25"} <= set(by_name["model/fold0/evaluation"].command.words)
    assert not {"--protocol=dice", "--overlap=0.25"} & set(by_name["model/fold0"].command.words)


def test_the_evaluations_of_an_axis_are_pooled():
    by_name = jobs_of(of_own_datalist(**{"for": {"size": SIZES}, "pool": "fold"}), OWN_PLACES)
    assert list(by_name)[-2:] == ["model/tiny/pooled", "model/small/pooled"]
    job = by_name["model/small/pooled"]
    folders = [f"/out/runs/model/fold{fold}-small/eval/evaluation" for fold in FOLDS]
    assert job.command.words == [
        *("python", "-m", "scripts.evaluate", "pool", *folders),
        *("--names=fold0,fold1,fold2", "--data=['/data/own','/out']", "--output=/out/runs/model/small/pooled"),
    ]
    assert job.needs == tuple(f"model/fold{fold}-small/evaluation" for fold in FOLDS)
    assert (job.values, job.is_evaluation) == ({"size": "small"}, True)
    assert job.target == Path("/out/runs/model/small/pooled/summary.json")
    assert {Path(folder, "metrics.csv") for folder in folders} <= set(job.inputs)


def test_a_training_depends_on_the_weights_of_an_option(tmp_path):
    weights = tmp_path / "w1.pt"
    weights.touch()
    by_name = jobs_of(of_own_datalist(options={"pretrained": f"{tmp_path}/w{{fold}}.pt"}), OWN_PLACES)
    assert weights in by_name["model/fold1"].inputs
    assert all(path.parent != tmp_path for path in by_name["model/fold0"].inputs)


def test_a_study_from_elsewhere_is_named_as_a_program(tmp_path, capsys):
    read("quickstart")
    assert capsys.readouterr().err == ""
    copy = Path(shutil.copy(STUDIES / "quickstart.yaml", tmp_path))
    read(str(copy))
    assert capsys.readouterr().err.startswith(f"warning: {copy}: its commands run as a program")


@pytest.mark.parametrize("value", [{"_target_": "DiceLoss", "sigmoid": False, "weight": [1.5, None]}, [True, "a", 0]])
def test_a_component_or_list_keeps_its_values_on_a_command_line(value):
    """`false` within a mapping would be text, which is true."""
    assert parsed("loss", texts_of({"loss": value}, {}, "")["loss"]) == value


@pytest.mark.parametrize("value", [None, False, 0.01, [1, 2], "$None"])
def test_a_component_s_argument_keeps_its_value_on_a_command_line(value):
    """MONAI's command (python-fire) reads `null` and `false` as text."""
    assert literal(texts_of({"network_def::prior": value}, {}, "")["network_def::prior"]) == value
