"""The check of a package: each broken rule is reported in one line, and tests run on a copy."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

from common import weights
from common.errors import InputError
from scripts.package import check as package_check
from scripts.package.__main__ import verify
from scripts.package.archives import pack

NAME = "atlas_stage2"


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / NAME))


def write(file, content=b""):
    def change(folder):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)

    return change


def metadata(**changes):
    def change(folder):
        file = folder / "configs/metadata.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return change


def checkpoint(content):
    return lambda folder: weights.write(content, folder / "models/model.pt")


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


def test_the_check_of_the_files_runs_nothing_of_a_package(folder, tmp_path, monkeypatch):
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
