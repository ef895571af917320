"""Window attention without stored scores, held against MONAI's own."""

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer, WindowAttention
from torch import nn

from common.baselines.architectures import segmentation_network
from common.errors import ArgumentError
from common.ssl import attention
from common.ssl.attention import RecomputedAttention, set_attention, shifted_windows
from common.ssl.networks import SSLHead

CPU = torch.device("cpu")


def encoder(window=(3, 3, 3), heads=(2, 4, 8, 16)):
    torch.manual_seed(0)
    network = SwinTransformer(1, 16, window, (2, 2, 2), (2, 2, 2, 2), heads, spatial_dims=3)
    for name, parameter in network.named_parameters():
        if "relative_position_bias" in name:
            nn.init.normal_(parameter, std=0.5)  # MONAI begins near zero, where a wrong bias would not show
    return network


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def results(network, image):
    """Outputs, and the gradient of each parameter, of a loss that weighs each output voxel differently."""
    network.zero_grad()
    outputs = network(image)
    weights = [torch.linspace(-1, 1, output.numel()).view(output.shape) for output in outputs]
    sum((weight * output).sum() for weight, output in zip(weights, outputs, strict=True)).backward()
    gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    return {f"output {level}": output.detach() for level, output in enumerate(outputs)} | gradients


@pytest.mark.parametrize(
    ("window", "shape", "chunk"),
    [
        ((3, 3, 3), (2, 1, 32, 32, 32), None),  # 16 tokens: the last window is padded
        ((4, 4, 4), (2, 1, 64, 32, 32), None),  # whole windows; other numbers of them along each axis
        ((7, 7, 7), (1, 1, 32, 64, 32), None),  # larger than deeper levels: some axes are not shifted
        ((2, 4, 3), (1, 1, 32, 32, 32), 1),  # scores of one head at a time
        ((3, 3, 3), (1, 1, 32, 32, 32), 6 * 27 * 27 * 4),  # several heads of a window: 6 of 8 at level 3
        ((3, 3, 3), (2, 1, 32, 32, 32), 2**22),  # several windows
    ],
)
def test_outputs_and_gradients_are_those_of_monai(window, shape, chunk, monkeypatch):
    if chunk is not None:
        monkeypatch.setitem(attention.CHUNK, "cpu", chunk)
    network, image = encoder(window), torch.randn(shape)
    expected = results(network, image)
    found = results(set_attention(network), image)
    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        assert found[name].sub(theirs).abs().max() <= 1e-5 * theirs.abs().max(), name


@pytest.mark.parametrize(("heads", "shapes"), [(1, (1, 1)), (7, (1, 7)), (29, (2, 12))])
def test_scores_of_as_many_heads_as_fit_are_computed_at_a_time(heads, shapes, monkeypatch):
    monkeypatch.setitem(attention.CHUNK, "cpu", heads * 50)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # of 100 bytes for the scores of a head
    q, covered = torch.zeros(5, 12, 5, 2), torch.zeros(5, 12)
    for at in attention._chunks(q):
        assert all(edge <= most for edge, most in zip(covered[at].shape, shapes, strict=True))
        covered[at] += 1
    assert (covered == 1).all()
    assert covered[next(iter(attention._chunks(q)))].shape == shapes


def test_bfloat16_is_as_close_to_float32_as_monais():
    network, image = encoder(), torch.randn(1, 1, 32, 32, 32)
    exact = {name: value for name, value in results(network, image).items() if not name.startswith("output")}

    def errors(kind):
        with torch.autocast("cpu", torch.bfloat16):
            found = results(set_attention(network, kind), image)
        return {name: float(found[name].sub(exact[name]).norm() / exact[name].norm()) for name in exact}

    stored, ours = errors("stored"), errors("recomputed")
    assert all(ours[name] < 1.25 * stored[name] + 0.01 for name in exact)


def stored_bytes(network, image):
    """Bytes that autograd keeps for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    del outputs
    return sum(kept.values())


def test_scores_are_not_stored():
    """Of a micro network's encoder, whose windows of 64 tokens have small scores."""
    network, image = SSLHead(1, "micro").swinViT, torch.randn(1, 1, 64, 64, 64)
    stored = stored_bytes(network, image)
    attentions = [module for module in network.modules() if isinstance(module, WindowAttention)]
    windows = (512, 64, 8, 1)
    scores = 4 * sum(count * each.num_heads * 64**2 for each, count in zip(attentions, windows, strict=True))
    assert stored_bytes(set_attention(network, "recomputed"), image) < stored - 0.9 * scores


def test_gradients_are_the_same_on_every_run_on_two_threads(two_threads):
    attend = RecomputedAttention(48, num_heads=12, window_size=(7, 7, 7), qkv_bias=True)
    tokens = torch.randn(2, 343, 48)
    gradients = [torch.autograd.grad(attend(tokens, None).square().sum(), attend.parameters()) for _ in range(8)]
    for other in gradients[1:]:
        assert all(torch.equal(*pair) for pair in zip(gradients[0], other, strict=True))


def test_parameters_keep_their_names_and_a_network_can_change_back():
    network = segmentation_network("swin_unetr", 1, 1, "micro")
    before = network.state_dict()
    kinds = [type(module) for module in set_attention(network, "stored").modules()]
    assert WindowAttention in kinds
    assert set_attention(network) is network
    assert set_attention(nn.Linear(2, 2), device="meta").weight.is_meta
    assert {type(each) for each in network.modules() if isinstance(each, WindowAttention)} == {RecomputedAttention}
    assert network.state_dict().keys() == before.keys()
    assert [type(module) for module in set_attention(network, "stored").modules()] == kinds
    with pytest.raises(ArgumentError, match="attention=flash: expected one of stored, recomputed"):
        set_attention(network, "flash")


def test_prediction_is_that_of_monai_and_may_come_before_a_training():
    shifted_windows.cache_clear()
    network, image = encoder(), torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        expected = network(image)
        found = set_attention(network)(image)
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(found, expected, strict=True))
    first, second = results(network, image), results(network, image)
    assert all(torch.equal(first[name], second[name]) for name in first), "a step is the same on every run"


def test_dropout_of_weights_is_that_of_monai():
    layer, tokens = WindowAttention(16, 4, (3, 3, 3), attn_drop=0.5), torch.randn(5, 27, 16)
    torch.manual_seed(0)
    expected = layer(tokens, None)
    torch.manual_seed(0)
    assert torch.allclose(set_attention(layer, "recomputed")(tokens, None), expected, atol=1e-6)
    assert not torch.allclose(layer.eval()(tokens, None), expected, atol=1e-2)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_holds_the_attention():
    network, image = set_attention(encoder().eval()), torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        traced = torch.jit.trace(network, image, check_trace=False)
        for ours, theirs in zip(traced(image + 1), network(image + 1), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
