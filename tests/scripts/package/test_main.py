"""Building packages: content, equal bytes from any clone, weights, and refused input."""

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
import torch
import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files

from common import weights
from common.data.regions import regions_of
from common.errors import InputError
from scripts.package import build
from scripts.package import check as package_check
from scripts.package.contents import LINK
from tests.bundles.workflows import PATCH, untrained
from tests.support import ROOT, copy_of_the_repository, one_line

VERSION = json.loads((ROOT / "bundles/atlas_finetune/configs/metadata.json").read_text())["version"]
URL = "https://example.org/model.pt"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of the sources, which a test may change."""
    copy = copy_of_the_repository(tmp_path)
    shutil.copytree(ROOT / "docs", copy / "docs")
    monkeypatch.setattr(build, "BUNDLES", copy / "bundles")
    return copy


@pytest.fixture
def dist(tmp_path):
    return tmp_path / "dist"


@pytest.fixture
def checkpoint(tmp_path):
    """Function: write a checkpoint of a bundle, with additional metadata; return its path."""
    usual = {"label_convention": "brats2023", "datalist": "/home/somebody/patients.json"}
    return lambda bundle="brats_finetune", **stated: untrained(bundle, tmp_path / "model.pt", **usual | stated)


def built(dist, bundle="brats_finetune", **options):
    build.build(bundle, dist, verify=False, **options)
    return dist / bundle


def refused(message, function, *arguments, **options):
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    assert re.search(message, one_line(caught)), caught.value


# What is in a package


def test_a_package_is_complete_without_the_checkout(original):
    assert not [path for path in original.rglob("*") if path.is_symlink()]
    for code in (ROOT / "common").glob("*.py"):
        assert (original / "atlas_stage2_common" / code.name).read_bytes() == code.read_bytes()
    assert not (original / "atlas_stage2_common/prepare").exists(), "it needs SimpleITK, and no config names it"
    assert not list((original / "configs").glob("quickstart.*")), "of this repository's studies"
    for config in (ROOT / "bundles/atlas_stage2/configs").glob("*.yaml"):
        if config.stem == "quickstart":
            continue
        packaged = (original / "configs" / config.name).read_text()
        assert packaged.replace("atlas_stage2_common", "common") == config.read_text()
        twin = json.loads((original / "configs" / config.with_suffix(".json").name).read_text())
        assert list(twin.items()) == list(yaml.safe_load(packaged).items()), "in the order of reading"
    assert (original / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (original / "docs/reference/data.md").is_file()
    sums = original.with_name(f"atlas_stage2_v{VERSION}.sha256")
    checked = subprocess.run(["sha256sum", "-c", sums], cwd=original, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert sums.read_text().count("\n") == len([path for path in original.rglob("*") if path.is_file()])


def test_links_lead_to_files_and_imports_are_required(original):
    for page in original.rglob("*.md"):
        for _, link in LINK.findall(page.read_text()):
            target = link.partition("#")[0]
            assert "://" in link or not target or (page.parent / target).is_file(), f"{page}: {link}"
    metadata = json.loads((original / "configs/metadata.json").read_text())
    named = {"monai", "torch", "numpy", *metadata["required_packages_version"]}
    known = packages_distributions()
    for file in original.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {module.split(".")[0] for module in modules} - sys.stdlib_module_names:
                assert named & {name.lower() for name in known.get(module, [module])}, f"{file} imports {module}"


def test_links_out_of_the_package_become_text_and_what_a_user_has_left_is_not_published(dist, repository):
    bundle = repository / "bundles/brats_finetune"
    for file in ("models/model.pt", "eval/run.json", "data/patient.nii.gz", "configs/.swp", "notes.txt"):
        (bundle / file).parent.mkdir(exist_ok=True)
        (bundle / file).write_text("private")
    with (bundle / "docs/README.md").open("a") as readme:
        readme.write("\nSee [the tests](../../../tests/test_x.py) and [that](../../../README.md#a).\n")
    folder = built(dist)
    assert not [path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == b"private"]
    assert "\nSee the tests and that.\n" in (folder / "docs/README.md").read_text()


# Weights


def test_configs_take_over_what_the_weights_were_trained_with(dist, checkpoint):
    folder = built(dist, weights=checkpoint())
    for name in ("train", "evaluate", "inference"):
        for suffix, read in (("yaml", yaml.safe_load), ("json", json.loads)):
            config = read((folder / f"configs/{name}.{suffix}").read_text())
            assert (config["model_size"], config["patch_size"]) == ("micro", PATCH)
            assert config["label_convention"] == "brats2023"
    assert "[batch, 4, 32, 32, 64]" in (folder / "docs/README.md").read_text()
    assert re.search(r"^model_size: micro +# tiny", (folder / "configs/train.yaml").read_text(), re.MULTILINE)
    formats = json.loads((folder / "configs/metadata.json").read_text())["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == PATCH
    content = torch.load(folder / "models/model.pt", weights_only=True)
    given = torch.load(checkpoint(), weights_only=True)["network"]
    assert content.keys() == given.keys(), "a plain state dict, as MONAI's tools read it"
    assert all(torch.equal(tensor, given[name]) for name, tensor in content.items())
    record = json.loads((folder / "models/model.json").read_text())
    assert "datalist" not in record
    assert record["modalities"] == ["FLAIR", "T1ce", "T1", "T2"]
    assert weights.read(folder / "models/model.pt").metadata["label_convention"] == "brats2023"


def test_a_self_supervised_bundle_takes_weights_of_its_network_and_modalities(dist, checkpoint):
    said = {"label_convention": None}
    folder = built(dist, "ukb_ssl_pretrain", weights=checkpoint("ukb_ssl_pretrain", **said))
    assert json.loads((folder / "models/model.json").read_text())["modalities"] == ["T1", "FLAIR"]
    other = checkpoint("ukb_ssl_pretrain", modalities=["FLAIR", "T1"], **said)
    refused("modalities FLAIR, T1; expected T1, FLAIR", built, dist / "other", "ukb_ssl_pretrain", weights=other)
    masked = checkpoint("ukb_ssl_pretrain", tasks=["masked"], **said)
    refused("tasks masked; expected reconstruction, ", built, dist / "other", "ukb_ssl_pretrain", weights=masked)


@pytest.mark.parametrize(("made_up", "name"), [(True, ", synthetic"), (False, " on BraTS 2021")])
def test_a_package_names_the_data_of_its_weights(dist, checkpoint, made_up, name):
    data = {"name": "brats", "training": 12}
    folder = built(
        dist, weights=checkpoint(cohort="BraTS 2021", made_up=made_up, dataset=data, label_convention="brats2021")
    )
    metadata, readme = (folder / "configs/metadata.json").read_text(), (folder / "docs/README.md").read_text()
    assert json.loads(metadata)["name"] == f"BrainSegFounder stage 3: brain tumour segmentation{name}"
    assert readme.splitlines()[0].endswith(f"brain tumour segmentation{name}")
    weights_section = readme[readme.index("## Weights") : readme.index("## Data")]
    for text in (metadata, weights_section):
        assert ("BraTS 2021" in text) == (not made_up)
    assert "12 training subjects" in weights_section


def test_a_package_says_whose_weights_it_has_and_their_licence(dist, checkpoint):
    published = {"source": "https://example.org/model.pt", "licence": "uk-biobank-mta"}
    folder = built(dist, weights=checkpoint(**published), format="huggingface")
    for file in ("configs/metadata.json", "docs/README.md", "README.md"):
        text = (folder / file).read_text()
        assert "the weights are those of https://example.org/model.pt, licence uk-biobank-mta" in text.lower()
    header = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (header["license"], header["license_name"]) == ("other", "uk-biobank-mta")


def test_weights_of_ones_own_regions_and_modalities(dist, checkpoint):
    modalities = ["T1", "FLAIR", "PD", "DWI"]
    own = {"modalities": modalities, "label_convention": "lesion=1+2+5:4dac6d,core=1+5,cavity=5"}
    folder = built(dist, weights=checkpoint(**own))
    for name in ("train", "evaluate", "inference"):
        config = yaml.safe_load((folder / f"configs/{name}.yaml").read_text())
        assert config["modalities"] == modalities
        assert regions_of(config["label_convention"]) == regions_of(own["label_convention"])
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["channel_def"] == dict(zip("0123", modalities, strict=True))
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "lesion", "1": "core", "2": "cavity"}
    assert formats["post_processed_outputs"]["pred"]["value_range"] == [0, 5]
    assert metadata["task"] == "Segmentation of lesion, core, cavity in brain MRI"
    name = "segmentation of lesion, core and cavity"
    assert metadata["name"] == f"BrainSegFounder stage 3: {name}"
    assert (folder / "docs/README.md").read_text().startswith(f"# brats_finetune: {name}\n")


def test_large_weights_get_a_url(dist, checkpoint, monkeypatch):
    monkeypatch.setattr(package_check, "LARGE", 10**7)
    folder = built(dist, weights=checkpoint())
    assert re.match(r"models/model.pt: \d+ MB; .* requires --weights_url", package_check.check_files(folder)[0])
    folder = built(dist / "listed", weights=checkpoint(), weights_url=URL)
    assert package_check.check_files(folder) == []
    listed = package_check.large_files(folder)["models/model.pt"]
    assert listed["url"] == URL
    sums = subprocess.run(["sha256sum", folder / "models/model.pt"], capture_output=True, text=True, check=True).stdout
    assert listed["hash_val"] == sums.split()[0]
    download_large_files(str(folder))  # of MONAI: a file that is there is checked, not downloaded
    (folder / "models/model.pt").write_bytes(b"another")
    with pytest.raises(HashCheckError):
        download_large_files(str(folder))


def test_a_package_for_hugging_face_has_a_card_and_the_same_tensors_as_safetensors(dist, checkpoint):
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file, save_file

    facts = {"cohort": "BraTS 2021", "dataset": {"name": "brats", "training": 12}, "reached": {"dice": 0.91234}}
    folder = built(dist, weights=checkpoint(label_convention="brats2021", **facts), format="huggingface")
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert (card["license"], card["library_name"], card["metrics"]) == ("apache-2.0", "monai", ["dice"])
    (result,) = card["model-index"][0]["results"]
    assert (result["dataset"]["name"], result["metrics"][0]["value"]) == ("BraTS 2021", 0.9123)
    for _, link in LINK.findall(text):
        assert "://" in link or link.startswith("#") or (folder / link.partition("#")[0]).is_file(), link
    stated = [weights.read(folder / f"models/model.{kind}").metadata for kind in ("pt", "safetensors")]
    assert stated[0] == stated[1] != {}
    given = load_file(folder / "models/model.safetensors")
    expected = torch.load(folder / "models/model.pt", weights_only=True)
    assert given.keys() == expected.keys()
    assert all(given[name].equal(tensor) for name, tensor in expected.items())
    (example,) = re.findall(r"```python\n(from json.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(example.replace("models/model", f"{folder}/models/model"), names)  # the card's own lines
    assert names["network"].state_dict().keys() == expected.keys()
    assert json.loads((folder / "models/model.json").read_text())["arguments"]["out_channels"] == 3
    save_file({name: tensor + 1 for name, tensor in given.items()}, folder / "models/model.safetensors")
    refused(
        "tensors of models/model.safetensors differ from those of models/model.pt", package_check.check_files, folder
    )
    (folder / "models/model.safetensors").write_bytes(b"x")
    refused("model.safetensors: cannot be read", package_check.check_files, folder)


# The place of a package
