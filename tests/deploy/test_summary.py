import pytest

pytest.importorskip("highdicom", reason="needs the environment of make deploy")

import numpy as np
from matplotlib.text import Text

from common.prepare.volumes import Volume
from deploy.summary import Summary, draw_summary, make_capture, segment_volumes
from tests.deploy.checks import dicom_errors
from tests.deploy.dicom_study import IDENTIFIER, NAME, Study, write_modality

LABELS = ("one", "two", "three")
COLOURS = ("#000000", "#3399ff", "#ff0000")


@pytest.fixture
def case():
    """A head with a segment at its right, front and top; voxels of 1 x 2 x 3 mm in RAS+."""
    array = np.full((20, 24, 12), 100, np.float32)
    segments = np.zeros(array.shape, np.uint8)
    segments[14:18, 16:22, 8:10] = 2
    return Volume(array, np.diag([1.0, 2.0, 3.0, 1.0])), segments


def test_volumes_are_voxel_counts_times_voxel_volume(case):
    volume, segments = case
    assert segment_volumes(segments, LABELS, volume.voxel_volume) == pytest.approx(
        {"one": 0, "two": 48 * 0.006, "three": 0}
    )


def pictures(figure):
    """The six pictures as displayed [vertical, horizontal]: plain sagittal, overlaid sagittal and so on."""
    result = []
    for axes in figure.axes[:6]:
        picture = np.asarray(axes.images[0].get_array())[::-1]  # the first row is at the bottom
        result.append(picture[:, ::-1] if axes.xaxis_inverted() else picture)
    return result


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_overlays_are_where_radiologists_expect_them(flips, case):
    volume, segments = case
    where = tuple(slice(None, None, flip) for flip in flips)
    affine = volume.affine @ np.diag([*flips, 1])
    figure = draw_summary(Volume(volume.array[where], affine), segments[where], Summary("model", "1", {}, COLOURS))
    _, sagittal, _, coronal, plain, axial = pictures(figure)
    blue = np.array([0.2, 0.6, 1.0]) * 0.55 + 0.45  # #3399ff over white
    assert not np.isclose(plain, blue, atol=0.01).all(-1).any()
    for picture, horizontal in ((sagittal, 0.79), (coronal, 0.2), (axial, 0.2)):  # front; the patient's right
        marked = np.argwhere(np.isclose(picture, blue, atol=0.01).all(-1))
        assert marked.mean(0)[1] / picture.shape[1] == pytest.approx(horizontal, abs=0.03)
        assert marked.mean(0)[0] < picture.shape[0] / 3, "top, or front"


def test_the_text_names_model_volumes_and_remarks(case):
    volume, segments = case
    remarks, figures = ["not as expected"], ["brain: volume 1500 mL"]
    summary = Summary("a $model_1$", "1.2", {"oedema": 3.456}, COLOURS[:1], remarks, figures)
    figure = draw_summary(volume, segments, summary)
    texts = figure.findobj(Text)
    assert not any("model" in text.get_text() and text.get_parse_math() for text in texts), (
        "not interpreted as mathematics"
    )
    words = "\n".join(text.get_text() for text in texts)
    for part in (
        "a $model_1$",
        "version 1.2",
        "oedema: 3.46 mL",
        "not as expected",
        "brain: volume 1500 mL",
        "Research only, not for diagnosis",
    ):
        assert part in words


def test_an_empty_image_without_segments_is_drawn(case):
    volume, segments = case
    dark = Volume(np.zeros_like(volume.array), volume.affine)
    assert len(draw_summary(dark, np.zeros_like(segments), Summary("model", "1", {}, [])).axes) == 7


@pytest.mark.parametrize("burned_in", ["YES", "NO", None])
def test_the_capture_is_valid_and_belongs_to_the_study(burned_in, case, tmp_path):
    volume, segments = case
    source = write_modality(tmp_path / "T1", np.ones((4, 4, 12)), np.eye(4), Study(), 3, "T1")[0]
    summary = Summary("model", "1", {}, [])
    figure = draw_summary(volume, segments, summary)
    capture = make_capture(figure, source, summary, burned_in)
    capture.save_as(tmp_path / "summary.dcm")
    assert dicom_errors(tmp_path / "summary.dcm") == []
    assert capture.StudyInstanceUID == source.StudyInstanceUID
    assert capture.get("BurnedInAnnotation") == burned_in
    assert capture.pixel_array.shape == (750, 1200, 3)
    assert capture.pixel_array.std() > 10
    words = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert NAME not in words
    assert IDENTIFIER not in words
