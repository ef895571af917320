"""Checkpoints of the smallest networks for the bundles, by layout of their cohort: "brats" or "atlas"."""

from pathlib import Path

import torch
from monai.networks.nets import SwinUNETR

from common import weights
from common.ssl.networks import settings

INFERENCE_OPTIONS = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]
MODELS = {  # modalities, number of output channels, label convention
    "brats": (["FLAIR", "T1ce", "T1", "T2"], 3, "brats2021"),
    "atlas": (["T1"], 1, "atlas"),
}


def write_checkpoint(layout: str, path: Path) -> None:
    """Write a network with random weights; its masks are noise with voxels of every segment."""
    modalities, regions, convention = MODELS[layout]
    size = settings("micro")
    torch.manual_seed(0)
    network = SwinUNETR(
        in_channels=len(modalities),
        out_channels=regions,
        depths=size.depths,
        num_heads=size.num_heads,
        feature_size=size.feature_size,
        window_size=size.window_size,
    )
    metadata = {
        "bundle": f"{layout}_finetune",
        "network": "SwinUNETR",
        "modalities": modalities,
        "label_convention": convention,
        "model_size": "micro",
        "patch_size": [64, 64, 64],
    }
    weights.write({"network": network.state_dict(), "metadata": metadata}, path)
