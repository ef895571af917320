"""The encoder, the heads of proxy tasks, and the model sizes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from monai.networks.nets.swin_unetr import SwinTransformer, SwinUNETR
from torch import nn

from ..errors import InputError
from .layers import MERGINGS
from .masked import Masked
from .tasks import Contrastive, Encoded, ProxyTask, Reconstruction, Rotation, TokenTask, paper_tasks


class ModelSize(NamedTuple):
    """Settings of SwinUNETR and its encoder for one model size."""

    depths: tuple[int, int, int, int]
    feature_size: int = 48
    window_size: int = 7
    num_heads: tuple[int, int, int, int] = (3, 6, 12, 24)


SIZES = {
    "tiny": ModelSize(depths=(2, 2, 2, 2)),  # paper, Table 2
    "small": ModelSize(depths=(2, 2, 6, 2)),  # paper, Table 2
    "base": ModelSize(depths=(2, 2, 18, 2)),  # paper, Table 2
    # These train on a CPU in minutes (DIFF-14); the last three have the depths of the paper's sizes
    "micro": ModelSize(depths=(1, 1, 1, 1), feature_size=12, window_size=4),
    "micro_tiny": ModelSize(depths=(2, 2, 2, 2), feature_size=12, window_size=4),
    "micro_small": ModelSize(depths=(2, 2, 6, 2), feature_size=12, window_size=4),
    "micro_base": ModelSize(depths=(2, 2, 18, 2), feature_size=12, window_size=4),
}

TASKS: dict[str, type[ProxyTask]] = {task.name: task for task in (Reconstruction, Rotation, Contrastive, Masked)}


def in_precision(network: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """Return a network that computes in `dtype` on any device and outputs float32; MONAI's engines do on CUDA only.

    The output is a tensor, or a dictionary, list or tuple of tensors.
    """

    def compute(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(inputs.device.type, dtype=dtype):
            return _float32(network(inputs, *args, **kwargs))

    return network if dtype == torch.float32 else compute


def check_finite(*outputs: torch.Tensor) -> None:
    """Refuse outputs with NaN or infinity; thresholding NaN would give an empty label map."""
    if not all(output.isfinite().all() for output in outputs):
        raise InputError("the network's output is not finite; check the intensities of the images and the weights")


def _float32(output: Any) -> Any:
    if isinstance(output, Mapping):
        return {name: value.float() for name, value in output.items()}
    return output.float() if isinstance(output, torch.Tensor) else type(output)(value.float() for value in output)


def encoder(in_channels: int, size: ModelSize, use_checkpoint: bool, merging: str = "monai_1_5") -> SwinTransformer:
    """Build SwinUNETR's encoder in a model size; see `SSLHead`."""
    return SwinTransformer(
        in_chans=in_channels,
        embed_dim=size.feature_size,
        window_size=(size.window_size,) * 3,
        patch_size=(2, 2, 2),
        depths=size.depths,
        num_heads=size.num_heads,
        use_checkpoint=use_checkpoint,
        spatial_dims=3,
        downsample=MERGINGS[merging],
        use_flash_attention=True,
    )


class SSLHead(nn.Module):
    """SwinUNETR's encoder with the heads of proxy tasks (paper, section 2.3; Tang et al., CVPR 2022).

    With the paper's tasks, parameters have the names of the public weights: `swinViT.*`, `rotation_head.*`,
    `contrastive_head.*`, `conv.*`.

    Args:
        model_size: tiny, small, base (paper, Table 2) or a micro size.
        use_checkpoint: Whether to recompute the encoder's activations in the backward pass, to save memory.
        head_tokens: Input of the rotation and contrastive heads: corner (first and second bottleneck token, at a corner
            of the crop, as in the public code) or mean, of all tokens (DIFF-31).
        tasks: Proxy tasks, or their names in a checkpoint (names not in `TASKS` get no head); by default the paper's.
        merging: Patch merging of the encoder, monai_1_4 or monai_1_5 (DIFF-38).

    Shapes:
        input [B, in_channels, H, W, D], edges multiples of 32 voxels, one of them at least 64.
        output: predictions by task, by default {"reconstruction": [B, in_channels, H, W, D], "rotation": [B, 4]
        (logits of k x 90 degrees), "contrastive": [B, 512]}.

    Example:
        >>> sum(p.numel() for p in SSLHead(in_channels=1, model_size="small").parameters())
        20982103
    """

    def __init__(
        self,
        in_channels: int,
        model_size: str = "small",
        use_checkpoint: bool = False,
        head_tokens: str = "corner",
        tasks: Sequence[ProxyTask | str] | None = None,
        merging: str = "monai_1_5",
    ) -> None:
        super().__init__()
        self.reads_mean = head_tokens == "mean"
        requested = paper_tasks() if tasks is None else tasks
        supported = [task for task in requested if not isinstance(task, str) or task in TASKS]
        self.tasks = [TASKS[task]() if isinstance(task, str) else task for task in supported]
        self.modality_axes = {name: axis for task in self.tasks for name, axis in task.modality_axes.items()}
        size = SIZES[model_size]
        self.swinViT = encoder(in_channels, size, use_checkpoint, merging)
        # Linear heads first: the order determines the initial values and the parameter order in saved optimisers
        for task in sorted(self.tasks, key=lambda task: not isinstance(task, TokenTask)):
            for name, module in task.heads(in_channels, size.feature_size).items():
                self.add_module(name, module)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = self.swinViT(image.contiguous())
        tokens = levels[4].flatten(start_dim=2)  # [B, width, tokens]
        if self.reads_mean:
            tokens = tokens.mean(dim=2, keepdim=True).expand_as(tokens)
        encoded = Encoded(image, levels, tokens)
        return {task.name: task.predict(self, encoded) for task in self.tasks}


def swin_unetr(
    in_channels: int, out_channels: int, model_size: str = "small", merging: str = "monai_1_5", **options: Any
) -> SwinUNETR:
    """Build MONAI's SwinUNETR in a model size (paper, Table 2).

    Example:
        >>> sum(p.numel() for p in swin_unetr(4, 3, "small").parameters())
        64076853
    """
    options |= {"downsample": MERGINGS[merging], "use_flash_attention": True, **SIZES[model_size]._asdict()}
    return SwinUNETR(in_channels, out_channels, **options)
