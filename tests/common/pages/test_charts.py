"""Charts as inline SVG."""

import re

from matplotlib.figure import Figure

from common.pages.charts import svg


def test_figures_in_a_chart_keep_their_digits_and_coordinates_are_short() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([0, 1 / 3, 1], [0.96125, 0.97, 0.97375])
    axes.set_yticks([0.9625, 0.9725], ["0.9625", "0.9725"])
    axes.set_title("limits 0.1234 to 5.678")
    drawing = str(svg(figure, "a line"))
    assert {"0.9625", "0.9725", "limits 0.1234 to 5.678"} <= set(re.findall(r">([^<>]+)</text>", drawing))
    assert not re.search(r"\.\d{3}", "".join(re.findall(r"<[^<>]*>", drawing)))
