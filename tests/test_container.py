"""The recipes of container/ and deploy/: what a build would install, from where, and as whom. None is built here."""

import re
import shlex
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


def section(name):
    """A section of the Apptainer definition, without the indentation."""
    found = re.search(rf"^%{name}\n((?:    .*\n|\n)*)", DEFINITION.read_text(), re.MULTILINE)
    return re.sub(r"^    ", "", found[1], flags=re.MULTILINE)


def commands(shell):
    """The simple commands of some shell text, one a line."""
    return [command.strip() for line in shell.replace("\\\n", "").splitlines() for command in line.split("&&")]


def run_commands(path):
    return [command for name, text in instructions(path) if name == "RUN" for command in commands(text)]


@pytest.mark.parametrize("path", [DOCKERFILE, DEPLOY, DEFINITION], ids=lambda path: path.parent.name + path.suffix)
def test_versions_and_hashes_are_those_of_the_locks(path):
    text = without_comments(path)
    assert re.findall(r"[<>=~]=\s*[0-9].*", text) == []
    installs = [command.split() for command in commands(text) if "pip install" in command]
    assert all("--no-cache-dir" in words for words in installs)
    unchecked = [words[-1] for words in installs if not {"--require-hashes", "--no-deps"} <= {*words}]
    assert unchecked == ([] if path == DEPLOY else ['requirements.lock)"']), "PyTorch for GPUs has other files"
    assert re.findall(r"\bapt-get install (?!--yes --no-install-recommends )", text) == []
    assert text.count("apt-get update") == text.count("rm -rf /var/lib/apt/lists/*") == 1
    assert not re.search(r"\bmake\b|\blatest\b", text)


def test_torch_comes_from_the_index_that_the_requirements_name():
    (index,) = re.findall(r"make install TORCH_INDEX=(\S+)", (ROOT / "requirements.txt").read_text())
    assert ("ARG", f"TORCH_INDEX={index}") in instructions(DOCKERFILE)
    assert section("arguments") == f"TORCH_INDEX={index}\n\n"
    assert f"TORCH_INDEX={index}" in re.sub(r"\s+", " ", (ROOT / "README.md").read_text())


def test_all_images_begin_with_the_python_of_the_makefile():
    (python,) = re.findall(r"^PYTHON \?= python([0-9.]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (base,) = (text for name, text in instructions(DOCKERFILE) if name == "FROM")
    tag, digest = base.split("@")
    assert re.fullmatch(rf"python:{re.escape(python)}-slim-[a-z]+", tag)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert ("FROM", base) in instructions(DEPLOY)
    assert f"Bootstrap: docker\nFrom: python@{digest}\n" in DEFINITION.read_text()  # Apptainer takes no tag beside it


def test_apptainer_and_docker_install_the_same():
    post = section("post").replace("{{ TORCH_INDEX }}", "$TORCH_INDEX")
    both = [command for command in commands(post) if command and not command.startswith("cd ")]
    docker = run_commands(DOCKERFILE)
    assert docker[: len(both)] == both
    assert docker[len(both) :] == [
        "useradd --uid 1000 --no-create-home train",
        "git config --system --add safe.directory '*'",
    ]
    assert section("files").split() == ["requirements.lock", "/opt/brainsegfounder/requirements.lock"]
    assert commands(post)[0] == "cd /opt/brainsegfounder"
    assert ("WORKDIR", "/opt/brainsegfounder") in instructions(DOCKERFILE)
    assert section("runscript") == 'exec "$@"\n\n'


def test_the_shell_of_the_recipes_is_valid():
    shells = [text for path in (DOCKERFILE, DEPLOY) for name, text in instructions(path) if name == "RUN"]
    for shell in (*shells, section("post").replace("{{", "").replace("}}", ""), section("test")):
        result = subprocess.run(["sh", "-n"], input=shell, text=True, capture_output=True, check=False)
        assert result.returncode == 0, f"{shell}\n{result.stderr}"


@pytest.mark.parametrize("path", [DOCKERFILE, DEPLOY], ids=["container", "deploy"])
def test_no_container_runs_as_root(path):
    steps = instructions(path)
    users = [text for name, text in steps if name == "USER"]
    assert len(users) == 1
    assert users[0] not in ("root", "0")
    assert [name for name, _ in steps[steps.index(("USER", users[0])) :]] in (["USER", "CMD"], ["USER", "ENTRYPOINT"])


@pytest.mark.parametrize("path", [DOCKERFILE, DEPLOY], ids=["container", "deploy"])
def test_what_a_build_copies_is_in_the_repository(path):
    sources = [source for name, text in instructions(path) if name == "COPY" for source in text.split()[:-1]]
    assert sources
    for source in sources:
        listed = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True)
        assert listed.stdout, source


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
    names = [
        re.findall(r"^([a-z0-9-]+)==", (tmp_path / file).read_text(), re.MULTILINE)
        for file in ("requirements.lock", "others.lock")
    ]
    assert names[1] == [name for name in names[0] if name != "torch"]


def test_the_check_of_the_build_refuses_a_cpu_build(tmp_path):
    """The last install command, where `torch` is a stub."""
    (command,) = (command for command in run_commands(DOCKERFILE) if "torch.version.cuda" in command)
    for cuda, status in (("None", 1), ("'13.0'", 0)):
        (tmp_path / "torch.py").write_text(f"__version__ = '2.0+cpu'\nclass version:\n    cuda = {cuda}\n")
        (tmp_path / "monai.py").touch()
        result = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == status
        assert ("2.0+cpu is no CUDA build" in result.stderr) == bool(status)
