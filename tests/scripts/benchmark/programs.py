"""Programs for `scripts.benchmark.timing.measure`: a function, and a command that fails."""

import os


def allocate(bits):
    """Return a function that allocates 2 ** bits bytes; assert that the parent's memory settings are not inherited."""
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    return lambda: bytearray(2 ** int(bits))


if __name__ == "__main__":
    raise SystemExit(1)
