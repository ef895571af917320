"""Replaces `scripts.benchmark.gpu` in tests: prints figures, fails or hangs."""

import sys
import time

if __name__ == "__main__":
    variant = sys.argv[3]
    if variant == "stock":
        raise RuntimeError("out of memory")
    if variant == "slow":
        time.sleep(60)
    print('{"seconds": 2, "peak_gib": 3}')
