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


def unpack(folder):
    """The page's command, on a project in the folder."""
    script = block("unpack()")
    assert script.count("/mnt/project/") == 2
    return bash(script.replace("/mnt/project/", f"{folder}/project/"), folder, PATH="/usr/bin:/bin")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_archives_are_unpacked_as_the_layout_of_uk_biobank_and_unpacking_goes_on_where_it_was_stopped(tmp_path):
    make("ukb", 2, str(tmp_path / "made"), spacing=4, workers=1)
    images = {name: content for name, content in files(tmp_path / "made").items() if name.endswith("_to_MNI.nii.gz")}
    for folder in (tmp_path / "made").glob("*_2025?_*"):
        name = "T1" if "_20252_" in folder.name else "T2 FLAIR"
        archive = tmp_path / "project/Bulk/Brain MRI" / name / folder.name[:2] / f"{folder.name}.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*.nii.gz"):
                file.write(path, path.relative_to(folder))
            file.writestr("T1/T1.nii.gz", "what no training needs")
    (tmp_path / "project/Bulk/Brain MRI/T1/10").mkdir(exist_ok=True)
    (tmp_path / "project/Bulk/Brain MRI/T1/10/1000000_20251_2_0.zip").touch()  # another field
    result = unpack(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert files(tmp_path / "ukb") == images
    datalists.ukb(str(tmp_path / "ukb"), str(tmp_path / "ukb.json"), validation=0, testing="all")
    assert len(json.loads((tmp_path / "ukb.json").read_text())["testing"]) == len(images) / 2 == 2

    kept, killed, broken, _ = sorted(path for path in (tmp_path / "ukb").rglob("*") if path.is_file())
    time, content = kept.stat().st_mtime_ns, killed.read_bytes()
    killed.rename(f"{killed}.part")
    Path(f"{killed}.part").write_bytes(content[:100])
    broken.unlink()
    (archive,) = (tmp_path / "project").rglob(f"{broken.relative_to(tmp_path / 'ukb').parts[0]}.zip")
    archive.write_bytes(b"no archive")
    unpack(tmp_path)
    assert kept.stat().st_mtime_ns == time
    assert killed.read_bytes() == content
    assert not broken.exists()
    assert list((tmp_path / "ukb").rglob("*.part")) == []


def test_the_container_takes_the_place_of_the_environment(tmp_path):
    """With a program in Apptainer's place that tells its arguments."""
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\necho\n")
    program.chmod(0o755)
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    result = bash(block("apptainer build"), checkout, PATH=path)
    assert (result.returncode, result.stderr) == (0, "")
    built, ran = result.stdout.splitlines()
    assert built == "build|brainsegfounder.sif|container/brainsegfounder.def|"
    start = f"exec|--nv|--bind|{checkout}|{checkout}/brainsegfounder.sif|python|"
    assert ran == f"{start}-c|import monai; monai.config.print_debug_info()|"
    result = bash('"./a checkout/.venv/bin/python" -m "a b" \'$c\'', tmp_path, PATH=path)
    assert result.stdout == f"{start}-m|a b|$c|\n"


def test_the_documented_options_are_those_of_the_commands():
    commands = re.findall(r"^python -m (scripts\..*)$", TEXT.replace("\\\n", ""), re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        name = next(name for name in FUNCTIONS if command.startswith(f"{name} "))
        _, options = options_of(shlex.split(command.removeprefix(name)))
        known = set(inspect.signature(FUNCTIONS[name]).parameters) | {"pretrained", "dataset_dir", "datalist"}
        assert options.keys() <= known, command
