from matplotlib.image import imread

from scripts.phantoms.picture import picture


def test_the_picture_has_both_difficulties(tmp_path):
    """Two rows of six panels; the lower row is not the upper one, and outlines are orange."""
    picture(tmp_path / "hard.png", subject=0, spacing=4)
    pixels = imread(tmp_path / "hard.png")[..., :3]
    upper, lower = pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]
    for half in (upper, lower):
        assert half.max() > 0.9
        assert ((half[..., 0] > 0.8) & (half[..., 2] < 0.2)).any()
    assert abs(upper[: len(lower)].mean() - lower[: len(upper)].mean()) > 1e-4
