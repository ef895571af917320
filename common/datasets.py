"""The cases of a datalist as a MONAI dataset, and its parts across processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from monai.data import CacheDataset, Dataset, DistributedSampler

from common.preflight import InputError, reason

__all__ = ["CaseDataset", "shard"]


class CaseDataset(CacheDataset):
    """MONAI's `CacheDataset`, whose errors name the subject and the file that broke instead of a transform.

    Args:
        data: entries as `common.datalists.load` returns them.
        transform: a MONAI `Compose`.
        cache_rate: share of the cases kept in memory, after the transforms that are not random; 0 to 1.

    Raises:
        InputError: a case cannot be read or transformed.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[..., Any], cache_rate: float = 0.0) -> None:
        # One thread: MONAI's NibabelReader keeps the last call's file names; threads that share it lose channels.
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=1, progress=False)

    def _load_cache_item(self, index: int) -> Any:
        with _named(self.data[index]):
            return super()._load_cache_item(index)

    def _transform(self, index: int) -> Any:
        with _named(self.data[index]):
            return super()._transform(index)


@contextmanager
def _named(entry: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = reason(error)
        if message is None:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            text = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            files = ", ".join(str(file) for file in [*entry["image"], entry.get("label")] if file)
            message = f"cannot be read: {text} ({files})"
        raise InputError(f"subject {entry['subject']}: {message}") from error


def shard(dataset: Dataset) -> DistributedSampler:
    """Each process its own part of a validation set, in order, no case twice.

    Raises:
        InputError: there are fewer cases than processes.
    """
    processes = dist.get_world_size()
    if len(dataset) < processes:
        raise InputError(
            f"split validation: {len(dataset)} cases for {processes} processes; expected one each at least"
        )
    return DistributedSampler(dataset, even_divisible=False, shuffle=False)
