"""Files in the layouts of published checkpoints, written by hand from their descriptions, not from our code.

The names and shapes of the encoder, the self-supervised network and SwinUNETR follow the papers' figures and the public
code; `public_*` and `monai_*` arrange them as the published files do.
"""

from itertools import pairwise

import torch

HEADS = (3, 6, 12, 24)
DEPTHS = {"tiny": (2, 2, 2, 2), "small": (2, 2, 6, 2), "base": (2, 2, 18, 2)}


def block(width, heads, window):
    return {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.relative_position_bias_table": ((2 * window - 1) ** 3, heads),
        "attn.relative_position_index": (window**3, window**3),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.linear1.weight": (4 * width, width),
        "mlp.linear1.bias": (4 * width,),
        "mlp.linear2.weight": (width, 4 * width),
        "mlp.linear2.bias": (width,),
    }


def encoder(channels, depths, feature_size=48, window=7, heads=HEADS):
    """Shapes of a SwinUNETR encoder by name, without a prefix."""
    shapes = {"patch_embed.proj.weight": (feature_size, channels, 2, 2, 2), "patch_embed.proj.bias": (feature_size,)}
    for level in range(4):
        width = feature_size * 2**level
        for number in range(depths[level]):
            shapes |= {
                f"layers{level + 1}.0.blocks.{number}.{name}": shape
                for name, shape in block(width, heads[level], window).items()
            }
        shapes |= {
            f"layers{level + 1}.0.downsample.reduction.weight": (2 * width, 8 * width),
            f"layers{level + 1}.0.downsample.norm.weight": (8 * width,),
            f"layers{level + 1}.0.downsample.norm.bias": (8 * width,),
        }
    return shapes


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
    """Shapes of the self-supervised networks of the public code that are not its default one.

    `deconv` reconstructs by transposed convolutions; `two_layers` adds a linear layer below each of the two other
    heads, as in the code for ATLAS.
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


def decoder(channels, feature_size=48):
    """Shapes of SwinUNETR without its encoder and its output layer."""
    f = feature_size
    shapes = {}
    for name, before, after in [
        ("encoder1", channels, f),
        ("encoder2", f, f),
        ("encoder3", 2 * f, 2 * f),
        ("encoder4", 4 * f, 4 * f),
        ("encoder10", 16 * f, 16 * f),
    ]:
        shapes |= residual_block(f"{name}.layer", before, after)
    for name, before, after in [
        ("decoder5", 16 * f, 8 * f),
        ("decoder4", 8 * f, 4 * f),
        ("decoder3", 4 * f, 2 * f),
        ("decoder2", 2 * f, f),
        ("decoder1", f, f),
    ]:
        shapes[f"{name}.transp_conv.conv.weight"] = (before, after, 2, 2, 2)
        shapes |= residual_block(f"{name}.conv_block", 2 * after, after)
    return shapes


def residual_block(name, before, after):
    shapes = {
        f"{name}.conv1.conv.weight": (after, before, 3, 3, 3),
        f"{name}.conv2.conv.weight": (after, after, 3, 3, 3),
    }
    return shapes if before == after else shapes | {f"{name}.conv3.conv.weight": (after, before, 1, 1, 1)}


def swin_unetr(channels, outputs, depths, feature_size=48, **settings):
    """Shapes of SwinUNETR by name."""
    output = {"out.conv.conv.weight": (outputs, feature_size, 1, 1, 1), "out.conv.conv.bias": (outputs,)}
    shapes = under("swinViT.", encoder(channels, depths, feature_size, **settings))
    return shapes | decoder(channels, feature_size) | output


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
    """Tensors of these shapes that take no space in memory or in a file, for full-size networks."""
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


def monai_ssl_pretrained(encoder, decoder):
    """MONAI's ssl_pretrained_weights.pth, for `filter_swinunetr`: levels nested once more; `out` restores images."""
    nested = {
        name if name.startswith("patch_embed") else name.replace(".0.", ".0.0.", 1): tensor
        for name, tensor in encoder.items()
    }
    nested |= {"norm.weight": torch.ones(8), "norm.bias": torch.ones(8), "mask_token": torch.ones(1, 8, 1, 1, 1)}
    width = encoder["patch_embed.proj.bias"].shape[0]
    output = {"out.conv.conv.weight": torch.full((1, width, 1, 1, 1), 7.0), "out.conv.conv.bias": torch.full((1,), 8.0)}
    return {"model": under("encoder.", nested) | decoder | output, "epoch": 3, "optimizer": {}}
