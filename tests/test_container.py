"""The recipes of container/ and deploy/: what a build would install, from where, and as whom. None is built here."""

import re
import shutil
import subprocess

import pytest

from tests.support import ROOT

DOCKERFILE = ROOT / "container/Dockerfile"
DEFINITION = ROOT / "container/brainsegfounder.def"
DEPLOY = ROOT / "deploy/Dockerfile"


def without_comments(path):
    return "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))


def instructions(path):
    """Each instruction of a Dockerfile on one line: its name and its arguments."""
    lines = without_comments(path).replace("\\\n", "").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def commands(shell):
    """The simple commands of some shell text, one a line."""
    return [command.strip() for line in shell.replace("\\\n", "").splitlines() for command in line.split("&&")]


def run_commands(path):
    return [command for name, text in instructions(path) if name == "RUN" for command in commands(text)]


@pytest.mark.parametrize("path", [DOCKERFILE, DEPLOY, DEFINITION], ids=lambda path: path.parent.name + path.suffix)
def test_what_a_build_installs_is_checked_by_hash(path):
    text = without_comments(path)
    assert re.findall(r"[<>=~]=\s*[0-9].*", text) == []
    installs = [command.split() for command in commands(text) if "pip install" in command]
    unchecked = [words[-1] for words in installs if not {"--require-hashes", "--no-deps"} <= {*words}]
    assert unchecked == ([] if path == DEPLOY else ['requirements.lock)"']), "PyTorch for GPUs has other files"
    assert "@sha256:" in text
    assert "latest" not in text


@pytest.mark.parametrize("path", [DOCKERFILE, DEPLOY], ids=["container", "deploy"])
def test_no_container_runs_as_root(path):
    names = [name for name, _ in instructions(path)]
    (user,) = (text for name, text in instructions(path) if name == "USER")
    assert user not in ("root", "0")
    assert names[names.index("USER") :] in (["USER", "CMD"], ["USER", "ENTRYPOINT"])


def test_nothing_but_the_requirements_reaches_the_build():
    """A checkout may hold data and weights; the code comes from the checkout."""
    ignored = without_comments(ROOT / "container/Dockerfile.dockerignore").split()
    copied = [text.split()[0] for name, text in instructions(DOCKERFILE) if name == "COPY"]
    assert ignored == ["*", *(f"!{source}" for source in copied)] == ["*", "!requirements.lock"]


def test_what_a_gpu_build_installs_is_the_lock_and_one_pytorch(tmp_path):
    """The shell that takes the lock apart, as the build runs it."""
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    (torch,) = re.findall(r"\$\((.*?)\)", DOCKERFILE.read_text())
    (others,) = (command for command in run_commands(DOCKERFILE) if command.startswith("sed "))
    command = ["bash", "-euc", f"{torch}\n{others}"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (pin,) = re.findall(r"^torch==\S+$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found.stdout == f"{pin}\n"
    every, rest = (
        re.findall(r"^([a-z0-9-]+)==", (tmp_path / file).read_text(), re.MULTILINE)
        for file in ("requirements.lock", "others.lock")
    )
    assert rest == [name for name in every if name != "torch"]
