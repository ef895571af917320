"""Names and weights of proxy tasks; options are checked with them before PyTorch is imported."""

from collections.abc import Mapping, Sequence

from ..errors import ArgumentError


def task_name(path: str) -> str:
    """Return the name of a proxy task: its class name in lower case; `path` may contain modules.

    Example:
        >>> task_name("common.ssl.Reconstruction")
        'reconstruction'
    """
    return path.rpartition(".")[2].lower()


def task_weights(names: Sequence[str], weights: Sequence[float] | Mapping[str, float] | None) -> dict[str, float]:
    """Return the weight of each task, from a list in the order of the tasks or a mapping by name (default 1).

    Raise ArgumentError if there are no tasks, if the weights do not match the tasks, or if all weights are 0.
    """
    if not names:
        raise ArgumentError("tasks=[]: expected at least one proxy task")
    overrides = {} if weights is None else weights
    by_name = dict.fromkeys(names, 1.0)
    by_name |= overrides if isinstance(overrides, Mapping) else dict(zip(names, overrides, strict=False))
    is_complete = isinstance(overrides, Mapping) or len(overrides) == len(names)
    if not is_complete or by_name.keys() != set(names) or not any(by_name.values()):
        raise ArgumentError("loss_weights", weights, expected=f"a weight for each of {', '.join(names)}, not all 0")
    return by_name
