"""Pictures do not depend on the user's settings of Matplotlib, and leave them alone."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.drawing import new_figure, pixels_of

HOSTILE = {  # `text.usetex` needs LaTeX
    "figure.dpi": 4000,
    "figure.subplot.left": 0.5,
    "font.family": "no such font",
    "font.size": 40,
    "image.origin": "lower",
    "lines.linewidth": 20,
    "savefig.bbox": "tight",
    "savefig.format": "pdf",
    "svg.fonttype": "path",
    "text.usetex": True,
}


def test_a_figure_has_the_defaults_and_the_style():
    with matplotlib.rc_context(HOSTILE), new_figure({"font.size": 8}) as figure:
        text = figure.text(0, 0, "x")
    assert (text.get_fontsize(), text.get_usetex(), figure.dpi) == (8, False, 100)


def test_pixels_are_those_of_a_png_file(tmp_path):
    """Also those of a figure that was made elsewhere."""
    figure = Figure(figsize=(1, 0.5), facecolor="#804020")
    figure.subplots().plot([1, 2])
    figure.savefig(tmp_path / "x.png", dpi=60)
    expected = np.round(255 * matplotlib.image.imread(tmp_path / "x.png")[..., :3])
    np.testing.assert_array_equal(pixels_of(figure, 60), expected)
