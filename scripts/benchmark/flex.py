"""Window attention by PyTorch's FlexAttention, for comparison: a compiled kernel adds the bias to each score."""

from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import flex_attention

from common.ssl import set_attention
from common.ssl.attention import FusedAttention
from common.ssl.compiling import GRAPHS


class FlexAttention(FusedAttention):
    """`FusedAttention` computed by PyTorch's FlexAttention, which has no backward pass on a CPU."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        def add_bias(score: Any, window: Any, head: Any, query: Any, key: Any) -> Any:
            return score + bias[0, head, query, key]

        attention: Any = compiled if q.is_cuda else flex_attention
        return attention(q, k, v, score_mod=add_bias, scale=self.scale)


compiled = torch.compile(flex_attention, dynamic=False, recompile_limit=GRAPHS)


def set_flex_attention(network: nn.Module) -> None:
    """Let a network's Swin transformers compute window attention by FlexAttention."""
    for module in set_attention(network, "fused").modules():
        if isinstance(module, FusedAttention):
            module.__class__ = FlexAttention
