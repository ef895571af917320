import numpy as np
from matplotlib.image import imread

from scripts.phantoms.picture import picture


def test_the_picture_has_each_difficulty(tmp_path):
    """Three rows of six panels, all different, and outlines are orange."""
    picture(tmp_path / "hard.png", subject=0, spacing=4)
    pixels = imread(tmp_path / "hard.png")[..., :3]
    rows = [pixels[start : start + len(pixels) // 3] for start in range(0, len(pixels) - 2, len(pixels) // 3)]
    assert len(rows) == 3
    for row in rows:
        assert row.max() > 0.9
        assert ((row[..., 0] > 0.8) & (row[..., 2] < 0.2)).any()
    assert all(np.abs(rows[one] - rows[other]).mean() > 0.01 for one, other in ((0, 1), (0, 2), (1, 2)))
