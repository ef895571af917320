"""The embedded cohort: `python -m scripts.phantoms make` and `picture`."""

from common.cli import run
from scripts.phantoms.cohort import make
from scripts.phantoms.picture import picture

if __name__ == "__main__":
    run({"make": make, "picture": picture}, "phantoms")
