"""Pictures do not depend on the user's settings of Matplotlib, and leave them alone."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.drawing import pixels_of


def test_pixels_are_those_of_a_png_file(tmp_path):
    """Also those of a figure that was made elsewhere."""
    figure = Figure(figsize=(1, 0.5), facecolor="#804020")
    figure.subplots().plot([1, 2])
    figure.savefig(tmp_path / "x.png", dpi=60)
    expected = np.round(255 * matplotlib.image.imread(tmp_path / "x.png")[..., :3])
    np.testing.assert_array_equal(pixels_of(figure, 60), expected)
