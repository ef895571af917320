"""TransBTS, against the public network's parameter counts and PyTorch's own transformer layer."""

import torch
from torch import nn

from common.networks import TransBTS
from common.networks.transbts import TransformerLayer
from tests.oracles.paper import TRANSBTS_PARAMETERS, TRANSBTS_PUBLIC, TRANSBTS_UNUSED


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_each_part_has_the_public_number_of_parameters():
    with torch.device("meta"):
        network = TransBTS(4, 4, (128, 128, 128))
    norm, _, projection = network.projection
    parts = {
        "encoder": count(network.first, network.levels, network.halvings),
        "norm before the projection": count(norm),
        "projection": count(projection),
        "positions": network.positions.numel(),
        "transformer": count(network.transformer),
        "mapping": [count(block) for block in network.mapping],
        "decoder": [(count(up), count(block)) for up, block in zip(network.doublings, network.blocks, strict=True)],
        "out": count(network.out),
    }
    assert parts == TRANSBTS_PARAMETERS
    assert count(network) + sum(TRANSBTS_UNUSED.values()) == TRANSBTS_PUBLIC


def test_a_transformer_layer_is_pytorchs_with_the_norm_first():
    torch.manual_seed(0)
    ours = TransformerLayer(embedding=32, heads=4, hidden=48, dropout=0.1).eval()
    theirs = nn.TransformerEncoderLayer(32, 4, 48, activation="gelu", batch_first=True, norm_first=True).eval()
    state = {"self_attn.in_proj_bias": torch.zeros(96)}  # queries, keys, values have no bias
    for name, tensor in ours.state_dict().items():
        name = name.replace("attention.qkv.", "self_attn.in_proj_").replace("attention.out.0", "self_attn.out_proj")
        state[name.replace("mlp.", "").replace("attention_norm", "norm1").replace("mlp_norm", "norm2")] = tensor
    theirs.load_state_dict(state)
    tokens = torch.randn(2, 10, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-4, atol=1e-5)
