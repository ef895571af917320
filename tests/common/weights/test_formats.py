"""Layouts: the names that tensors get, the metadata, and what is refused."""

import pytest
import torch

from common import weights
from common.errors import InputError, printable
from tests.support import one_line, refused

UKB = ["T1", "FLAIR"]
STEM = "swinViT.patch_embed.proj.weight"


def named(*names):
    return {name: torch.full((1,), float(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network", "model_state_dict"])
@pytest.mark.parametrize(
    ("prefix", "encoder"),
    [("", "swinViT."), ("module.", "swinViT."), ("net.backbone.", "swinViT."), ("_orig_mod.", "swinViT.")],
)
def test_every_known_layout_is_read(file, wrapper, prefix, encoder):
    names = ["out.bias", f"{encoder}patch_embed.proj.weight", f"{encoder}layers1.0.blocks.0.norm1.bias"]
    tensors = named(*(prefix + name for name in names))
    torch.save({"epoch": 3, "optimizer": {}} | ({wrapper: tensors} if wrapper else tensors), file)
    read = weights.read(file)
    assert read.state == named("out.bias", STEM, "swinViT.layers1.0.blocks.0.norm1.bias")
    assert read.layout == weights.Layout(wrapper, ["epoch", "optimizer"], prefix, encoder, [])
    assert read.metadata == {}


PATCH = "patch_embed.proj.weight"


@pytest.mark.parametrize(
    ("names", "own", "prefix", "encoder"),
    [
        (["module.a.module.b"], ["a.module.b"], "module.", None),  # without an encoder only a leading module is removed
        ([PATCH, "patch_embed.proj.bias"], [STEM, "swinViT.patch_embed.proj.bias"], "", ""),
        ([PATCH, "layers3.0.b.1.mlp.fc1.weight"], [STEM, "swinViT.layers3.0.b.1.mlp.linear1.weight"], "", ""),
        ([PATCH, "layers3.0.0.b.1.mlp.fc2.bias"], [STEM, "swinViT.layers3.0.b.1.mlp.linear2.bias"], "", ""),
        ([PATCH, "head.mlp.fc1.weight", "norms.weight"], [STEM, "head.mlp.fc1.weight", "norms.weight"], "", ""),
        # None: the networks lack it
        ([f"encoder.{PATCH}", "encoder.norm.weight", "decoder1.a"], [STEM, None, "decoder1.a"], "", "encoder."),
        ([f"encoder.{PATCH}", "encoder.norm.bias", "encoder.mask_token"], [STEM, None, None], "", "encoder."),
        ([f"encoder.{PATCH}", "out.bias"], [STEM, None], "", "encoder."),
    ],
)
def test_tensors_get_our_names(file, names, own, prefix, encoder):
    torch.save(named(*names), file)
    read = weights.read(file)
    assert read.state == {name: value for name, value in zip(own, named(*names).values(), strict=True) if name}
    left_out = [name for name, ours in zip(names, own, strict=True) if ours is None]
    assert read.layout == weights.Layout(None, [], prefix, encoder, left_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "of type list; expected a dictionary of tensors"),
        ({"state_dict": {}, "epoch": 4}, "holds no named tensors, but state_dict, epoch; expected a state dict"),
        ({"state_dict": named("a"), "model": named("a"), "network": {"depth": 3}}, "tensors under state_dict and "),
        (named("module.a", "module.b", "c"), "1 of 3 tensor names, such as c, lack the prefix 'module.'; expected the"),
        (named("module.a", "swinViT.patch_embed.proj.weight"), "1 of 2 tensor names, such as swinViT.patch_embed"),
        (named("net.swinViT.patch_embed.proj.weight", "head.bias"), "names, such as head.bias, lack the prefix 'net.'"),
        (
            named("module.patch_embed.proj.weight", "patch_embed.proj.weight"),
            "2 encoders, module.patch_embed.proj.weight, patch_embed.proj.weight; expected one",
        ),
        (
            named("patch_embed.proj.weight", "layers1.0.mlp.fc1.bias", "layers1.0.mlp.linear1.bias"),
            "several tensors map to swinViT.layers1.0.mlp.linear1.bias",
        ),
        (
            {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])},
            "tensors with values above 1e+09 in magnitude or not finite: 1, first b",
        ),
        ({"a": torch.ones(2), "b": torch.tensor([1.0, -1e30])}, "tensors with values above 1e+09 in magnitude or "),
    ],
)
def test_content_that_is_no_checkpoint_of_one_network_is_refused(file, content, message):
    torch.save(content, file)
    with refused(f"checkpoint {file}", text=message):
        weights.read(file)


@pytest.mark.filterwarnings("ignore")  # PyTorch calls several of these kinds experimental
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.ones(2, dtype=torch.complex64),
        lambda: torch.ones(2, dtype=torch.int8),
    ],
)
def test_tensors_that_cannot_be_trained_are_refused(make, file):
    torch.save({"state_dict": {"a": torch.ones(1), "b.weight": make()}}, file)
    with refused(f"checkpoint {file}"):
        weights.read(file)


# What a checkpoint says of itself

STATED = {"modalities": UKB, "model_size": "micro", "patch_size": [64, 64, 64], "normalization": "brain"}


def saved(path, **metadata):
    torch.save({"network": {"a": torch.ones(1)}, "metadata": metadata}, path)
    return path


def test_metadata_is_read_with_modalities_as_a_list(file):
    metadata = {"modalities": ("T1", "FLAIR"), "patch_size": [96, 96, 96], "versions": weights.versions()}
    metadata |= {"model_size": "depths (2, 2, 3, 2), feature size 12", "label_convention": "core=1,whole=1+2:4dac6d"}
    metadata |= {"spacing": [1, 1.5, 2.0], "architecture": None}
    weights.write({"network": {"a": torch.zeros(1)}, "metadata": metadata}, file)
    assert weights.read(file).metadata == metadata | {"modalities": UKB, "merging": "monai_1_5"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modalities", []),
        ("modalities", "T1"),
        # what a config would evaluate: exports and packages take options from a checkpoint, perhaps a stranger's
        ("modalities", ["$__import__('os').abort()"]),
        ("model_size", "tiny\nimports: [$print()]"),
        ("normalization", {"_target_": "os.abort"}),
        ("patch_size", [64.5, 64, 64]),
        ("spacing", [True, 1.0, 1.0]),
        ("cleanup", "$print()=holes"),
    ],
)
def test_metadata_of_another_kind_are_refused(name, value, file):
    """SECURITY.md: "of their metadata, only plain words and numbers get into a config"."""
    saved(file, **{"modalities": ["T1"], name: value})
    with pytest.raises(InputError) as error:
        weights.read(file)
    assert one_line(error).startswith(f"checkpoint {file}: metadata: {name}={printable(value)}: expected ")


def test_the_settings_of_a_checkpoint_are_those_that_predictions_share(file, tmp_path, monkeypatch):
    saved(file, **STATED, architecture=None, learning_rate=1e-4, modality_aliases=None)
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: pytest.fail("tensors are read"))
    assert weights.settings_of(file) == weights.settings_of([str(file)]) == STATED
    torch.save({"state_dict": {"a": torch.ones(1)}}, file)  # of another project
    assert weights.settings_of(file) == weights.settings_of(tmp_path / "later.pt") == weights.settings_of([]) == {}


def test_the_checkpoints_of_an_ensemble_agree(file, tmp_path):
    files = [saved(file, **STATED), saved(tmp_path / "b.pt", **STATED | {"model_size": "base"})]
    with refused(f"checkpoint {tmp_path / 'b.pt'}", text=f"trained with model_size=base, but {file} with micro"):
        weights.settings_of(files)
    files = [
        saved(tmp_path / f"{number}.pt", **STATED, spacing=value) for number, value in enumerate(([1, 1, 1], None))
    ]
    with refused(f"checkpoint {files[1]}", text="trained with spacing=None"):
        weights.settings_of(files)
    foreign = saved(tmp_path / "b.pt", modalities=UKB)
    assert weights.settings_of([file, foreign]) == weights.settings_of([foreign, file]) == STATED


RANGES = {"spacing": [[1, 1, 1], [1, 1, 2.5]], "extent": [[130, 170, 130], [140, 180, 150]]}
RANGES |= {"volume": [1.8, 2.1], "air": [0, 0], "overlap": [0.98, 1.0]}


def test_what_checkpoints_say_of_their_scans_is_read_from_each(file, tmp_path):
    weights.write({"a": torch.ones(1), "metadata": {"measured": RANGES}}, tmp_path / "says.pt")
    weights.write({"a": torch.ones(1), "metadata": {}}, file)
    files = [str(tmp_path / "says.pt"), str(file), str(tmp_path / "later.pt")]
    assert weights.measured_of(files) == [RANGES]
    assert weights.measured_of(file) == []


@pytest.mark.parametrize(
    "measured",
    [
        "$print()",
        RANGES | {"more": [1, 2]},
        RANGES | {"air": [0, float("nan")]},
        RANGES | {"spacing": [[1, 1], [1, 1]]},
    ],
)
def test_what_is_no_ranges_is_refused(measured, file):
    weights.write({"a": torch.ones(1), "metadata": {"measured": measured}}, file)
    with refused(f"checkpoint {file}", text="metadata: measured="):
        weights.measured_of(file)


@pytest.mark.parametrize(
    ("metadata", "merging"),
    [
        ({"versions": {"monai": "1.4.0"}}, "monai_1_4"),
        ({"versions": {"monai": "0.9.1"}, "bundle": "x"}, "monai_1_4"),
        ({"versions": {"monai": "1.5.0"}}, "monai_1_5"),
        ({"versions": {"monai": "1.4.0"}, "merging": "monai_1_5"}, "monai_1_5"),
        ({"versions": {"monai": "1.4.0+93.g59a7211"}, "bundle": "x"}, None),  # the change was between 1.4.0 and 1.5.0
        ({"versions": {"monai": "1.5.dev2429"}}, None),
        ({"bundle": "brats_stage2"}, "monai_1_5"),
        ({"modalities": UKB}, None),
    ],
)
def test_the_merging_is_stated_or_follows_from_the_release_of_monai(metadata, merging, file):
    saved(file, **metadata)
    assert weights.read(file).metadata.get("merging") == weights.metadata_of(file).get("merging") == merging
    assert weights.merging_of(file) == (merging or "monai_1_5")
    assert weights.merging_of(None) == weights.merging_of("null") == "monai_1_5"
