"""Figures of the paper and of the public networks, copied, not computed."""

# Trainable parameters of the encoder with its three heads, by model size and number of input channels. One channel:
# the paper's Table 2; more channels: counted on the public self-supervised network.
SSL_PARAMETERS = {
    ("tiny", 1): 19_097_191,
    ("tiny", 4): 19_098_490,
    ("small", 1): 20_982_103,
    ("small", 2): 20_982_536,
    ("base", 1): 26_636_839,
    ("base", 4): 26_638_138,
}

# The same for SwinUNETR, by model size, input channels and output channels.
SWIN_UNETR_PARAMETERS = {
    ("tiny", 4, 3): 62_191_941,
    ("small", 4, 3): 64_076_853,
    ("small", 1, 1): 64_071_571,
    ("base", 4, 3): 69_731_589,
}

# The same for TransBTS with 4 modalities, 4 classes and windows of 128^3, counted on the authors' public network.
TRANSBTS_PARAMETERS = {
    "encoder": 4_402_320,
    "norm before the projection": 256,
    "projection": 1_769_984,
    "positions": 2_097_152,
    "transformer": 21_000_192,
    "mapping": [2_212_608, 885_504],
    "decoder": [(49_344, 221_568), (12_384, 55_488), (3_120, 13_920)],  # doubled and joined, convolved
    "out": 68,
}
TRANSBTS_UNUSED = {
    "linear encoding": 262_656,
    "layer norm after the transformer": 1_024,
}  # the output depends on neither
TRANSBTS_PUBLIC = 32_987_588

# MONAI's SegResNet as the Model Zoo's brats_mri_segmentation builds it: 4 modalities, 3 regions.
SEGRESNET_PARAMETERS = 4_702_227
