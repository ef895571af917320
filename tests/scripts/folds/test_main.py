"""`python -m scripts.folds`: jobs run, continue, and are reported."""

import sys
from types import SimpleNamespace

import pytest

from common import cli
from common.errors import InputError, input_error_message
from scripts import arrays
from scripts.experiments.engine import open_study
from scripts.experiments.jobs import Places
from scripts.folds import __main__ as module
from scripts.folds import summary
from scripts.folds.setup import Setup
from tests.scripts.experiments.work import WORK
from tests.support import ROOT


@pytest.fixture
def cross_validate(tmp_path, monkeypatch):
    """The command, with a script instead of training, which fails if `fail-FOLD` exists."""
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


def test_a_job_that_slurm_refuses_is_named_with_the_reason(cross_validate, monkeypatch, capsys):
    def refuse(*_):
        raise InputError("sbatch: fatal: no configuration")

    monkeypatch.setattr(arrays, "array_of", lambda *_: SimpleNamespace(call=refuse))
    with pytest.raises(SystemExit):
        cross_validate(slurm={})
    assert capsys.readouterr().out.splitlines()[-1] == "model/fold2 is failed: sbatch: fatal: no configuration"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["atlas_finetune", "--stale=maybe"], "--stale=maybe: expected one of keep, redo"),
        (["atlas_finetune", "--amp"], "--amp: no value"),
        (["atlas_finetune", "--folds_seed=-1"], "--folds_seed=-1: expected a whole number from 0"),
        (["atlas_finetune", "--overlays=5"], "datalist F.json: No such file or directory; expected a datalist"),
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
