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
    parameters = dict(ours.named_parameters())
    names = {
        "self_attn.in_proj_weight": "attention.qkv.weight",
        "self_attn.out_proj.weight": "attention.out.0.weight",
        "self_attn.out_proj.bias": "attention.out.0.bias",
        "linear1.weight": "mlp.linear1.weight",
        "linear1.bias": "mlp.linear1.bias",
        "linear2.weight": "mlp.linear2.weight",
        "linear2.bias": "mlp.linear2.bias",
        "norm1.weight": "attention_norm.weight",
        "norm1.bias": "attention_norm.bias",
        "norm2.weight": "mlp_norm.weight",
        "norm2.bias": "mlp_norm.bias",
    }
    assert sorted(parameters) == sorted(names.values())
    state = {name: parameters[source].detach() for name, source in names.items()}
    theirs.load_state_dict(state | {"self_attn.in_proj_bias": torch.zeros(96)})  # queries, keys, values have no bias
    tokens = torch.randn(2, 10, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-4, atol=1e-5)
