"""Self-supervised pretraining: encoder, proxy tasks, views, embeddings."""

from .. import lazy

COSINE = "_cosine"  # suffix of metrics from `ProxyTask.cosine`; defined here because the run report imports no PyTorch

__getattr__, __dir__ = lazy(
    __name__,
    {
        "attention": "set_attention",
        "embeddings": "EmbeddingInferer",
        "losses": "NTXentLoss",
        "masked": "Masked",
        "networks": "ModelSize SIZES SSLHead encoder in_precision settings swin_unetr",
        "tasks": "Contrastive Encoded ProxyTask Reconstruction Rotation SSLLoss TokenTask Views",
        "terms": "LossTerms",
        "views": "TwoViews boxes corrupt rotate",
    },
)
