"""Each environment variable that stops or changes a command is named in its message; commands start cold."""

import getpass
import importlib
import os
import pwd
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import common
from common.environment import MATPLOTLIB, child_environment, prepare_process
from tests.scripts.evaluate.evaluations import blobs, save
from tests.support import ROOT, execute, execute_as_unknown_user, needs_root

RECIPES = {  # file -> lines that set the environment
    "container/Dockerfile": r"^ENV (.*)$",
    "deploy/Dockerfile": r"^ENV (.*)$",
    "container/brainsegfounder.def": r"^%environment\n((?:    .*\n)+)",
}


@pytest.fixture
def folder():
    """Yield a folder that any user may write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def evaluate(folder):
    """Return a command that evaluates one case and writes to the folder `out`."""
    for name, seed in (("p", 0), ("r", 1)):
        save(folder / name / "case.nii.gz", blobs(seed))
    options = [f"--predictions={folder / 'p'}", f"--references={folder / 'r'}", f"--output={folder / 'out'}"]
    return [sys.executable, "-m", "scripts.evaluate", *options, "--protocol=atlas", "--workers=1"]


def page_of(folder):
    """Return an evaluation's page without its last part, which contains the time and the command."""
    return (folder / "out/evaluation.html").read_text().partition("About this page")[0]


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")])
def test_threads_that_wait_leave_their_core_to_others(evaluate, given, used):
    ended = execute(evaluate, cold=True, OMP_DISPLAY_ENV="true", **given)
    assert {*re.findall(r"OMP_WAIT_POLICY = '(\w+)'", ended.stderr)} == {used}


def test_settings_of_matplotlib_change_and_stop_nothing(evaluate, folder):
    """MPLBACKEND names a package that is not installed, as in a notebook; settings are broken, also in the folder."""
    assert execute(evaluate).returncode == 0
    expected = page_of(folder)
    (folder / "latex").write_text("text.usetex: True")
    (folder / "matplotlibrc").write_bytes(b"\xff\xfe no text")
    hostile = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(folder / "latex")}
    ended = execute(evaluate, folder, cold=True, PYTHONPATH=str(ROOT), MPLCONFIGDIR="/proc/none", **hostile)
    assert ended.returncode == 0, ended.stderr
    assert "atplotlib" not in ended.stderr
    assert page_of(folder) == expected


@pytest.mark.parametrize(
    ("options", "variables", "line"),
    [
        ([], {"PYTHONWARNINGS": "error"}, "PYTHONWARNINGS=error: libraries warn in every run; expected a value"),
        ([], {"PYTHONWARNINGS": "ignore,err::UserWarning"}, "PYTHONWARNINGS=ignore,err::UserWarning: libraries warn"),
        (["-W", "error"], {}, "-W error: libraries warn in every run"),
        ([], {"MONAI_TRACE_TRANSFORM": "0"}, "MONAI_TRACE_TRANSFORM=0: expected 1 or unset"),
    ],
)
def test_a_variable_that_would_stop_a_run_is_named_first(options, variables, line):
    command = [sys.executable, *options, "-m", "scripts.run", "brats_finetune", "train"]
    ended = execute(command, cold=True, **variables)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {line}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("setting", ["TQDM_MININTERVAL=x", "TQDM_BAR_FORMAT={nope}", "TQDM_FILE=x", "TQDM_NCOLS=x"])
@pytest.mark.parametrize("command", ["scripts.evaluate --output=out", "scripts.run brats_finetune train"])
def test_variables_that_tqdm_cannot_use_are_refused_before_a_bar_is_drawn(command, setting):
    name, value = setting.split("=")
    ended = execute([sys.executable, "-m", *command.split()], cold=True, **{name: value})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"error: {re.escape(setting)}: \w+Error: .+; expected values that .+\n", ended.stderr)


@pytest.mark.parametrize("command", ["scripts.run", "scripts.evaluate"])
def test_help_without_its_texts_is_refused(command):
    ended = execute([sys.executable, "-m", command, "--help"], cold=True, PYTHONOPTIMIZE="2")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: PYTHONOPTIMIZE=2: removes the help texts; expected 1, -O or unset\n"


def test_a_variable_that_a_library_refuses_is_named(evaluate):
    ended = execute(evaluate, cold=True, TORCH_LOGS="nonsense")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: TORCH_LOGS=nonsense: PyTorch has no log with this name; expected ")


def test_harmless_variables_are_let_through(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", ["default", "ignore::UserWarning", ""])
    monkeypatch.setenv("MONAI_EVAL_EXPR", "1")
    prepare_process()
    assert {name: os.environ[name] for name in MATPLOTLIB} == MATPLOTLIB


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("1", "1")])
def test_a_gpu_computes_float32_without_tf32_unless_the_environment_allows_it(before, after, monkeypatch):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if before is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", before)
    prepare_process()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == after


def test_a_user_without_a_name_gets_one(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    importlib.reload(common)
    assert os.environ["USER"] == "", "the machine knows this user"
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    importlib.reload(common)
    assert getpass.getuser() == f"uid{os.getuid()}"


@needs_root
def test_a_user_without_name_and_home_folder_evaluates(evaluate):
    ended = execute_as_unknown_user(evaluate)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].endswith("/out/evaluation.html")
    assert all("|" in line for line in ended.stderr.splitlines() if line), "a bar, and no warning"


@needs_root
@pytest.mark.parametrize(
    ("command", "status", "line"),
    [
        pytest.param(
            "scripts.run brats_finetune train --dataset_dir=/none", 2, "error: --dataset_dir", marks=pytest.mark.slow
        ),
        pytest.param(
            "scripts.segment /none --bundle=atlas_finetune --output=/none", 2, "error: ", marks=pytest.mark.slow
        ),
        ("scripts.prepare --help", 0, "usage: "),
    ],
)
def test_a_user_without_name_and_home_folder_gets_the_same_answers(command, status, line):
    ended = execute_as_unknown_user([sys.executable, "-m", *command.split()], HOME="/")
    assert ended.returncode == status, ended.stderr
    assert any(printed.startswith(line) for printed in (ended.stdout + ended.stderr).splitlines()), ended.stderr
    assert "getpwuid" not in ended.stderr


def environment_of(recipe):
    """Return the environment variables that a container recipe sets."""
    settings = re.findall(RECIPES[recipe], (ROOT / recipe).read_text(), re.MULTILINE)
    exports = "\n".join(line if line.startswith(" ") else f"export {line}" for line in settings)
    shell = ["env", "-i", "sh", "-euc", f"{exports}\nenv"]
    lines = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


@needs_root
@pytest.mark.parametrize("module", ["getpass", pytest.param("monai.bundle", marks=pytest.mark.slow)])
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_user_may_run_a_container(recipe, module, folder):
    """`monai.bundle run` imports MONAI before the bundle's code, so it needs the image's variables."""
    variables = environment_of(recipe)
    assert variables["HOME"] == "/tmp", "everybody may write to it"
    command = [sys.executable, "-c", f"import getpass, {module}; getpass.getuser()"]
    ended = execute_as_unknown_user(command, **variables | {"HOME": str(folder)})
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_child_process_imports_the_checkout_and_nothing_of_the_current_folder(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/__init__.py").write_text("raise SystemExit('of the current folder')")
    command = [sys.executable, "-c", "import os, scripts; print(os.getcwd(), scripts.__file__)"]
    result = subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=True)
    assert result.stdout == f"{tmp_path} {ROOT / 'scripts/__init__.py'}\n"
