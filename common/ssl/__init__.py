"""Self-supervised pretraining: encoder and heads, views, losses, embeddings."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    {
        "attention": "set_attention",
        "embeddings": "EmbeddingInferer",
        "losses": "NTXentLoss SSLLoss",
        "networks": "ModelSize SIZES SSLHead in_precision settings swin_unetr",
        "views": "TwoViews boxes corrupt rotate",
    },
)
