"""The wheel works without a checkout: the command, and docs/tutorials/python.md with `common` under its wheel name."""

import re
import shutil
import sys
from zipfile import ZipFile

import pytest

from common import weights
from common.ssl.networks import SSLHead
from tests.support import ROOT, execute

NAME = "brainsegfounder_bundles"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel from a copy of its sources; return a folder with its content."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("common", "scripts", "bundles", "studies", "wheel", "docs/tutorials"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "bundles/brats_finetune/eval").mkdir(exist_ok=True)
    (source / "bundles/brats_finetune/eval/cases.json").write_text("of a patient")
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    built = execute([*pip, f"--wheel-dir={folder}", str(source)])
    assert built.returncode == 0, built.stdout + built.stderr
    with ZipFile(*folder.glob("*.whl")) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_has_every_module_and_the_command(installed, tmp_path):
    there, built = (
        {file.relative_to(place) for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
        for place in (ROOT / "common", installed / NAME)
    )
    assert built == {file for file in there if file.name != "ruff.toml"}
    copy = installed / "brainsegfounder/checkout"
    assert sorted(path.name for path in (copy / "bundles/brats_finetune").iterdir()) == ["LICENSE", "configs", "docs"]
    weights.write({"network": SSLHead(2, "micro").state_dict()}, tmp_path / "model.pt")
    code = "from brainsegfounder import main; main()"
    command = [sys.executable, "-c", code, "weights", "inspect", "model.pt"]
    assert "SSLHead" in execute(command, tmp_path, PYTHONPATH=str(installed)).stdout


def test_the_page_runs_where_no_checkout_is_and_every_module_imports(installed, tmp_path):
    metadata = {"modalities": ["T1", "FLAIR"], "model_size": "micro", "merging": "monai_1_4"}
    network = SSLHead(2, "micro")
    weights.write({"network": network.state_dict(), "metadata": metadata}, tmp_path / "model.pt")
    page = (ROOT / "docs/tutorials/python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    files = [file.relative_to(installed).with_suffix("") for file in sorted((installed / NAME).rglob("*.py"))]
    ends = f"""
import importlib, sys
for name in {[".".join(file.parts).removesuffix(".__init__") for file in files]}: importlib.import_module(name)
assert "common" not in sys.modules
assert sys.modules["{NAME}"].__file__.startswith({str(installed)!r})
assert vector.shape == (1, 192) and vector.isfinite().all()
assert set(terms) == {{"total", "reconstruction", "rotation", "contrastive"}}
assert abs(metrics.dice(prediction, reference) - 0.9) < 1e-6
"""
    (tmp_path / "page.py").write_text("\n".join([*blocks, ends]))
    ended = execute([sys.executable, "page.py"], tmp_path, PYTHONPATH=str(installed))
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    matched = f"weights: model.pt: {len(network.state_dict())} matched, 0 changed, 0 missing, 0 unexpected"
    assert matched in ended.stdout
