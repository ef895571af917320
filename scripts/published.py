"""BrainSegFounder's published files: how `scripts.weights convert` recognises them, and the settings of their training.

The settings are those of the public code (lab-smile/BrainSegFounder, c58e9e6) and of https://huggingface.co/smilelab/BrainSegFounder.
"""

from typing import Any

SOURCE = "https://huggingface.co/smilelab/BrainSegFounder"
WHOLE = {"crop_foreground": False}
SCALED = {"normalization": "fixed_range"}
BRATS = {"modalities": ["FLAIR", "T1ce", "T1", "T2"], "orientation": "LPS", "cohort": "BraTS 2021"}  # as in its files
ATLAS = {"normalization": "none", "resize": [96, 96, 96], "cohort": "ATLAS v2.0"} | WHOLE
WINDOWS = {"patch_size": [128, 128, 128], "overlap": 0.6, "window_weighting": "constant"} | WHOLE
TUMOURS = {"normalization": "nonzero", "label_convention": "brats2021"}
FILES: dict[str, dict[str, Any]] = {
    "UKB-pretrain": {"bundle": "ukb_ssl_pretrain", "cohort": "UK Biobank"} | SCALED,
    "BRATS-pretrain": {"bundle": "brats_stage2"} | BRATS | SCALED,
    "ATLAS-pretrain": {"bundle": "atlas_stage2", "modalities": ["T1", "T1"]} | ATLAS,
    "BRATS-finetune": {"bundle": "brats_finetune"} | BRATS | TUMOURS | WINDOWS,
    "ATLAS-finetune": {"bundle": "atlas_finetune", "modalities": ["T1"], "label_convention": "atlas"} | ATLAS,
}


def published(checkpoint: Any, network: str, channels: int) -> dict[str, Any]:
    """Return the metadata of the published file that has a checkpoint's layout; empty for any other layout.

    `network` and `channels` are those of `scripts.weights.describe`.
    """
    if (name := _name(checkpoint, network, channels)) is None:
        return {}
    stated = {"merging": "monai_1_4", "patch_size": [96, 96, 96]} | FILES[name]  # MONAI a23c7f54 precedes 1.5
    if name == "UKB-pretrain" and channels == 1:
        stated["modalities"] = ["T1"]
    return stated | {"source": f"{SOURCE}, model_weights_{name}.pt", "licence": "uk-biobank-mta"}


def _name(checkpoint: Any, network: str, channels: int) -> str | None:
    layout, state = checkpoint.layout, checkpoint.state
    if layout.prefix == "module.base_model.":  # a pickled network; see common.weights.storage
        return "ATLAS-finetune"
    if layout.wrapper != "state_dict":
        return None
    if network == "SwinUNETR":
        return "BRATS-finetune" if (channels, len(state["out.conv.conv.bias"])) == (4, 3) else None
    if network == "SSLHead" and "conv.23.weight" in state:
        return "ATLAS-pretrain" if channels == 2 else None
    return {1: "UKB-pretrain", 2: "UKB-pretrain", 4: "BRATS-pretrain"}.get(channels) if network == "SSLHead" else None
