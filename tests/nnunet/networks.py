"""Small residual U-Nets, as nnU-Net and nnssl build them."""

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

__all__ = ["residual_network"]


def residual_network(channels: int, stages: int = 3, width: int = 4) -> ResidualEncoderUNet:
    """The first stages of ResEnc-L, which has a width of 32, for three classes."""
    return ResidualEncoderUNet(
        input_channels=channels,
        n_stages=stages,
        features_per_stage=[width * 2**stage for stage in range(stages)],
        conv_op=torch.nn.Conv3d,
        kernel_sizes=3,
        strides=[1, *[2] * (stages - 1)],
        n_blocks_per_stage=[1, 3, 4, 6][:stages],
        num_classes=3,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
    )
