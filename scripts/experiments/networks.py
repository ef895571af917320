"""Table 2: settings and parameter counts of this project's networks beside the paper's."""

from typing import Any, NamedTuple

from scripts.experiments.study import paper


class Setting(NamedTuple):
    """A setting of a model size, in the paper and here."""

    row: str
    setting: str
    paper: Any
    ours: Any


def encoders() -> list[Setting]:
    """The encoder's settings of each size, and the parameter counts of encoder and proxy heads for one channel."""
    from common.ssl.networks import SSLHead, settings  # late import: `--help` stays fast

    printed = paper()[2]
    found = []
    for row, system in printed["systems"].items():
        network = SSLHead(in_channels=1, model_size=system["size"])
        size = settings(system["size"])
        ours = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "heads": list(size.num_heads),
            "blocks": list(size.depths),
            "feature_size": size.feature_size,
            "bottleneck": network.rotation_head.in_features,
        }
        found += [Setting(row, key, system.get(key, printed["shared"].get(key)), value) for key, value in ours.items()]
    return found
