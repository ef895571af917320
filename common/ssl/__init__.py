"""Self-supervised pretraining: encoder, proxy tasks, views, embeddings."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    attention="set_attention",
    embeddings="EmbeddingInferer",
    losses="NTXentLoss",
    masked="Masked MaskedSegResNet",
    networks="ModelSize SIZES SSLHead encoder settings swin_unetr",
    tasks="Contrastive Encoded ProxyTask Reconstruction Rotation SSLLoss TokenTask Views",
    terms="LossTerms",
    views="TwoViews",
)
