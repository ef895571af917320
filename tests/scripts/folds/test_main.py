"""`python -m scripts.folds`: what is run, continued and told; and two folds from end to end."""

import json
import shutil
import sys

import pytest

from common import cli
from common.errors import InputError, input_error_message
from scripts.experiments.engine import open_study
from scripts.experiments.jobs import Places
from scripts.folds import __main__ as module
from scripts.folds import summary
from scripts.folds.setup import Setup
from tests.support import ROOT, TINY, execute

WORK = """
import sys
from pathlib import Path
name, output = sys.argv[1:]
with open(Path(__file__).with_suffix(".log"), "a") as log:
    log.write(f"{name}\\n")
if Path(__file__).with_name(f"fail-{name}").exists():
    sys.exit("it broke: " + name)
(Path(output) / "predictions").mkdir(parents=True)
"""


@pytest.fixture
def cross_validate(tmp_path, monkeypatch):
    """The command, whose trainings are a script that fails where `fail-FOLD` is beside it."""
    script, out = tmp_path / "work.py", tmp_path / "out"
    script.write_text(WORK)

    def set_up(*_):
        run = {"command": f"python {script} {{fold}} {{output}}", "for": {"fold": [0, 1, 2]}, "files": ["script"]}
        places = Places(out, files={"script": script})
        study = {"title": "a", "datalists": {}, "runs": {"model": run}}
        return Setup("model", script, {}, [0, 1, 2], open_study(study, places))

    monkeypatch.setattr(module, "set_up", set_up)
    monkeypatch.setattr(summary, "lines", lambda setup: ["3 cases"])

    def run(**options):
        module.folds("model", datalist="d", dataset_dir="r", output=str(out), **options)
        return script.with_suffix(".log").read_text().split()

    return run


def test_a_fold_that_fails_or_is_stale_is_named_and_nothing_is_summarised_until_it_is_mended(
    cross_validate, tmp_path, capsys
):
    (tmp_path / "fail-1").touch()
    with pytest.raises(SystemExit) as ended:
        cross_validate()
    assert ended.value.code == 1
    log = tmp_path / "out/jobs/model/fold1/run.log"
    assert capsys.readouterr().out.splitlines()[-1] == f"model/fold1 is failed: it broke: 1; log {log}"
    (tmp_path / "fail-1").unlink()
    assert sorted(cross_validate(jobs=2)) == ["0", "1", "1", "2"], "the others were done"
    assert capsys.readouterr().out.splitlines()[-1] == "3 cases"
    (tmp_path / "work.py").write_text(WORK + "# changed\n")
    with pytest.raises(SystemExit) as ended:
        cross_validate()
    assert ended.value.code == 1
    shown = capsys.readouterr().out.splitlines()[-4:]
    log = tmp_path / "out/jobs/model/fold0/run.log"
    assert shown[0] == f"model/fold0 is stale: {tmp_path}/work.py changed; log {log}"
    assert shown[-1] == "stale results were kept; --stale=redo makes them again"
    assert len(cross_validate(stale="redo")) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["atlas_finetune", "--stale=maybe"], "--stale=maybe: expected one of keep, redo"),
        (["atlas_finetune", "--amp"], "--amp: no value; expected one"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, monkeypatch, words, message):
    places = ["--datalist=F.json", "--dataset_dir=.", f"--output={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["folds", *words, *places])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(InputError) as error:
        cli.run(module.folds, "folds")
    assert input_error_message(error.value).replace(f"{ROOT}/", "") == message
    assert not (tmp_path / "out").exists()


def run(*words: str) -> str:
    result = execute([sys.executable, "-m", *words])
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_two_folds_from_scans_to_an_ensemble(tmp_path):
    """The pooled figures are those of one evaluation of the union of the predictions."""
    data, lists, out = tmp_path / "atlas", tmp_path / "atlas.json", tmp_path / "out"
    size = ["--subjects=6", "--spacing=4", "--skull_stripped=true", "--workers=1"]
    run("scripts.phantoms", "make", "--layout=atlas", f"--output={data}", *size)
    run("scripts.datalists", "atlas", f"--root={data}", f"--output={lists}", "--validation=2")
    places = [f"--datalist={lists}", f"--dataset_dir={data}", f"--output={out}"]
    printed = run("scripts.folds", "atlas_finetune", *places, "--folds=2", "--validation=1", "--jobs=2", *TINY)

    content = json.loads(lists.read_text())
    content |= {"testing": content["training"] + content["validation"], "training": [], "validation": []}
    (tmp_path / "union.json").write_text(json.dumps(content))
    (tmp_path / "union").mkdir()
    for file in out.glob("runs/atlas_finetune/fold*/eval/evaluation/predictions/*.nii.gz"):
        shutil.copy(file, tmp_path / "union")
    references = [f"--references={tmp_path}/union.json", f"--dataset_dir={data}", f"--output={tmp_path}/hand"]
    run("scripts.evaluate", f"--predictions={tmp_path}/union", "--protocol=atlas", *references)
    pooled = out / "runs/atlas_finetune/pooled"
    for name in ("metrics.csv", "lesions.csv", "summary.json"):
        assert (pooled / name).read_bytes() == (tmp_path / "hand" / name).read_bytes()
    assert (pooled / "evaluation.html").is_file()
    assert "6 cases, each predicted by the model of the fold that held it out; by atlas" in printed

    (tmp_path / "scans").mkdir()
    shutil.copy(next(data.rglob("*_T1w.nii.gz")), tmp_path / "scans/new_T1w.nii.gz")
    command = printed.splitlines()[-1].replace("SCANS", f"{tmp_path}/scans").replace("PREDICTIONS", f"{tmp_path}/new")
    command = command.replace("python -m", f"{sys.executable} -m", 1)
    result = execute(["bash", "-c", command])
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "new/new.nii.gz").is_file()
