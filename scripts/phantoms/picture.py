"""A picture of the difficulties of the embedded cohort: `python -m scripts.phantoms picture`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common.data.scan_checks import read_scan
from common.files import atomic_write, expand_home
from scripts.phantoms.cohort import DIFFICULTIES, make
from scripts.phantoms.layouts import PHANTOMS

__all__ = ["picture"]

PANELS = (("brats", "FLAIR"), ("brats", "T1ce"), ("atlas", "T1"))


def picture(output: str, subject: int = 1, seed: int = 3, spacing: float = 1.0) -> None:
    """Draw a subject of each difficulty, in the axial slice with most lesions.

    Args:
        output: the PNG file.
        subject: its number, from 0.
        seed: of the cohort.
        spacing: edge of a voxel in mm, 1 to 4.
    """
    from matplotlib.figure import Figure  # here, as `--help` need not wait for it

    figure = Figure(figsize=(9, 2.2 * len(DIFFICULTIES)), facecolor="black", layout="constrained")
    axes = figure.subplots(len(DIFFICULTIES), 2 * len(PANELS))
    with TemporaryDirectory() as folder:
        for row, difficulty in zip(axes, DIFFICULTIES, strict=True):
            for number, (layout, modality) in enumerate(PANELS):
                root = Path(folder) / difficulty / layout
                if not root.exists():
                    options = {"spacing": spacing, "seed": seed, "skull_stripped": True, "difficulty": difficulty}
                    make(layout, subject + 1, str(root), **options)  # type: ignore[arg-type]
                images, mask = PHANTOMS[layout].files_of(subject)
                image, label = (read_scan(root / str(file))[1] for file in (images[modality], mask))
                at = int(np.argmax(np.sum(label > 0, axis=(0, 1))))
                turn = -1 if PHANTOMS[layout].flip[1] > 0 else 1  # front of the head on top
                shown, outline = (volume[:, ::turn, at].T for volume in (image, label))
                for panel in row[2 * number : 2 * number + 2]:
                    panel.imshow(shown, cmap="gray", vmin=0, vmax=np.percentile(image[image > 0], 99.7))
                    panel.axis("off")
                row[2 * number + 1].contour(outline > 0, [0.5], colors="orange", linewidths=0.6)
                row[2 * number].set_title(f"{layout} {modality}, {difficulty}", color="white", fontsize=7)
    with atomic_write(expand_home(output, f"--output={output}")) as file:
        figure.savefig(file, format="png", dpi=90, metadata={"Software": None})
