"""Make the embedded cohort of computer-made heads: `python -m scripts.phantoms make`."""

from scripts.cli import run
from scripts.phantoms.cohort import make

if __name__ == "__main__":
    run({"make": make}, "phantoms")
