"""Packages: one that works by itself, the settings and description of its weights, and weights that are refused."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import nibabel
import pytest
import torch
import yaml
from monai.bundle import download_large_files
from packaging.requirements import Requirement

from common import weights
from common.data.regions import regions_of
from scripts.package import package
from tests.bundles.workflows import PATCH, untrained
from tests.support import ROOT, bash_blocks, execute, refused

URL = "https://example.org/model.pt"
VERSION = json.loads((ROOT / "bundles/brats_finetune/configs/metadata.json").read_text())["version"]


@pytest.fixture
def checkpoint(tmp_path):
    """Function: write an untrained checkpoint of a bundle, with additional metadata; return its path."""
    usual = {"label_convention": "brats2023", "datalist": "/home/somebody/patients.json", "made_up": True}

    def write(bundle="brats_finetune", **stated):
        return untrained(bundle, tmp_path / "model.pt", **usual | stated)

    return write


@pytest.fixture
def build(tmp_path):
    """Function: package a bundle; return the package's folder."""

    def run(bundle="brats_finetune", **options):
        package(bundle, str(tmp_path / "dist"), **options)
        return tmp_path / "dist" / bundle

    return run


def environment_of(metadata, folder):
    """Create a virtual environment with what metadata.json requires, and nothing else; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    names, queue = set(), ["monai", "torch", "numpy", *metadata["required_packages_version"]]
    while queue:
        name = queue.pop()
        if name in names:
            continue
        names.add(name)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                queue.append(requirement.name)
        for top in {file.parts[0] for file in distribution(name).files} - {"..", "__pycache__"}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(distribution(name).locate_file(top))
    return str(folder / "bin/python")


@pytest.mark.slow
def test_a_package_in_an_empty_folder_segments_a_scan_with_its_requirements_alone(cohorts, checkpoint, tmp_path):
    (block,) = [block for block in bash_blocks("docs/how-to/publish.md") if "scripts.package" in block]
    file = checkpoint(label_convention="brats2021")
    block = block.replace("bundles/brats_finetune/models/model.pt", f"{file} --output={tmp_path / 'dist'}")
    built = execute(["bash", "-euc", block.replace("python", sys.executable)], URL=URL)
    assert built.returncode == 0, built.stderr
    shutil.unpack_archive(tmp_path / f"dist/brats_finetune_v{VERSION}.zip", tmp_path / "empty")
    folder = tmp_path / "empty/brats_finetune"
    python = environment_of(json.loads((folder / "configs/metadata.json").read_text()), tmp_path / "environment")
    options = ["--num_workers=0", f"--output_dir={tmp_path / 'labels'}", f"--dataset_dir={cohorts / 'brats'}"]
    run = [python, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml", *options]
    result = execute([*run, f"--datalist={cohorts / 'brats.json'}"], folder, PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    case = json.loads((cohorts / "brats.json").read_text())["testing"][0]
    scan = nibabel.load(cohorts / "brats" / case["image"][0])
    labels = nibabel.load(tmp_path / f"labels/{case['subject']}.nii.gz")
    assert labels.shape == scan.shape
    assert (labels.affine == scan.affine).all()
    assert set(labels.get_fdata().flat) <= {0, 1, 2, 4}


def test_a_package_has_the_configs_and_neither_symlinks_nor_results(build):
    folder = build("atlas_stage2")
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert {path.name for path in folder.iterdir()} == {"LICENSE", "atlas_stage2_common", "configs", "docs", "models"}
    assert not list((folder / "models").iterdir())
    code = [path for path in (folder / "atlas_stage2_common").rglob("*") if path.is_file()]
    assert {path.suffix for path in code} == {".py", ".json"}
    assert len(code) <= 70
    assert sum(path.stat().st_size for path in code) <= 0.5e6
    for config in (ROOT / "bundles/atlas_stage2/configs").glob("*.yaml"):
        if config.stem != "quickstart":
            packaged = (folder / "configs" / config.name).read_text()
            assert packaged.replace("atlas_stage2_common", "common") == config.read_text()
    for name in ("train", "inference"):
        twin = json.loads((folder / f"configs/{name}.json").read_text())
        assert twin == yaml.safe_load((folder / f"configs/{name}.yaml").read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", (folder / "docs/README.md").read_text()):
        assert "://" in link or link.startswith("#") or (folder / "docs" / link).is_file(), link


def test_configs_and_metadata_say_what_the_weights_were_trained_with(build, checkpoint):
    modalities, convention = ["T1", "FLAIR", "PD", "DWI"], "lesion=1+2+5:4dac6d,core=1+5,cavity=5"
    source = {"source": "https://example.org/original.pt", "licence": "uk-biobank-mta"}
    file = checkpoint(modalities=modalities, label_convention=convention, merging="monai_1_4", **source)
    folder = build(weights=file, weights_url=URL)
    config = json.loads((folder / "configs/train.json").read_text())
    assert (config["model_size"], config["patch_size"], config["modalities"]) == ("micro", PATCH, modalities)
    assert config["merging"] == "monai_1_4"
    assert regions_of(config["label_convention"]) == regions_of(convention)
    stated = weights.settings_of(folder / "models/model.pt")  # which the other configs read
    assert (stated["patch_size"], stated["modalities"], stated["merging"]) == (PATCH, modalities, "monai_1_4")
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["channel_def"] == dict(zip("0123", modalities, strict=True))
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == PATCH
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "lesion", "1": "core", "2": "cavity"}
    assert "BraTS" not in metadata["name"] + metadata["data_source"]
    assert "https://example.org/original.pt, licence uk-biobank-mta" in (folder / "docs/README.md").read_text()
    given, content = torch.load(file, weights_only=True), torch.load(folder / "models/model.pt", weights_only=True)
    assert content.keys() == given["network"].keys(), "a plain state dict, as MONAI's tools read it"
    assert all(content[name].equal(tensor) for name, tensor in given["network"].items())
    record = weights.read(folder / "models/model.pt").metadata  # its SHA-256 agrees
    assert (record["modalities"], "datalist" in record) == (modalities, False)
    assert yaml.safe_load((folder / "large_files.yml").read_text())["large_files"][0]["url"] == URL
    download_large_files(str(folder))  # of MONAI: it compares the hash of a file that is there


def test_weights_that_do_not_fit_are_refused_and_nothing_is_left(build, checkpoint, tmp_path):
    with refused(text="SegResNet"):
        build(weights=checkpoint(architecture="segresnet"))
    with refused(text="modalities unknown"):
        build(weights=checkpoint(modalities=None))
    with refused(text="trained with brats_finetune"):
        build("atlas_finetune", weights=checkpoint())
    with refused(text="no weights"):
        build(weights_url=URL)
    assert not (tmp_path / "dist").exists()
