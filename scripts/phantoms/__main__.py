"""The embedded cohort: `python -m scripts.phantoms make`."""

from common.cli import run
from scripts.phantoms.cohort import make

if __name__ == "__main__":
    run({"make": make}, "phantoms")
