"""tqdm's progress bars."""

from threading import RLock

from tqdm import tqdm

tqdm.set_lock(RLock())  # not shared with forked processes: one that dies with the lock would block the next bar
