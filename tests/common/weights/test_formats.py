"""Layouts: the names that tensors get, the metadata, and what is refused."""

import pytest
import torch

from common import weights
from common.errors import InputError
from common.ssl.networks import SSLHead
from tests.support import one_line

UKB = ["T1", "FLAIR"]
STEM = "swinViT.patch_embed.proj.weight"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network", "model_state_dict"])
def test_every_known_layout_is_read(file, prefix, wrapper):
    state = SSLHead(in_channels=1, model_size="micro").state_dict()
    content = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, wrapper: content, "optimizer": {}} if wrapper else content, file)
    read = weights.read(file)
    assert read.metadata == {}
    assert read.state.keys() == state.keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in state.items())


def test_only_a_leading_module_is_removed(file):
    torch.save({"module.a.module.b": torch.zeros(1)}, file)
    assert list(weights.read(file).state) == ["a.module.b"]


def named(*names):
    return {name: torch.full((1,), float(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "net.backbone.", "_orig_mod.", "student.module."])
@pytest.mark.parametrize("encoder", ["swinViT.", "swin_vit."])
def test_the_encoder_is_found_behind_any_prefix_that_all_names_share(file, prefix, encoder):
    names = ["out.bias", f"{encoder}patch_embed.proj.weight", f"{encoder}layers1.0.blocks.0.norm1.bias"]
    torch.save(named(*(prefix + name for name in names)), file)
    read = weights.read(file)
    assert read.state == named("out.bias", STEM, "swinViT.layers1.0.blocks.0.norm1.bias")
    assert read.layout == weights.Layout(None, [], prefix, encoder, [])


@pytest.mark.parametrize(
    ("given", "here"),
    [
        ("patch_embed.proj.bias", "swinViT.patch_embed.proj.bias"),
        ("layers3.0.blocks.1.mlp.fc1.weight", "swinViT.layers3.0.blocks.1.mlp.linear1.weight"),
        ("layers3.0.blocks.1.mlp.fc2.bias", "swinViT.layers3.0.blocks.1.mlp.linear2.bias"),
        ("layers3.0.0.blocks.1.norm1.bias", "swinViT.layers3.0.blocks.1.norm1.bias"),
        ("layers3.0.blocks.0.norm1.bias", "swinViT.layers3.0.blocks.0.norm1.bias"),
        ("rotation_head.mlp.fc1.weight", "rotation_head.mlp.fc1.weight"),
        ("norms.weight", "norms.weight"),
    ],
)
def test_an_encoder_without_a_name_gets_ours(file, given, here):
    torch.save(named("patch_embed.proj.weight", given), file)
    read = weights.read(file)
    assert read.state == named(STEM, here)
    assert (read.layout.encoder, read.layout.left_out) == ("", [])


def test_tensors_outside_the_encoder_keep_their_names(file):
    torch.save(named("swin_vit.patch_embed.proj.weight", "norm.weight", "layers1.0.mlp.fc1.bias"), file)
    read = weights.read(file)
    assert read.state == named(STEM, "norm.weight", "layers1.0.mlp.fc1.bias")
    assert read.layout.left_out == []


@pytest.mark.parametrize("name", ["norm.weight", "norm.bias", "mask_token"])
def test_tensors_that_the_networks_lack_are_left_out_and_named(file, name):
    torch.save({"model": named("encoder.patch_embed.proj.weight", f"encoder.{name}", "out.bias", "decoder1.a")}, file)
    read = weights.read(file)
    assert set(read.state) == {STEM, "decoder1.a"}
    assert read.layout == weights.Layout("model", [], "", "encoder.", [f"encoder.{name}", "out.bias"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["module.a", "module.b", "c"], "2 tensors begin with module. and 1 do not, first c; expected all or none"),
        (["a", "module.a"], "1 tensors begin with module. and 1 do not, first a; expected all or none"),
        (["net.swinViT.patch_embed.proj.weight", "head.bias"], "1 tensors begin with net. and 1 do not, first head"),
        (
            ["module.patch_embed.proj.weight", "patch_embed.proj.weight"],
            "2 encoders, module.patch_embed.proj.weight, patch_embed.proj.weight; expected one",
        ),
        (
            ["patch_embed.proj.weight", "layers1.0.mlp.fc1.bias", "layers1.0.mlp.linear1.bias"],
            "several tensors map to swinViT.layers1.0.mlp.linear1.bias; expected one",
        ),
    ],
)
def test_ambiguous_names_are_refused(file, names, message):
    torch.save({"state_dict": named(*names)}, file)
    with pytest.raises(InputError, match=message) as error:
        weights.read(file)
    assert str(file) in one_line(error)


def test_two_networks_in_a_file_are_refused(file):
    torch.save({"state_dict": named("a"), "model": named("a"), "network": {"depth": 3}}, file)
    with pytest.raises(InputError, match="tensors under state_dict and model; expected one network") as error:
        weights.read(file)
    assert str(file) in one_line(error)


def test_other_entries_are_named(file):
    torch.save({"epoch": 3, "metadata": {}, "network": named("a"), "optimizer": {}}, file)
    assert weights.read(file).layout == weights.Layout("network", ["epoch", "optimizer"], "", None, [])
    torch.save(named("module.a") | {"epoch": 3}, file)
    assert weights.read(file).layout == weights.Layout(None, ["epoch"], "module.", None, [])


def test_metadata_is_read(file):
    metadata = {"modalities": UKB, "patch_size": [96, 96, 96], "versions": weights.versions()}
    weights.write({"network": {"a": torch.zeros(1)}, "metadata": metadata}, file)
    assert weights.read(file).metadata == metadata


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(2), "holds a Tensor; expected a dictionary of tensors"),
        ([torch.zeros(2)], "holds a list; expected a dictionary of tensors"),
        ({}, "holds no named tensors, but nothing; expected a state dict"),
        ({"state_dict": {}, "epoch": 4}, "holds no named tensors, but state_dict, epoch; expected a state dict"),
    ],
)
def test_content_that_is_no_checkpoint_is_refused(file, content, message):
    torch.save(content, file)
    with pytest.raises(InputError, match=message) as error:
        weights.read(file)
    assert str(file) in one_line(error)


@pytest.mark.parametrize(
    "content", [{"network": {"w": torch.ones(1)}, "metadata": "hello"}, {"w": torch.ones(1), 3: 4}]
)
def test_odd_files_are_read_for_what_they_hold(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    checkpoint = weights.read(tmp_path / "odd.pt")
    assert list(checkpoint.state) == ["w"]
    assert checkpoint.metadata == {}


def test_weights_that_are_not_finite_are_refused(tmp_path):
    torch.save({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pt")
    with pytest.raises(InputError, match=r"nan.pt: 1 tensors are not finite, first b"):
        weights.read(tmp_path / "nan.pt")


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.filterwarnings("ignore")  # PyTorch calls several of these kinds experimental
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.ones(2).to(torch.float8_e5m2), "float8_e5m2"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "qint8"),
        (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse_csr"),
        (nested, "nested"),
        (lambda: torch.ones(2, device="meta"), "meta"),
        (lambda: torch.ones(2, dtype=torch.complex64), "complex64"),
    ],
)
def test_tensors_that_cannot_be_trained_are_refused(make, kind, file):
    torch.save({"state_dict": {"a": torch.ones(1), "b.weight": make()}}, file)
    with pytest.raises(InputError, match=f"b.weight is a {kind} tensor; expected plain numbers") as error:
        weights.read(file)
    assert str(file) in one_line(error)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_plain_numbers_are_read(kind, file):
    torch.save({"a": torch.ones(2, dtype=kind)}, file)
    assert weights.read(file).state["a"].dtype == kind


@pytest.mark.parametrize(
    ("modalities", "shown"),
    [
        (None, "None"),
        (2, "2"),
        ("T1", "'T1'"),
        ([], "[]"),
        (["T1", 2], "['T1', 2]"),
        (torch.eye(2), "tensor([[1., 0.], [0., 1.]])"),
    ],
)
def test_modalities_must_be_a_list_of_names(modalities, shown, file):
    weights.write({"network": named("a"), "metadata": {"modalities": modalities}}, file)
    with pytest.raises(InputError) as error:
        weights.read(file)
    assert one_line(error) == (
        f"checkpoint {file}: metadata's modalities are {shown}; expected a list of names, such as ['T1', 'FLAIR']"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_size", "$__import__('os').abort()"),
        ("model_size", "{_target_: os.abort}"),
        ("model_size", {"_target_": "os.abort"}),
        ("model_size", "tiny\nimports: [$print()]"),
        ("model_size", "@network"),
        ("label_convention", "%/etc/passwd"),
        ("label_convention", ["atlas"]),
        ("patch_size", "$[64] * 3"),
        ("patch_size", ["$64", 64, 64]),
        ("modalities", ["$__import__('os').abort()"]),
        ("modalities", ["T1\nT2"]),
    ],
)
def test_metadata_that_a_config_would_evaluate_is_refused(name, value, file):
    """Exports and packages take options from a checkpoint, which may come from a stranger."""
    torch.save({"network": named("a"), "metadata": {"modalities": ["T1"], name: value}}, file)
    with pytest.raises(InputError, match=f"metadata's {name} (is|are) .*; expected ") as error:
        weights.read(file)
    assert one_line(error)


def test_modalities_are_read_as_a_list(file):
    weights.write({"network": named("a"), "metadata": {"modalities": ("T1", "FLAIR")}}, file)
    assert weights.read(file).metadata["modalities"] == UKB


# What a checkpoint says of itself

STATED = {"modalities": UKB, "model_size": "micro", "patch_size": [64, 64, 64], "normalization": "brain"}


def saved(path, **metadata):
    torch.save({"network": {"a": torch.ones(1)}, "metadata": metadata}, path)
    return path


def test_the_settings_of_a_checkpoint_are_those_that_predictions_share(file):
    saved(file, **STATED, architecture=None, learning_rate=1e-4, modality_aliases=None)
    assert weights.settings_of(file) == weights.settings_of([str(file)]) == STATED


def test_a_file_of_another_project_or_none_says_nothing(file, tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}}, file)
    assert weights.settings_of(file) == weights.settings_of(tmp_path / "later.pt") == weights.settings_of([]) == {}


def test_settings_are_read_without_the_tensors(file, monkeypatch):
    saved(file, **STATED)
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: pytest.fail("read"))
    assert weights.settings_of(file) == STATED


def test_the_checkpoints_of_an_ensemble_agree(file, tmp_path):
    files = [saved(file, **STATED), saved(tmp_path / "b.pt", **STATED | {"model_size": "base"})]
    with pytest.raises(InputError) as error:
        weights.settings_of(files)
    expected = f"trained with model_size=base, and {file} with micro; expected the same of all"
    assert str(error.value) == f"checkpoint {tmp_path / 'b.pt'}: {expected}"
    assert weights.settings_of([file, saved(tmp_path / "b.pt", modalities=UKB)]) == STATED


@pytest.mark.parametrize(("content", "message"), [(b"", "empty"), (b"{}", "expected a whole file of torch.save")])
def test_settings_of_a_broken_file_are_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        weights.settings_of(file)


RANGES = {"spacing": [[1, 1, 1], [1, 1, 2.5]], "extent": [[130, 170, 130], [140, 180, 150]]}
RANGES |= {"volume": [1.8, 2.1], "air": [0, 0], "overlap": [0.98, 1.0]}


def test_what_checkpoints_say_of_their_scans_is_read_from_each(file, tmp_path):
    weights.write({"a": torch.ones(1), "metadata": {"measured": RANGES}}, tmp_path / "says.pt")
    files = [str(tmp_path / "says.pt"), str(file), str(tmp_path / "later.pt")]
    assert weights.measured_of(files) == [RANGES]
    assert weights.measured_of(file) == []


@pytest.mark.parametrize(
    "measured",
    [
        "$print()",
        [1, 2],
        {},
        RANGES | {"more": [1, 2]},
        RANGES | {"air": [0.5]},
        RANGES | {"air": [0, float("nan")]},
        RANGES | {"air": [0, "$print()"]},
        RANGES | {"air": [0, True]},
        RANGES | {"spacing": [[1, 1], [1, 1]]},
        RANGES | {"volume": 2.0},
    ],
)
def test_what_is_no_ranges_is_refused(measured, tmp_path):
    weights.write({"a": torch.ones(1), "metadata": {"measured": measured}}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"odd\.pt: metadata's measured .*; expected ranges of figures"):
        weights.measured_of(tmp_path / "odd.pt")
