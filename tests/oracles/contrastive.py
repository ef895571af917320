"""NT-Xent exactly as in Chen et al., ICML 2020, equation 1, in loops over Python numbers."""

import math


def nt_xent(embeddings, temperature):
    """The mean over the 2N views; views i and i + N show the same sample."""
    count = len(embeddings)
    losses = []
    for i in range(count):
        positive = (i + count // 2) % count
        terms = {k: math.exp(cosine(embeddings[i], embeddings[k]) / temperature) for k in range(count) if k != i}
        losses.append(-math.log(terms[positive] / sum(terms.values())))
    return sum(losses) / count


def agreement(embeddings):
    """The mean cosine of the views of different samples."""
    count = len(embeddings)
    pairs = [(i, k) for i in range(count) for k in range(count) if i % (count // 2) != k % (count // 2)]
    return sum(cosine(embeddings[i], embeddings[k]) for i, k in pairs) / len(pairs) if pairs else 0


def cosine(first, second):
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return product / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))
