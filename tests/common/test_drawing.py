"""Pictures do not depend on the user's settings of Matplotlib, and leave them alone."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.drawing import new_figure, pixels_of, svg_of
from common.inference.pictures import figure_of
from common.pages.charts import scores_chart

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


def chart():
    with new_figure({"font.size": 8}, figsize=(2, 1)) as figure:
        figure.subplots().plot([1, 2], label="line")
        figure.legend()
    return figure


def drawn():
    """Pixels and SVG of what the repository draws, in the way that it does."""
    stripes = np.tile(np.arange(0, 240, 30, np.uint8)[:, None, None], (1, 8, 3))
    panels = figure_of({"row": [stripes, stripes]}, ["a", "b"], {"lesion": "#e69f00"}, "title")
    pixels = [pixels_of(panels, 50), pixels_of(chart(), 50)]
    return (
        [array.tobytes() for array in pixels],
        svg_of(chart(), {"svg.hashsalt": "x"}),
        scores_chart("x", "1", {"r": [0.5]}),
    )


def test_settings_of_the_user_change_no_picture_and_stay():
    expected = drawn()
    with matplotlib.rc_context(HOSTILE):
        before = dict(matplotlib.rcParams)
        assert drawn() == expected
        assert dict(matplotlib.rcParams) == before


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
