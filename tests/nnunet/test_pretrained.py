"""Pretrained encoders in nnU-Net's residual U-Net, by the layouts that nnssl and nnU-Net write."""

import pytest
import torch

from common.errors import InputError
from scripts.nnunet.pretrained import fit, read
from tests.nnunet.networks import residual_network as network
from tests.support import one_line

MODALITIES = ["FLAIR", "T1ce", "T1", "T2"]
STEM = "encoder.stem.convs.0.conv.weight"


@pytest.fixture
def save(tmp_path):
    def write(tensors: dict, **others: object):
        path = tmp_path / "weights.pth"
        torch.save({"network_weights": tensors, **others}, path)
        return path

    return write


def plan(prefix: str = "encoder") -> dict:
    return {"key_to_encoder": f"{prefix}.stages", "key_to_stem": f"{prefix}.stem", "pretrain_num_input_channels": 1}


def encoder_outputs(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().encoder(image)[-1]


@pytest.mark.parametrize(("prefix", "added"), [("encoder", ""), ("online_encoder", "module._orig_mod.")])
def test_the_encoder_computes_what_the_pretrained_one_did(save, prefix, added):
    """With equal channels, a stem that was spread over four channels answers as the one of one channel."""
    pretrained, target = network(1), network(4)
    tensors = {f"{added}{prefix}.{name}": tensor for name, tensor in pretrained.encoder.state_dict().items()}
    state, report = fit(target, save(tensors, nnssl_adaptation_plan=plan(prefix)), MODALITIES)
    target.load_state_dict(state)
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = encoder_outputs(pretrained, image)
    torch.testing.assert_close(encoder_outputs(target, image.expand(-1, 4, -1, -1, -1)), expected, atol=1e-4, rtol=1e-4)
    assert report.changed == [STEM]
    assert report.shares[STEM] == pytest.approx([0.25] * 4)


def test_the_decoder_of_a_self_supervised_network_is_left_out(save):
    """The report counts each tensor once; nnU-Net's state names a convolution twice, and its encoder in the decoder."""
    target = network(4)
    before = target.state_dict()["decoder.stages.0.convs.0.conv.weight"].clone()
    state, report = fit(target, save(network(1).state_dict(), nnssl_adaptation_plan=plan()), MODALITIES)
    torch.testing.assert_close(state["decoder.stages.0.convs.0.conv.weight"], before)
    parameters = dict(target.named_parameters())
    encoder = [name for name in parameters if name.startswith("encoder.")]
    assert len(report.matched) + len(report.changed) == len(encoder)
    assert len(report.missing) == len(parameters) - len(encoder)
    assert all(name.startswith("decoder.") for name in report.missing)


def test_nnunets_own_checkpoint_gives_all_but_the_last_layers(save):
    pretrained, target = network(2), network(2)
    state, report = fit(target, save(pretrained.state_dict()), ["T1", "T2"])
    assert report.missing
    assert all(".seg_layers." in name for name in report.missing)
    given = pretrained.state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, given[name]) == (name not in report.missing), name


def test_an_encoder_of_another_shape_is_refused(save):
    with pytest.raises(InputError) as error:
        fit(network(1), save(network(1, width=8).state_dict(), nnssl_adaptation_plan=plan()), ["T1"])
    assert "tensors of the encoder do not fit, first encoder." in one_line(error)
    assert "--plans=resenc_l" in one_line(error)


def test_files_of_another_layout_and_pickles_are_refused(save, tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("unpickled",)

    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(InputError) as error:
        read(tmp_path / "other.pt")
    assert one_line(error).endswith("holds state_dict; expected network_weights, as nnU-Net and nnssl write them")
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        read(save({}, trap=Trap()))
