"""Exports: other libraries read them and compute the network's outputs; differences and bad input are refused."""

import json
import shutil

import onnx
import onnxruntime
import pytest
import torch
from monai.data import load_net_with_metadata
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import SwinUNETR
from safetensors.torch import load_file

from common import weights
from common.errors import InputError
from common.ssl import networks
from common.ssl.embeddings import EmbeddingInferer
from common.ssl.networks import SSLHead
from scripts.export import formats
from scripts.export.__main__ import export
from scripts.export.formats import compare
from scripts.export.source import Source
from tests import kept
from tests.oracles import merging
from tests.support import COHORT_OF, ROOT

MICRO = networks.SIZES["micro"]._asdict()
PATCH = [64, 64, 64]
SEGMENTATION, PRETRAINING = "atlas_finetune", "ukb_ssl_pretrain"
SCANS = {"spacing": [4.0, 4.0, 4.0], "made_up": True}
MERGINGS = {SEGMENTATION: "monai_1_4", PRETRAINING: "monai_1_5"}
CHANNELS = {SEGMENTATION: ["T1"], PRETRAINING: ["T1", "FLAIR"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a checkpoint of each bundle."""
    folder = tmp_path_factory.mktemp("export")
    for bundle, modalities in CHANNELS.items():
        metadata = {"modalities": modalities, "model_size": "micro", "patch_size": PATCH, "preprocessing": "as ever"}
        metadata |= {"merging": MERGINGS[bundle], "normalization": "nonzero", "datalist": "/data/list.json", **SCANS}
        if bundle == SEGMENTATION:
            metadata["label_convention"] = "atlas"
        torch.save({"network": network(bundle).state_dict(), "metadata": metadata}, folder / f"{bundle}.pt")
    return folder


def data_of(bundle):
    cohort = kept.cohorts() / COHORT_OF[bundle]
    return {"datalist": f"{cohort}.json", "dataset_dir": str(cohort)}


def network(bundle):
    torch.manual_seed(0)
    if bundle == PRETRAINING:
        return SSLHead(2, "micro").eval()
    return SwinUNETR(1, 1, **MICRO, use_flash_attention=True, downsample=merging.LAYERS["monai_1_4"]).eval()


def outputs(bundle, windows):
    """Return the outputs of the bundle's network, built here: logits, or the encoder's five feature maps."""
    with torch.no_grad():
        return [network(bundle)(windows)] if bundle == SEGMENTATION else network(bundle).swinViT(windows)


def windows(bundle, count=2):
    """Return windows of background with a box of noise in each."""
    image = torch.zeros(count, len(CHANNELS[bundle]), *PATCH)
    image[..., 10:50, 12:60, 5:40] = torch.randn(image[..., 10:50, 12:60, 5:40].shape)
    return image


def written(folder, bundle, format, tmp_path, name="model.out"):
    files = {"output": str(tmp_path / name), "checkpoint": str(folder / f"{bundle}.pt")}
    export(str(ROOT / "bundles" / bundle), format, **files, **data_of(bundle))
    return tmp_path / name


def assert_describes(metadata, bundle):
    segments = bundle == SEGMENTATION
    expected = {"bundle": bundle, "modalities": CHANNELS[bundle], "model_size": "micro", "patch_size": PATCH}
    expected |= {"preprocessing": "as ever", "normalization": "nonzero", **SCANS}
    assert "datalist" not in metadata
    expected |= {"label_convention": "atlas", "labels": {"lesion": [1]}} if segments else {}
    expected |= {"outputs": ["lesion"] if segments else [f"level_{level}" for level in range(5)]}
    assert {name: metadata[name] for name in expected} == expected
    assert len(metadata["checkpoint"]["sha256"]) == 64


def test_torchscript_is_the_network_and_says_what_it_is(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    path = written(folder, SEGMENTATION, "torchscript", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.out"]
    names = ("export.json", "inference.json")
    script, metadata, files = load_net_with_metadata(str(path), more_extra_files=names)
    image = windows(SEGMENTATION)
    with torch.no_grad():
        torch.testing.assert_close([script(image)], outputs(SEGMENTATION, image), rtol=0, atol=1e-6)
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == PATCH
    assert_describes(json.loads(files["export.json"]), SEGMENTATION)
    config = json.loads(files["inference.json"])
    assert config["model_size"] == "micro"
    assert config["bundle_root"] == "$common.bundle_root()", "an export does not reveal the path of the bundle"
    assert config["amp"] == "$common.options.automatic_amp(@device)"
    assert str(ROOT) not in str(files)
    printed = capsys.readouterr().out
    assert f"torchscript of {SEGMENTATION}" in printed
    assert "bfloat16" not in printed, "networks are exported and compared in float32"
    assert ": differs by up to 0 " in printed
    assert "; windows compared: 1\n" in printed
    assert "100.0000% of voxels with the same label" in printed


@pytest.mark.parametrize("bundle", CHANNELS)
def test_onnx_is_the_network_for_any_batch_and_says_what_it_is(folder, bundle, tmp_path):
    path = written(folder, bundle, "onnx", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.out"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 2):
        image = windows(bundle, count)
        results = list(map(torch.from_numpy, session.run(None, {"image": image.numpy()})))
        # tolerance for onnxruntime's instance normalisation
        torch.testing.assert_close(results, list(outputs(bundle, image)), rtol=0, atol=5e-5)
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert_describes(metadata, bundle)
    names = [output.name for output in session.get_outputs()]
    assert names == (["logits"] if bundle == SEGMENTATION else metadata["outputs"])


@pytest.mark.parametrize(
    ("bundle", "name"),
    [(SEGMENTATION, "model.out"), (PRETRAINING, "model.out"), (SEGMENTATION, "model.safetensors")],
)
def test_a_state_dict_is_plain_and_its_network_is_rebuilt_from_the_metadata(folder, bundle, name, tmp_path):
    path = written(folder, bundle, "state_dict", tmp_path, name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", name]
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    expected = network(bundle).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    metadata = json.loads((tmp_path / "model.json").read_text())
    assert_describes(metadata, bundle)
    rebuilt = {"SwinUNETR": networks.SwinUNETR, "SSLHead": SSLHead}[metadata["network"]](**metadata["arguments"])
    rebuilt.load_state_dict(state)
    assert rebuilt.swinViT.layers1[0].downsample.merging == MERGINGS[bundle]
    if bundle == SEGMENTATION:
        with pytest.raises(TypeError, match="merging"):  # MONAI's class would be a different network
            SwinUNETR(**metadata["arguments"])
    assert weights.read(path).metadata == {key: value for key, value in metadata.items() if key != "sha256"}


# The comparison


class Blocks(torch.nn.Module):
    """Network whose logits are the image, of a single channel."""

    def forward(self, image):
        return image.clone()


IMAGE = torch.linspace(-1, 1, 1000).reshape(1, 10, 10, 10)
SLIDING = SlidingWindowInferer(roi_size=(10, 10, 5), sw_batch_size=2, overlap=0)


def test_the_largest_difference_in_any_window_and_the_agreement_of_labels():
    same = compare(Blocks(), Blocks(), IMAGE, SLIDING, "atlas")
    assert same == (0.0, 1.0, 2)
    comparison = compare(Blocks(), lambda image: image + 0.25, IMAGE, SLIDING, "atlas")
    assert comparison.difference == pytest.approx(0.25, abs=1e-6)
    relabelled = ((IMAGE <= 0) & (IMAGE + 0.25 > 0)).double().mean().item()
    assert comparison.agreement == pytest.approx(1 - relabelled)


def test_each_level_of_an_encoder_is_compared():
    def levels(image):
        return (image.repeat(1, 2, 1, 1, 1), torch.cat([image, image**2], dim=1))

    def other(image):
        first, last = levels(image)
        return (first * torch.tensor([1.0, -1.0])[:, None, None, None], last)

    inferer = EmbeddingInferer((10, 10, 10))
    assert compare(levels, levels, IMAGE + 2, inferer) == (0.0, 1.0, 1)
    assert compare(levels, other, IMAGE + 2, inferer).difference == pytest.approx(6.0)


# Refusals


def test_an_export_that_differs_by_more_than_the_tolerance_is_not_written(folder, tmp_path, monkeypatch):
    read = formats.load
    for change in (lambda output: output + 0.5, lambda output: output * float("nan")):
        monkeypatch.setattr(formats, "load", lambda *a, c=change: lambda image: c(read(*a)(image)))
        with pytest.raises(InputError, match=r"differs from the network by up to .*; expected .* nothing is written"):
            written(folder, SEGMENTATION, "state_dict", tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_bundle_from_elsewhere_is_named_as_a_program(folder, tmp_path, capsys):
    copy = shutil.copytree(ROOT / "bundles" / SEGMENTATION / "configs", tmp_path / "copy/configs").parent
    Source(ROOT / "bundles" / SEGMENTATION, folder / f"{SEGMENTATION}.pt")
    assert "warning" not in capsys.readouterr().err
    Source(copy, folder / f"{SEGMENTATION}.pt")
    assert f"warning: {copy}/configs/inference.yaml: its expressions run as a program" in capsys.readouterr().err
