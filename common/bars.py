"""Progress bars: tqdm's, with a lock that belongs to one process.

tqdm shares its lock with the processes that are forked from this one: if one of them, such as a reader of a training,
ended while it held the lock, this process would wait for it forever at its next bar.
"""

import os
from threading import RLock

from tqdm import tqdm

__all__ = ["tqdm"]


def _own_lock() -> None:
    tqdm.set_lock(RLock())


_own_lock()
os.register_at_fork(after_in_child=_own_lock)  # a thread of the parent may hold the parent's
