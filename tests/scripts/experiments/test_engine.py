"""States of a study's jobs, and the effect of a further `run`."""

import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from common.errors import ArgumentError
from scripts.experiments import engine
from scripts.experiments.__main__ import experiments
from scripts.experiments.jobs import CommandLine, Places, StudyJob, jobs_of
from tests.processes import is_running, wait_until
from tests.support import ROOT


def states(options, capsys):
    """The state of each job and its reason, as `plan` prints them."""
    capsys.readouterr()
    experiments("plan", **options)
    lines = capsys.readouterr().out.splitlines()[1:-1]
    columns = (line.partition(" ") for line in lines)
    return {rest.strip().partition(": ")[0]: (state, rest.strip().partition(": ")[2]) for state, _, rest in columns}


def worked(work: Path) -> Counter:
    log = work.with_suffix(".log")
    return Counter(log.read_text().split()) if log.exists() else Counter()


ALL = {"first": 2, "second-tiny-0": 1, "second-tiny-1": 1, "second-small-0": 1, "second-small-1": 1, "alone": 1}


def test_a_study_runs_once_and_each_job_gets_what_it_starts_from(options, work, tmp_path, capsys):
    assert {state for state, _ in states(options, capsys).values()} == {"missing"}
    experiments("run", **options, jobs=2)
    assert worked(work) == ALL
    assert set(states(options, capsys).values()) == {("done", "")}
    experiments("run", **options)
    assert worked(work) == ALL
    made = (tmp_path / "out/runs/second/tiny-fold1/predictions/a").read_text()
    assert made == f"{tmp_path}/out/runs/first/tiny/models/model.pt"


PROGRESS = """
from tqdm import tqdm
print("scans: brains without skull", flush=True)
with tqdm(total=240, desc="toy", unit="step") as bar:
    bar.set_postfix({"loss": "0.512"})
    bar.update(120)
"""


def test_the_progress_of_a_job_is_the_last_line_of_its_log(tmp_path):
    log = tmp_path / "run.log"
    assert engine.progress_of("toy", log) == "toy"
    log.write_text("$ python -m toy\n")
    assert engine.progress_of("toy", log) == "toy"
    job = StudyJob("toy", "toy", {}, CommandLine(("python", "-c", PROGRESS)), (), tmp_path / "out", tmp_path)
    assert engine.execute(job, tmp_path).name == "done"
    log = engine.log_of(job, tmp_path)
    assert "scans: brains without skull" in log.read_text()
    assert re.fullmatch(r"toy 120/240 step, \d\d:\d\d left, loss=0\.512", engine.progress_of("toy", log))


def test_a_failed_job_starts_again_as_often_as_asked(options, work, capsys):
    once = """
tried = Path(output, "tried")
if not tried.exists():
    tried.touch()
    sys.exit("out of memory")
"""
    work.write_text(work.read_text().replace("folder = ", f"{once}folder = "))
    (work.parent / "fail-first").touch()
    experiments("run", **options, retries=2, only="alone")
    assert "failed       alone: out of memory; retry 1 of 2\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        experiments("run", **options, retries=2, only="first/tiny")
    output = capsys.readouterr().out
    assert "failed       first/tiny: it broke: first; retry 2 of 2\n" in output
    assert output.endswith("failed       first/tiny: it broke: first\n1 failed\n")
    assert worked(work) == {"alone": 2, "first": 3}


@pytest.mark.parametrize(
    "record", ["", "[]", '{"state": "done", "inputs": [1]}', '{"state": "failed", "last_line": 7}']
)
def test_a_record_that_no_run_has_written_is_none(options, capsys, record):
    folder = Path(options["output"]) / "jobs/alone"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record)
    assert states(options, capsys)["alone"] == ("missing", "")


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_a_command_that_no_program_can_get_fails_alone(options, study, capsys, character):
    content = yaml.safe_load(study.read_text())
    runs = {"wrong": {"command": f"echo a{character}"}, "next": {"command": "mkdir -p {output}/predictions"}}
    engine_jobs = jobs_of(content | {"runs": runs}, Places(Path(options["output"])))
    wrong, other = (engine.execute(job, Path(options["output"])) for job in engine_jobs.values())
    assert (wrong.name, other.name) == ("failed", "done")
    assert wrong.reason.startswith("echo: ")


def test_a_folder_that_is_removed_fails_its_job_only(options, study, capsys):
    content = yaml.safe_load(study.read_text())
    lost = f"bash -c 'rm -r {options['output']}; exit 3'"
    runs = {"lost": {"command": lost}, "next": {"command": "true"}, "silent": {"command": "false"}}
    study.write_text(yaml.safe_dump(content | {"runs": runs}))
    with pytest.raises(SystemExit) as ended:
        experiments("run", **options | {"files": None})
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert re.search(r"failed       lost: /\S+: No such file or directory\nstarts       next;", shown)
    assert "failed       silent: ended with status 1\n" in shown


def test_a_stale_result_says_why(options, study, work, capsys):
    experiments("run", **options)
    text, folder = study.read_text(), Path(options["output"])
    study.write_text(text.replace("alone {output}", "alone {output} more"))
    by_name = states(options, capsys)
    assert by_name.pop("alone") == ("stale", "its command changed")
    assert set(by_name.values()) == {("done", "")}
    study.write_text(text.replace("first {output}", "first {output} more"))
    assert states(options, capsys)["second/tiny-fold0"] == ("stale", "first/tiny is stale")
    study.write_text(text)
    shutil.rmtree(folder / "runs/alone/predictions")
    assert states(options, capsys)["alone"] == ("stale", f"{folder / 'runs/alone/predictions'} is missing")
    work.write_text(work.read_text() + "# changed\n")
    assert states(options, capsys)["first/tiny"] == ("stale", f"{work} changed")


def test_stale_results_are_kept_or_redone_with_what_needs_them(options, study, work, capsys):
    experiments("run", **options)
    study.write_text(study.read_text().replace("first {output}", "first {output} more"))
    capsys.readouterr()
    experiments("run", **options)
    assert worked(work) == ALL
    shown = capsys.readouterr().out
    assert "stale        first/tiny: its command changed\n" in shown
    assert shown.endswith("stale results are kept, and used by jobs that need them; --stale=redo makes them again\n")
    experiments("run", **options, stale="redo")
    assert "stale results are kept" not in capsys.readouterr().out
    assert worked(work) == {name: count * (1 if name == "alone" else 2) for name, count in ALL.items()}
    assert set(states(options, capsys).values()) == {("done", "")}
    kept = list((Path(options["output"]) / "runs/first").glob("tiny-2*/predictions/a"))
    assert len(kept) == 1, "the stale result is moved aside"


def test_changed_code_makes_trainings_stale(monkeypatch, tmp_path):
    code, made = tmp_path / "code.py", tmp_path / "made"
    code.write_text("a")
    made.write_text("b")
    monkeypatch.setattr(engine, "code_files", lambda: [code])
    training, other = (
        StudyJob(name, name, {}, CommandLine(("true", *words)), (), tmp_path / name, made)
        for name, words in {"t": ["monai.bundle"], "o": ["scripts.datalists"]}.items()
    )
    assert {engine.execute(job, tmp_path).name for job in (training, other)} == {"done"}
    code.write_text("changed")
    changed = engine.State("stale", f"{engine.CODE} changed", (engine.CODE,))
    assert engine.state_of(training, tmp_path) == changed
    assert engine.state_of(other, tmp_path).name == "done"


@pytest.fixture
def start(command):
    """Starts `run` with options in a process that ends with the test; a pipe gets its output."""
    processes = []

    def start(*options):
        words = [*command[:3], "run", *command[3:], *options]
        processes.append(subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_until(process, text):
    lines = []
    while text not in "".join(lines[-1:]):
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
    return "".join(lines)


def test_two_runs_at_once_start_no_job_twice_and_both_end_when_all_is_done(start, work):
    (work.parent / "wait-first").touch()
    first = start("--jobs=2")
    wait_until(lambda: worked(work)["first"] == 2)
    second = start("--jobs=2")
    printed = read_until(second, "done         alone")
    assert "7 jobs, 2 running, 5 missing; 7 to do" in printed
    assert "waits        first/tiny: another process runs first/tiny; " in printed
    assert worked(work) == {"first": 2, "alone": 1}
    (work.parent / "wait-first").unlink()
    for process in (first, second):
        printed, _ = process.communicate(timeout=120)
        assert (process.returncode, printed.splitlines()[-1]) == (0, "7 done"), printed
    assert worked(work) == ALL


def test_a_job_of_a_killed_run_is_waited_for_and_continued(start, options, work, capsys):
    (work.parent / "wait-alone").touch()
    killed = start("--only=alone")
    wait_until(lambda: worked(work)["alone"])
    killed.kill()
    killed.wait()
    assert states(options, capsys)["alone"] == ("running", "")
    process = start("--only=alone")
    read_until(process, "waits        alone: another process runs alone; ")
    assert (process.poll(), worked(work)["alone"]) == (None, 1)
    (work.parent / "wait-alone").unlink()
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed.splitlines()[1:]) == (0, ["done         alone", "1 done"])
    assert worked(work)["alone"] == 2, "nobody knows how its first attempt ended"


def test_the_failure_of_another_run_is_not_repeated(start, work):
    (work.parent / "wait-first").touch()
    (work.parent / "fail-first").touch()
    first = start("--only=first/tiny")
    wait_until(lambda: worked(work)["first"])
    second = start("--only=second/tiny-*")
    read_until(second, "waits        first/tiny")
    (work.parent / "wait-first").unlink()
    for process, expected in ((first, "1 failed"), (second, "1 failed, 2 missing")):
        printed, _ = process.communicate(timeout=60)
        assert (process.returncode, printed.splitlines()[-1]) == (1, expected), printed
    assert worked(work) == {"first": 1}


def test_only_runs_what_is_asked_for_and_what_that_needs(options, work):
    experiments("run", **options, only="second/tiny-*")
    assert worked(work) == {"first": 1, "second-tiny-0": 1, "second-tiny-1": 1}
    with pytest.raises(ArgumentError, match=r"only=third\*: no such job; the first is first/tiny"):
        experiments("run", **options, only="third*")


@pytest.mark.parametrize(("sent", "trap"), [(signal.SIGINT, "-"), (signal.SIGTERM, "-"), (signal.SIGTERM, "''")])
def test_a_redo_that_is_stopped_is_not_taken_for_done(options, command, work, capsys, sent, trap):
    """Also where SIGINT is ignored, as by the background jobs of a shell script."""
    experiments("run", **options, only="alone")
    work.write_text(work.read_text() + "# changed\n")
    (work.parent / "wait-alone").touch()
    words = [*command[:3], "run", *command[3:], "--only=alone", "--stale=redo"]
    words = ["bash", "-c", f'trap {trap} INT; exec "$@"', "bash", *words]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
    wait_until(lambda: worked(work)["alone"] == 2)
    process.send_signal(sent)  # the command gets SIGINT, and nothing of it is left
    assert process.wait(60) not in (0, -signal.SIGTERM)
    assert states(options, capsys)["alone"][0] in ("interrupted", "failed")


def test_an_input_that_changes_while_its_job_runs_makes_the_result_stale(options, start, work, capsys):
    (work.parent / "wait-alone").touch()
    process = start("--only=alone")
    wait_until(lambda: worked(work)["alone"])
    work.write_text(work.read_text() + "# changed\n")
    (work.parent / "wait-alone").unlink()
    assert process.wait(60) == 0
    assert states(options, capsys)["alone"] == ("stale", f"{work} changed")


LEAVES_A_CHILD = """
import os, signal, subprocess
from pathlib import Path
print("50 % of the steps", flush=True)
child = subprocess.Popen(["sleep", "600"])
Path(__file__).with_name("child").write_text(str(child.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_workers_of_a_command_that_was_killed_end_with_it(options, work, capsys):
    work.write_text(LEAVES_A_CHILD)
    with pytest.raises(SystemExit):
        experiments("run", **options, only="alone")
    child = (work.parent / "child").read_text()
    wait_until(lambda: not is_running(child))
    assert states(options, capsys)["alone"] == ("failed", "was ended by SIGKILL, probably for lack of memory")


def test_an_interrupted_training_continues_with_more_iterations_and_starts_again_with_another_seed(tmp_path, capsys):
    """A command that fails until `go` exists stands in for the training."""
    results = tmp_path / "training"

    def trained(**options):
        program = ("sh", "-c", f"test -e {tmp_path / 'go'} && touch {results / 'model.pt'} || kill -INT $$", "train")
        command = CommandLine(program, {"resume": "auto"} | options)
        job = StudyJob("train", "train", {}, command, (), results, results / "model.pt", ())
        return engine.execute(job, tmp_path).name

    assert trained(iterations="10", seed="0") == "interrupted"
    (results / "iteration-5.pt").touch()
    assert trained(iterations="20", seed="0") == "interrupted"
    assert (results / "iteration-5.pt").exists()
    assert trained(iterations="20", seed="1") == "interrupted"
    assert not (results / "iteration-5.pt").exists()
    assert "its command has changed: --seed=0, --seed=1" in capsys.readouterr().out
