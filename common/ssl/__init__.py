"""Self-supervised pretraining: encoder, proxy tasks, views, embeddings."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    embeddings="EmbeddingInferer",
    layers="set_attention",
    losses="LossTerms SSLLoss",
    masked="Masked MaskedSegResNet",
    networks="SIZES SSLHead encoder swin_unetr",
    tasks="Contrastive Encoded ProxyTask Reconstruction Rotation TokenTask Views",
    views="TwoViews",
)
