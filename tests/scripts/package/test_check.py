"""The check of a package: each broken rule is reported in one line, and tests run on a copy."""

import errno
import hashlib
import json
import os
import pickle
import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from common import weights
from common.errors import InputError
from scripts.package import check as package_check
from scripts.package.__main__ import verify
from scripts.package.archives import pack
from tests.support import one_line

NAME = "atlas_stage2"


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / NAME))


def edit(file, old, new):
    def change(folder):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def write(file, content=b""):
    def change(folder):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)

    return change


def remove(file):
    return lambda folder: (folder / file).unlink()


def metadata(**changes):
    def change(folder):
        file = folder / "configs/metadata.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return change


def listed(path="models/model.pt", url="https://example.org/m.pt", value="a" * 64):
    text = f'large_files:\n- {{path: "{path}", url: "{url}", hash_val: "{value}", hash_type: sha256}}\n'
    return write("large_files.yml", text.encode())


def plain_weights(folder, value=1.0):
    weights.write_plain({"x": torch.tensor([value])}, {}, folder / "models/model.pt")


def checkpoint(content):
    return lambda folder: weights.write(content, folder / "models/model.pt")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/harm-of-test-package-check"),))


def evil_checkpoint(folder):
    (folder / "models").mkdir()
    torch.save({"network": Evil()}, folder / "models/model.pt", pickle_module=pickle)


BROKEN = {
    "LICENSE is missing": remove("LICENSE"),
    "configs/train.json: not JSON": write("configs/train.json", b"{"),
    'configs/train.yaml: not YAML .the key "a" occurs twice': write("configs/train.yaml", b"a: 1\na: 2"),
    r"large_files.yml: \$.large_files = 5": write("large_files.yml", b"large_files: 5"),
    f"{NAME}/models/model.json: no entry sha256": lambda folder: (
        plain_weights(folder),
        write("models/model.json", b'{"sha256": 5}')(folder),
    ),
    "'network_data_format' is a required property": metadata(network_data_format=None),
    r"\$.version = 1: 1 is not of type 'string'": metadata(version=1),
    "configs/train.yaml differs from its JSON": edit("configs/train.yaml", "patch_size: [96,", "patch_size: [64,"),
    r"model.json states modalities=\['T2'\]; configs/train.yaml has \['T1'\]": lambda folder: weights.write_plain(
        {"x": torch.ones(1)}, {"modalities": ["T2"]}, folder / "models/model.pt"
    ),
    "docs/more.md is a symlink": lambda folder: (folder / "docs/more.md").symlink_to("/etc"),
    f"unexpected kind of file {NAME}_common/__pycache__/x.pyc; delete": write(f"{NAME}_common/__pycache__/x.pyc", b"x"),
    "unexpected kind of file models/model.pkl; expected conf": write("models/model.pkl", b"x"),
    "unpickling can run any code": evil_checkpoint,
    "models/model.pt: contains more than named tensors; MONAI reads only a plain state dict": checkpoint(
        {"network": {"x": torch.ones(1)}, "metadata": {}}
    ),
    "models/model.pt: SHA-256 ": lambda folder: (
        plain_weights(folder),
        checkpoint({"x": torch.zeros(1)})(folder),
    ),
    "models/model.pt differs from the file in large_files.yml; expected SHA-256 aaa": lambda folder: (
        plain_weights(folder),
        listed()(folder),
    ),
    "large_files.yml: .*'../../x' does not match": listed(path="../../x"),
    r"large_files.yml: .*'m.n/../../x' does not match": listed(path=r"m\n/../../x"),
    "large_files.yml: .*'ftp://example.org' does not match": listed(url="ftp://example.org"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_rule_is_named_in_a_line(folder, message):
    BROKEN[message](folder)
    with pytest.raises(InputError, match=message) as caught:
        package_check.check_package(folder, run=False)
    one_line(caught)
    assert not Path("/tmp/harm-of-test-package-check").exists()


def test_a_package_as_built_is_sound_as_a_folder_from_inside_and_as_a_zip(folder, tmp_path, monkeypatch):
    notes = ["no weights: tested with random weights"]
    assert package_check.check_package(folder, run=False) == notes
    pack(folder, tmp_path / "some.zip")
    assert package_check.check_package(tmp_path / "some.zip", run=False) == notes
    monkeypatch.chdir(folder)
    assert package_check.check_package(Path(), run=False) == notes
    Path("LICENSE").unlink()
    pack(folder, tmp_path / "broken.zip")
    with pytest.raises(InputError, match=f"broken.zip: {NAME}: LICENSE is missing"):
        package_check.check_package(tmp_path / "broken.zip", run=False)


@pytest.mark.parametrize(
    ("function", "number", "message"),
    [
        ("shutil.copyfile", errno.EACCES, r"LICENSE: Permission denied; expected a file that can be read$"),
        ("shutil.copyfile", errno.ENOSPC, r"^TMPDIR=/\S+: No space left on device; expected space for a copy"),
        ("zipfile.ZipFile.extractall", errno.ENOSPC, r"^TMPDIR=/\S+: No space left on device; expected space for a"),
    ],
)
def test_a_copy_that_fails_names_the_file_or_the_disk(folder, tmp_path, monkeypatch, function, number, message):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    pack(folder, tmp_path / "some.zip")
    monkeypatch.setattr(function, fail)
    with pytest.raises(InputError, match=message):
        package_check.check_package(folder if function.startswith("shutil") else tmp_path / "some.zip", run=False)


def test_a_package_that_cannot_be_written_to_is_checked(folder, monkeypatch):
    def look(copy):
        assert all(path.stat().st_mode & 0o200 for path in (copy, *copy.rglob("*")))
        return []

    monkeypatch.setattr(package_check, "check_files", look)
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    assert package_check.check_package(folder, run=False) == []
    for path in paths:
        path.chmod(0o755)


def test_a_folder_of_another_name_than_its_package_is_explained(folder):
    renamed = folder.rename(folder.with_name("mine"))
    with pytest.raises(InputError, match=rf"^mine: tests/test_mine\.py is missing; the package has tests for {NAME}; "):
        package_check.check_package(renamed, run=False)


def test_weights_that_are_listed_may_be_elsewhere(folder):
    plain_weights(folder)
    listed(value=hashlib.sha256((folder / "models/model.pt").read_bytes()).hexdigest())(folder)
    assert package_check.check_package(folder, run=False) == []
    (folder / "models/model.pt").unlink()
    note = "models/model.pt: listed in large_files.yml, not in the package; tested with random weights"
    assert package_check.check_package(folder, run=False) == [note]


def test_a_package_that_ends_its_tests_early_is_not_verified(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(package_check, "UNITTEST", tmp_path / "tests.py")
    package_check.UNITTEST.write_text(f"import unittest\n\nimport {NAME}_common\n\nunittest.main()\n")
    edit(f"{NAME}_common/__init__.py", "from ", "import os\nos._exit(0)\nfrom ")(folder)
    with pytest.raises(InputError, match=rf"^{NAME}: ended with status 0 before its tests had passed \(") as caught:
        package_check.check_package(folder)
    shutil.rmtree(Path(re.search(r"full log: (.+)\)$", one_line(caught))[1]).parent)


@pytest.mark.slow
def test_what_fails_is_named_and_its_log_kept(folder):
    """Also where the package's own test tests nothing."""
    for config in folder.glob("configs/*"):
        small = re.compile(r'^( *"?model_size"?: )("?)small', re.MULTILINE)  # a matter of seconds
        config.write_text(small.sub(r"\1\2micro", config.read_text()).replace("'small'", "'micro'"))
    (folder / f"tests/test_{NAME}.py").write_text("# nothing to test\n")
    edit(f"{NAME}_common/ssl/tasks.py", '"rotation_head", 4', '"rotation_head", 5')(folder)
    with pytest.raises(InputError, match=f"{NAME}: .*test_torchscript.* failed") as caught:
        package_check.check_package(folder)
    log = Path(re.search(r"full log: (.+)\)$", one_line(caught))[1])
    assert "Traceback" in log.read_text()
    assert log.parent.stat().st_mode & 0o077 == 0, "nobody else can plant a link in its place"
    shutil.rmtree(log.parent)
    assert not (folder / "models").exists(), "tests run on a copy"


def test_the_check_of_the_files_runs_nothing_of_a_package(folder, tmp_path, monkeypatch):
    """SECURITY.md: "`python -m scripts.package verify PACKAGE` runs it unless you add `--run=false`"."""
    evil = f"__import__('pathlib').Path({str(tmp_path / 'owned')!r}).touch()"
    config = folder / "configs/inference"
    twin = json.loads(config.with_suffix(".json").read_text())
    config.with_suffix(".json").write_text(json.dumps(twin | {"evil": f"${evil}"}))
    config.with_suffix(".yaml").write_text(f'{config.with_suffix(".yaml").read_text()}\nevil: "${evil}"\n')
    for file in [f"{NAME}_common/__init__.py", f"tests/test_{NAME}.py"]:
        (folder / file).write_text(f"{evil}\n{(folder / file).read_text()}")
    verify(str(folder), run=False)
    assert not (tmp_path / "owned").exists()
    monkeypatch.syspath_prepend(folder)
    runpy.run_path(str(folder / f"{NAME}_common/__init__.py"))
    assert (tmp_path / "owned").exists(), "it would have run"


def test_a_package_is_named_as_a_program_before_it_runs(folder, monkeypatch, capsys):
    """SECURITY.md: "Each command warns before it runs a config, package or study"."""
    monkeypatch.setattr(package_check, "run_package", lambda *_: print(capsys.readouterr().err))
    verify(str(folder), run=False)
    assert capsys.readouterr().err == ""
    verify(str(folder))
    assert f"warning: {folder}: its code and expressions run as a program" in capsys.readouterr().out
