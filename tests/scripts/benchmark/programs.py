"""Functions that a worker of the benchmark runs."""

import os


def allocate(bits):
    """Take memory of 2 ** bits bytes, in a process whose settings of memory are not its parent's."""
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    return lambda: bytearray(2 ** int(bits))


if __name__ == "__main__":
    raise SystemExit(1)
