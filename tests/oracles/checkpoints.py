"""Checkpoints in published layouts, made from their descriptions, not by our code.

The encoder and SwinUNETR are MONAI's; the heads of the self-supervised network follow the papers' figures and the
public code; `public_*` and `monai_*` arrange them as the published files do.
"""

from itertools import pairwise

import torch
from monai.networks.nets.swin_unetr import SwinTransformer, SwinUNETR

DEPTHS = {"tiny": (2, 2, 2, 2), "small": (2, 2, 6, 2), "base": (2, 2, 18, 2)}


def shapes_of(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def encoder(channels, depths, feature_size=48, window=7):
    """Shapes of a SwinUNETR encoder by name, without a prefix."""
    edges, heads = (window,) * 3, (3, 6, 12, 24)
    return shapes_of(SwinTransformer(channels, feature_size, edges, (2, 2, 2), depths, heads, spatial_dims=3))


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def ssl_network(channels, depths, feature_size=48, **settings):
    """Shapes of the self-supervised network: the encoder, three heads."""
    width = 16 * feature_size
    shapes = under("swinViT.", encoder(channels, depths, feature_size, **settings))
    shapes |= {"rotation_head.weight": (4, width), "rotation_head.bias": (4,)}
    shapes |= {"contrastive_head.weight": (512, width), "contrastive_head.bias": (512,)}
    widths = [width, width // 2, width // 4, width // 8, width // 16, width // 16]
    for number, (before, after) in enumerate(pairwise(widths)):
        shapes |= {f"conv.{4 * number}.weight": (after, before, 3, 3, 3), f"conv.{4 * number}.bias": (after,)}
    return shapes | {"conv.20.weight": (channels, widths[-1], 1, 1, 1), "conv.20.bias": (channels,)}


def other_ssl_network(kind, channels, depths, feature_size=48, **settings):
    """Shapes of the public code's two optional self-supervised networks.

    `deconv` reconstructs by transposed convolutions; `two_layers` adds a linear layer below the rotation and the
    contrastive head, as in the code for ATLAS.
    """
    width = 16 * feature_size
    shapes = ssl_network(channels, depths, feature_size, **settings)
    if kind == "two_layers":
        for task in ("rotation", "contrastive"):
            shapes |= {f"{task}_pre.weight": (width, width), f"{task}_pre.bias": (width,)}
        return shapes
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("conv.")}
    widths = [width, width // 2, width // 4, width // 8, width // 16, channels]
    for number, (before, after) in enumerate(pairwise(widths)):
        shapes |= {f"conv.{number}.weight": (before, after, 2, 2, 2), f"conv.{number}.bias": (after,)}
    return shapes


def swin_unetr(channels, outputs, depths, feature_size=48, window=7):
    """Shapes of SwinUNETR by name."""
    return shapes_of(SwinUNETR(channels, outputs, depths=depths, feature_size=feature_size, window_size=window))


def filled(shapes, seed=0):
    """Random tensors of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(0, 99, shape, generator=generator)
        if name.endswith("relative_position_index")
        else torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def hollow(shapes):
    """Tensors of these shapes without memory, for full-size networks; also small in a file."""
    return {
        name: torch.zeros((), dtype=torch.int64 if name.endswith("relative_position_index") else None).expand(shape)
        for name, shape in shapes.items()
    }


def public_ssl(tensors):
    """Stages 1 and 2 of the paper's authors."""
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 6e-6, "betas": (0.9, 0.999)}]}
    return {"global_step": 3, "epoch": 1, "state_dict": under("module.", tensors), "optimizer": optimizer}


def monai_swinvit(tensors):
    """MONAI's model_swinvit.pt, for `SwinUNETR.load_from`: an encoder without a prefix, with older names."""
    renamed = {
        name.replace("mlp.linear1", "mlp.fc1").replace("mlp.linear2", "mlp.fc2"): tensor
        for name, tensor in tensors.items()
    }
    width = tensors["layers4.0.downsample.reduction.weight"].shape[0]
    renamed |= {"norm.weight": torch.full((width,), 5.0), "norm.bias": torch.full((width,), 6.0)}
    return {"state_dict": under("module.", renamed)}
