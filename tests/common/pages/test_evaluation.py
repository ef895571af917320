"""The page of an evaluation: its text, that it loads nothing, and the position of lesions in its pictures."""

import base64
import hashlib
import re
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from common.inference.masks import masks_of
from common.inference.results import CaseFiles, Details
from common.metrics.measures import spacing_of
from common.metrics.protocols import Scores, protocol
from common.pages.evaluation import choose
from common.pages.evaluation import page_of as draw_page
from common.pages.evaluation_pictures import draw
from tests.html_pages import Page, text_of

ATLAS, BRATS = protocol("atlas"), protocol("brats")
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (32, 64, 32)  # of 32 x 64 x 64 mm


def block(*slices, value=1):
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(*each) for each in slices)] = value
    return labels


LARGE = block((4, 12), (10, 30), (8, 16))
MISSED = block((26, 30), (50, 54), (11, 13))  # high in x: on the patient's left; 4 x 4 x 2 voxels of 2 mm3
FAR = block((20, 23), (40, 43), (28, 30))
EMPTY = np.zeros(SHAPE, np.uint8)


def save(path, voxels, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def files_of(folder, name, prediction, reference, affine=AFFINE, image=True):
    brain = np.zeros(SHAPE, np.float32)
    brain[1:31, 1:63, 1:31] = np.random.default_rng(0).uniform(100, 200, (30, 62, 30))
    if affine[0, 0] < 0:
        brain = brain[::-1]
    return CaseFiles(
        name,
        None if prediction is None else save(folder / f"{name}_p.nii.gz", prediction, affine),
        save(folder / f"{name}_r.nii.gz", reference, affine),
        save(folder / f"{name}_i.nii.gz", brain, affine) if image else None,
    )


def convention_of(rules):
    return "brats2023" if rules.name == "brats" else "atlas"


def scores_of(files, rules=ATLAS):
    predictions, references, affine, _ = masks_of(files, convention_of(rules))
    return {region: rules.measure(predictions[region], references[region], spacing_of(affine)) for region in references}


def page_of(cases, rules=ATLAS, name="ours"):
    scores = {files.name: scores_of(files, rules) for files in cases}
    return draw_page(Details(name, convention_of(rules), rules, cases, scores))


def drawing_of(files, rules=ATLAS):
    return draw(files, scores_of(files, rules), rules, convention_of(rules))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return [
        files_of(folder, "hit", LARGE | MISSED, LARGE | MISSED),
        files_of(folder, "partly", LARGE | FAR, LARGE | MISSED),
        files_of(folder, "half", np.roll(LARGE, 5, axis=1), LARGE),
        files_of(folder, "absent", None, LARGE),
        files_of(folder, "healthy", EMPTY, EMPTY),
    ]


@pytest.fixture(scope="module")
def html(cohort):
    return page_of(cohort)


def test_page_is_well_formed_the_same_each_time_and_loads_nothing(cohort, html):
    assert page_of(cohort) == html
    content = re.sub(r"<(/?)(input|rect|path|circle|image|use)\b", r"<\1img", html)  # void or closed by themselves
    assert Page(re.sub(r"</img>", "", content)).open == []
    for tag, attributes in Page(content).tags:
        assert tag not in ("link", "iframe", "object", "embed", "form")
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            if value := attributes.get(name):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
        assert tag != "th" or attributes["scope"]
        assert not any(name.startswith("on") for name in attributes)
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden")
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_names_are_escaped_and_not_in_the_script(tmp_path):
    attack = "<img src=x onerror=alert('x')>\"&{{ 7 * 7 }}"
    cases = [
        files_of(tmp_path, "good", LARGE, LARGE)._replace(name=attack),
        files_of(tmp_path, "bad", None, LARGE)._replace(name=f"{attack}</script>"),
    ]
    html = page_of(cases, name=attack)
    assert "<img" not in html
    assert "onerror" not in re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)[0]
    assert text_of(html).count(attack) >= 5  # title, heading, notice, picture, table
    assert html.count("</script>") == 1
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]


def test_header_says_protocol_settings_and_cases(html):
    text = text_of(html)
    assert "5 cases, scored by the protocol ATLAS v2.0 (6 neighbours connect voxels)." in text
    assert "do not compare figures across protocols" in text
    assert "1 of 5 cases has no prediction." in text
    assert re.search(r'class="notice">[^<]*absent\.', html)


def test_summary_and_counts(html, cohort):
    """Found lesions: 2 of `hit`, 1 of `partly`, 1 of `half`; `partly` and `absent` miss one each."""
    text = text_of(html)
    scores = [scores_of(files)["lesion"].values["dice"] for files in cohort]
    assert f"lesionDice, all cases 5 {np.mean(scores):.3f} " in text
    with_lesion = scores[:4]  # `healthy` has none
    assert f"lesionDice, cases with the region 4 {np.mean(with_lesion):.3f} " in text
    assert f"; {np.mean(with_lesion):.3f} over the 4 cases with the region" in text
    assert "lesion: 4 of 6 lesions found, 1 false." in text


def scored(*means):
    """An evaluation of cases a, b, ... with these Dice values in a region that has voxels."""
    scores = {
        name: {"lesion": Scores({"dice": mean}, (), (5.0, 5.0))}
        for name, mean in zip("abcdefghijk", means, strict=False)
    }
    return Details("ours", "atlas", ATLAS, [CaseFiles(name, Path(), Path(), None) for name in scores], scores)


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.5], {"The only case": "a"}),
        ([0.5, 0.2, 0.9], {"Worst": "b", "Median": "a", "Best": "c"}),
        (
            [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            {
                **{"Worst, 1 of 2": "f", "Worst, 2 of 2": "e", "Median, 1 of 2": "d"},
                **{"Median, 2 of 2": "c", "Best, 1 of 2": "a", "Best, 2 of 2": "b"},
            },
        ),
    ],
)
def test_worst_median_and_best(means, expected):
    assert {case.rank: case.name for case in choose(scored(*means))} == expected
    many = choose(scored(*np.linspace(0, 1, 11)))
    assert len({case.name for case in many}) == len(many) == 9, "no case twice"


def attributes(picture, tag, kind):
    """The attributes of the elements of a class in a picture."""
    found = re.findall(rf"<{tag} ([^>]*class=\"[^\"]*\b{kind}\b[^>]*)", str(picture))
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', each)) for each in found]


@pytest.mark.parametrize("flip", [False, True])
def test_missed_lesion_is_circled_where_it_is(tmp_path, flip):
    """The box shown is the brain, 1 to 31 of x, and two voxels about it: all of the volume, 32 x 64 x 64 mm.

    The lesion's middle is at x 28, y 52 and z 24 mm. The patient's right, low in x, is left in the picture.
    """
    affine, prediction, reference = AFFINE, LARGE, LARGE | MISSED
    if flip:  # the same voxels of the world, stored the other way round
        affine, prediction, reference = np.diag([-1.0, 1, 2, 1]), prediction[::-1], reference[::-1]
        affine[0, 3] = 31
    drawing = drawing_of(files_of(tmp_path, "a", prediction, reference, affine))
    (row,) = drawing.rows
    axial, coronal, sagittal = (panel.picture for panel in row.panels)
    (circle,) = attributes(axial, "circle", "missed")
    left = (64 - 32) / 2
    assert float(circle["cx"]) == pytest.approx(left + 32 - 28, abs=0.6)
    assert float(circle["cy"]) == pytest.approx(64 - 52, abs=0.6)
    assert ">2</text>" in axial  # its number in lesions.csv
    assert drawing.lesions == []
    assert not attributes(coronal, "circle", "missed")
    assert not attributes(sagittal, "circle", "missed")


def test_outlines_lie_on_the_image_s_edges(tmp_path):
    """A picture whose bright voxels are the lesion's: their middle is the outline's."""
    files = files_of(tmp_path, "a", LARGE, LARGE)
    save(files.image, LARGE.astype(np.float32) * 100 + 1)
    for panel in drawing_of(files).rows[0].panels:
        (place,) = re.findall(r'<image href="data:image/png;base64,([^"]*)"', panel.picture)
        pixels = imread(BytesIO(base64.b64decode(place)))[..., 0]
        bright = np.argwhere(pixels > 0.5).mean(axis=0) + 0.5
        (outline,) = attributes(panel.picture, "path", "reference")
        points = np.array(re.findall(r"[\d.]+", outline["d"]), dtype=float).reshape(-1, 2)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        np.testing.assert_allclose(middle, bright[::-1], atol=0.01)


def test_voxels_have_their_true_aspect_and_the_sides_are_named(tmp_path):
    sides = {"axial": ("RLAP", 32, 64), "coronal": ("RLSI", 32, 64), "sagittal": ("PASI", 64, 64)}  # mm
    for panel in drawing_of(files_of(tmp_path, "a", LARGE, LARGE)).rows[0].panels:
        letters, width, height = sides[panel.plane]
        assert "".join(re.findall(r'class="letter"[^>]*>(\w)<', panel.picture)) == letters
        (size,) = re.findall(r'width="([\d.]+)" height="([\d.]+)" preserveAspectRatio="none"', panel.picture)
        assert tuple(map(float, size)) == (width, height)


@pytest.mark.parametrize("image", ["none", "other grid"])
def test_without_an_image_the_masks_are_filled(tmp_path, image):
    files = files_of(tmp_path, "a", LARGE, LARGE | MISSED, image=image != "none")
    if image == "other grid":
        save(files.image, np.ones((4, 4, 4), np.float32))
    drawing = drawing_of(files)
    assert "Only the masks are drawn" in drawing.fault
    picture = drawing.rows[0].panels[0].picture
    assert "<image" not in picture
    assert attributes(picture, "path", "filled")
    assert len(attributes(picture, "circle", "missed")) == 1


@pytest.mark.parametrize(("prediction", "reference"), [(LARGE, EMPTY), (EMPTY, EMPTY), (None, LARGE)])
def test_a_cohort_of_one(tmp_path, prediction, reference):
    html = page_of([files_of(tmp_path, "a", prediction, reference)], BRATS)
    drawn = prediction is not None and bool(prediction.any() or reference.any())
    assert ("The only case: a" in html) == drawn
    assert ("There is nothing to draw" in html) != drawn
