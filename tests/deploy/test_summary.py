import numpy as np
import pytest

from deploy.job import Case
from deploy.outputs.summary import draw_summary
from scripts.prepare.volumes import Volume

VOLUME = Volume(np.full((20, 24, 12), 100, np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))  # in RAS+
SEGMENTS = np.zeros((20, 24, 12), np.uint8)
SEGMENTS[14:18, 16:22, 8:10] = 2  # at the right, front and top


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_outlines_are_where_radiologists_expect_them(flips, tumours):
    where = tuple(slice(None, None, flip) for flip in flips)
    flipped = Volume(VOLUME.array[where], VOLUME.affine @ np.diag([*flips, 1]))
    volumes = {segment.label: 1.0 for segment in tumours.segments}
    figure = draw_summary(Case(SEGMENTS[where], flipped, [], volumes, tumours))
    _, sagittal, _, coronal, plain, axial = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:6])
    colour = [*bytes.fromhex(tumours.segments[1].colour[1:])]
    assert not (plain == colour).all(-1).any()
    for picture, horizontal in ((sagittal, 0.21), (coronal, 0.2), (axial, 0.2)):  # front; the patient's right
        marked = np.argwhere((picture == colour).all(-1))
        assert marked.mean(0)[1] / picture.shape[1] == pytest.approx(horizontal, abs=0.03)
        assert marked.mean(0)[0] < picture.shape[0] / 3, "top, or front"
