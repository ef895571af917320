"""tqdm progress bars with a lock for each process.

tqdm shares its lock with forked processes; if a DataLoader's worker died holding it, the next bar would wait forever.
"""

import os
from threading import RLock

from tqdm import tqdm


def _own_lock() -> None:
    tqdm.set_lock(RLock())


_own_lock()
os.register_at_fork(after_in_child=_own_lock)  # a thread of the parent may hold the parent's lock during the fork
