"""The commands of docs/scale.md that need no GPU and no cluster, and the options of those that do."""

import inspect
import json
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from common.cli import options_of
from common.options import OPTIONS
from scripts import store
from scripts.datalists import __main__ as datalists
from scripts.folds.__main__ import folds
from scripts.phantoms.cohort import make
from scripts.prepare.__main__ import prepare
from tests.support import ROOT

TEXT = (ROOT / "docs/scale.md").read_text()
FUNCTIONS = {
    "scripts.prepare": prepare,
    "scripts.datalists generic": datalists.generic,
    "scripts.datalists ukb": datalists.ukb,
    "scripts.datalists check": datalists.check,
    "scripts.folds brats_finetune": folds,
    "scripts.store ukb_ssl_pretrain": store.prepare,
}


def block(words):
    (found,) = (text for text in re.findall(r"^```bash\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE) if words in text)
    return found


def bash(script, folder, **environment):
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def project(tmp_path):
    """The bulk folder of a project with two participants, and an archive of another field."""
    make("ukb", 2, str(tmp_path / "made"), spacing=4, workers=1)
    folders = sorted((tmp_path / "made").glob("*_2025?_*"))
    assert len(folders) == 4
    for folder in folders:
        name = "T1" if "_20252_" in folder.name else "T2 FLAIR"
        archive = tmp_path / "project/Bulk/Brain MRI" / name / folder.name[:2] / f"{folder.name}.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*.nii.gz"):
                file.write(path, path.relative_to(folder))
            file.writestr("T1/T1.nii.gz", "what no training needs")
    (tmp_path / "project/Bulk/Brain MRI/T1/10/1000000_20251_2_0.zip").parent.mkdir(exist_ok=True)
    (tmp_path / "project/Bulk/Brain MRI/T1/10/1000000_20251_2_0.zip").touch()  # another field
    return tmp_path


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_archives_are_unpacked_as_the_layout_of_uk_biobank(project):
    script = block("unpack()")
    assert script.count("/mnt/project/") == 2
    here = script.replace("/mnt/project/", f"{project}/project/")
    path = {"PATH": "/usr/bin:/bin"}
    result = bash(here, project, **path)
    assert (result.returncode, result.stderr) == (0, "")
    made, unpacked = (
        {
            str(path.relative_to(project / name)): path.read_bytes()
            for path in (project / name).rglob("*")
            if path.is_file()
        }
        for name in ("made", "ukb")
    )
    assert unpacked == {name: content for name, content in made.items() if name.endswith("_to_MNI.nii.gz")}
    datalists.ukb(str(project / "ukb"), str(project / "ukb.json"), validation=0, testing="all")
    assert len(json.loads((project / "ukb.json").read_text())["testing"]) == len(unpacked) / 2 == 2


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_unpacking_goes_on_where_it_was_stopped_and_leaves_no_part_of_a_file(project):
    here = block("unpack()").replace("/mnt/project/", f"{project}/project/")
    path = {"PATH": "/usr/bin:/bin"}
    bash(here, project, **path)
    kept, killed, broken, _ = sorted(path for path in (project / "ukb").rglob("*") if path.is_file())
    time, content = kept.stat().st_mtime_ns, killed.read_bytes()
    killed.rename(f"{killed}.part")
    Path(f"{killed}.part").write_bytes(content[:100])
    broken.unlink()
    (archive,) = (project / "project").rglob(f"{broken.relative_to(project / 'ukb').parts[0]}.zip")
    archive.write_bytes(b"no archive")
    bash(here, project, **path)
    assert kept.stat().st_mtime_ns == time
    assert killed.read_bytes() == content
    assert not broken.exists()
    assert list((project / "ukb").rglob("*.part")) == []


def test_the_container_takes_the_place_of_the_environment(tmp_path):
    """With a program in Apptainer's place that tells its arguments."""
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\necho\n")
    program.chmod(0o755)
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    result = bash(block("apptainer build"), checkout, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    built, ran = result.stdout.splitlines()
    assert built == "build|brainsegfounder.sif|container/brainsegfounder.def|"
    start = f"exec|--nv|--bind|{checkout}|{checkout}/brainsegfounder.sif|python|"
    assert ran == f"{start}-c|import monai; monai.config.print_debug_info()|"
    result = bash('"./a checkout/.venv/bin/python" -m "a b" \'$c\'', tmp_path, **environment)
    assert result.stdout == f"{start}-m|a b|$c|\n"


def test_the_documented_options_are_those_of_the_commands():
    commands = re.findall(r"^python -m (scripts\..*)$", TEXT.replace("\\\n", ""), re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        name = next(name for name in FUNCTIONS if command.startswith(f"{name} "))
        _, options = options_of(shlex.split(command.removeprefix(name)))
        known = set(inspect.signature(FUNCTIONS[name]).parameters) | {"pretrained", "dataset_dir", "datalist"}
        assert options.keys() <= known, command


def test_the_options_that_may_change_are_the_resumable_ones():
    (sentence,) = re.findall(r"These may change: (.*?), and the path of the datalist\.", TEXT, re.DOTALL)
    resumable = {name for name, option in OPTIONS.items() if option.resumable}
    assert not OPTIONS["store"].recorded, "nothing compares it"
    assert {*re.findall(r"--(\w+)", sentence)} == resumable - {"datalist"} | {"store"}
