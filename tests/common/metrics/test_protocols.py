"""`common.metrics.protocols` against the challenges' definitions on whole volumes, and what they refuse."""

import pickle

import numpy as np
import pytest

from common.errors import InputError
from common.metrics.measures import normalized_surface_dice
from common.metrics.protocols import CHALLENGES, PENALTY, Challenge, atlas, brats, isles, protocol
from tests.oracles import lesionwise, volumes
from tests.oracles.masks import box, pairs

CUBIC = (1.0, 1.0, 1.0)
SHAPE = (24, 12, 12)
EMPTY = np.zeros(SHAPE, dtype=bool)
NAMES = ["atlas", "isles", "brats", "dice"]


def dice_alone(prediction, reference, spacing=CUBIC):
    return protocol("dice").measure(prediction, reference, spacing)


def cube(first, edge=4):
    """A cube that starts at a voxel along x."""
    return box(SHAPE, [(first, 4, 4), (first + edge - 1, 3 + edge, 3 + edge)])


# Against the definitions


@pytest.mark.parametrize("challenge", list(lesionwise.CHALLENGES))
def test_brats_is_as_defined(challenge):
    for prediction, reference, spacing in pairs(40):
        scores = brats(prediction, reference, spacing, challenge)
        figures, rows = lesionwise.brats(prediction, reference, spacing, challenge)
        assert scores.values == pytest.approx(figures, abs=1e-6)
        lesionwise.assert_same(scores, rows)


@pytest.mark.parametrize(("measure", "oracle"), [(atlas, lesionwise.atlas), (isles, lesionwise.isles)])
def test_protocols_of_components_are_as_defined(measure, oracle):
    for prediction, reference, spacing in pairs(40):
        scores = measure(prediction, reference, spacing)
        figures, rows = oracle(prediction, reference, spacing)
        assert scores.values == pytest.approx(figures, abs=1e-6)
        lesionwise.assert_same(scores, rows)


def test_dice_is_as_defined():
    for prediction, reference, spacing in pairs(40):
        expected = {"dice": volumes.dice(prediction, reference)}
        assert dice_alone(prediction, reference, spacing).values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_python_numbers(name):
    """NumPy numbers would need NumPy's pickles, in a checkpoint for example."""
    for prediction, reference, spacing in pairs(10):
        scores = protocol(name, tolerance=1).measure(prediction, reference, np.float32(spacing))
        assert {type(figure) for figure in (*scores.values.values(), *scores.volumes)} == {float}
        for lesion in scores.lesions:
            kinds = [type(value) for value in (lesion.volume, *lesion.centre, lesion.is_scored, lesion.is_found)]
            assert kinds == [float, int, int, int, bool, bool]
            assert (type(lesion.dice), type(lesion.hd95)) == (float, float)


@pytest.mark.parametrize("name", NAMES)
def test_volumes_are_in_cubic_millimetres(name):
    for prediction, reference, spacing in pairs(6):
        voxel = spacing[0] * spacing[1] * spacing[2]
        scores = protocol(name).measure(prediction, reference, spacing)
        assert scores.volumes == pytest.approx((prediction.sum() * voxel, reference.sum() * voxel))


# Empty masks


@pytest.mark.parametrize(
    ("prediction", "reference", "region"),
    [(EMPTY, EMPTY, 1), (cube(4), EMPTY, 0), (EMPTY, cube(4), 0)],
    ids=["both", "reference", "prediction"],
)
def test_empty_masks(prediction, reference, region):
    voxels = abs(int(prediction.sum()) - int(reference.sum()))
    common = {"dice": region, "lesion_f1": region, "lesion_count_difference": 1 - region}
    assert atlas(prediction, reference).values == {**common, "volume_difference": voxels}
    assert isles(prediction, reference, (1, 1, 2)).values == {**common, "volume_difference": 2 * voxels / 1000}
    assert brats(prediction, reference).values == {
        "lesionwise_dice": region,
        "lesionwise_hd95": 0 if region else PENALTY,
        "dice": region,
        "hd95": 0 if region else PENALTY,
    }
    assert protocol("dice").measure(prediction, reference, CUBIC).values == {"dice": region}


# Components


@pytest.mark.parametrize("second", [(3, 3, 3), (3, 3, 2)], ids=["corner", "edge"])
def test_atlas_separates_what_isles_joins(second):
    reference = box((6, 6, 6), [(2, 2, 2)] * 2, [second] * 2)
    prediction = box((6, 6, 6), [(2, 2, 2)] * 2)
    assert atlas(prediction, reference).values["lesion_f1"] == 1 / (1 + 1 / 2)
    assert atlas(prediction, reference).values["lesion_count_difference"] == 1
    assert isles(prediction, reference).values["lesion_f1"] == 1
    assert isles(prediction, reference).values["lesion_count_difference"] == 0


@pytest.mark.parametrize("measure", [atlas, isles])
def test_one_shared_voxel_finds_a_lesion(measure):
    """One component finds two of three lesions; two other components find none."""
    shape = (40, 6, 6)
    reference = box(shape, [(1, 1, 1), (3, 3, 3)], [(6, 1, 1), (8, 3, 3)], [(12, 1, 1), (14, 3, 3)])
    prediction = box(shape, [(3, 3, 3), (6, 3, 3)], [(20, 1, 1), (20, 1, 1)], [(30, 1, 1), (33, 4, 4)])
    scores = measure(prediction, reference)
    assert scores.values["lesion_f1"] == 2 / (2 + (2 + 1) / 2)
    assert scores.values["lesion_count_difference"] == 0
    assert measure(reference, prediction).values["lesion_f1"] == 1 / (1 + (2 + 1) / 2)  # here one component is found


@pytest.mark.parametrize("measure", [atlas, isles])
def test_differences_have_no_sign(measure):
    one, other = box(SHAPE, [(1, 1, 1)] * 2), box(SHAPE, [(1, 1, 1)] * 2, [(5, 5, 5)] * 2, [(9, 9, 9)] * 2)
    for prediction, reference in ((one, other), (other, one)):
        values = measure(prediction, reference, (10, 10, 10)).values
        assert values["lesion_count_difference"] == 2
        assert values["volume_difference"] == 2  # voxels, and ml


# BraTS by hand


def test_settings_of_the_challenges():
    assert {name: tuple(settings) for name, settings in CHALLENGES.items()} == lesionwise.CHALLENGES
    assert PENALTY == 374


@pytest.mark.parametrize(
    ("challenge", "gap", "lesions"),
    [("GLI", 6, 1), ("GLI", 7, 2), ("MEN", 2, 1), ("MEN", 3, 2), ("MET", 2, 1), ("MET", 3, 2), ("SSA", 6, 1)],
)
def test_near_lesions_are_one(challenge, gap, lesions):
    scores = brats(cube(2), cube(2) | cube(6 + gap), CUBIC, challenge)
    assert len(scores.lesions) == lesions
    expected = 2 * 64 / (64 + 128) if lesions == 1 else 1 / 2  # else one is fully found and one is missed
    assert scores.values["lesionwise_dice"] == pytest.approx(expected)


def test_a_component_may_count_for_several_lesions():
    bar = box(SHAPE, [(2, 4, 4), (18, 7, 7)])  # 17 x 16 voxels
    scores = brats(bar, cube(2) | cube(15), CUBIC)
    assert scores.values["lesionwise_dice"] == pytest.approx(2 * 64 / (272 + 64))
    assert len(scores.lesions) == 2


@pytest.mark.parametrize(("gap", "found"), [(2, True), (3, False)])
def test_a_match_without_overlap_has_a_distance(gap, found):
    scores = brats(cube(6 + gap), cube(2), CUBIC, "GLI")
    assert scores.values["lesionwise_dice"] == 0
    if found:
        assert scores.values["lesionwise_hd95"] == pytest.approx(4 + gap)
        assert len(scores.lesions) == 1
    else:
        assert scores.values["lesionwise_hd95"] == PENALTY  # missed, and false
        assert len(scores.lesions) == 2


@pytest.mark.parametrize(
    ("challenge", "last", "spacing", "is_scored"),
    [
        ("GLI", (4, 4, 1), (1, 1, 1), False),  # 50 voxels
        ("GLI", (16, 2, 0), (1, 1, 1), True),  # 51 voxels
        ("PED", (4, 4, 0), (1, 2, 1), False),
        ("SSA", (4, 4, 0), (1, 1, 2.01), True),
        ("MEN", (4, 4, 3), (0.5, 1, 1), False),
        ("MEN", (4, 4, 3), (0.5, 1, 1.01), True),
        ("MET", (1, 0, 0), (1, 1, 1), False),
        ("MET", (2, 0, 0), (1, 1, 1), True),
        ("MET", (0, 0, 0), (1, 1, 2), False),
        ("MET", (0, 0, 0), (1, 1, 2.1), True),
    ],
)
def test_small_lesions_are_ignored(challenge, last, spacing, is_scored):
    reference = box(SHAPE, [(0, 0, 0), last])
    missed = brats(EMPTY, reference, spacing, challenge)
    assert missed.lesions[0].is_scored is is_scored
    assert missed.values["lesionwise_dice"] == (0 if is_scored else 1)
    assert missed.values["lesionwise_hd95"] == (PENALTY if is_scored else 0)
    assert (missed.values["dice"], missed.values["hd95"]) == (0, PENALTY)  # the region counts all lesions


def test_a_component_on_an_ignored_lesion_is_neither_found_nor_false():
    small, large = box(SHAPE, [(20, 2, 2), (21, 3, 3)]), cube(2)
    near = box(SHAPE, [(18, 2, 2), (18, 2, 2)])
    for prediction in (small, near):
        assert brats(prediction, small, CUBIC).values["lesionwise_dice"] == 1
        assert brats(prediction, small, CUBIC).values["lesionwise_hd95"] == 0
        scores = brats(prediction | large, small | large, CUBIC)
        assert (scores.values["lesionwise_dice"], scores.values["lesionwise_hd95"]) == (1, 0)
        assert [(lesion.is_scored, lesion.is_found) for lesion in scores.lesions] == [(True, True), (False, True)]


def test_the_smallest_false_component_counts():
    voxel = box(SHAPE, [(20, 2, 2), (20, 2, 2)])
    values = brats(cube(2) | voxel, cube(2), CUBIC).values
    assert values["lesionwise_dice"] == 1 / 2
    assert values["lesionwise_hd95"] == PENALTY / 2
    assert brats(voxel, EMPTY, CUBIC).values["lesionwise_dice"] == 0


def test_a_distance_may_exceed_the_penalty():
    """Only infinite distances are replaced; a BraTS volume at 1 mm has none as long."""
    spacing = (200.0, 1.0, 1.0)
    figures, _ = lesionwise.brats(cube(8), cube(2), spacing, "GLI")
    assert figures["lesionwise_hd95"] == pytest.approx(6 * 200)
    assert figures["hd95"] == pytest.approx(6 * 200)
    assert brats(cube(8), cube(2), spacing).values == pytest.approx(figures)


# Protocols by name

EVERY = [(name, None) for name in NAMES] + [("brats", challenge) for challenge in CHALLENGES]


@pytest.mark.parametrize(("name", "challenge"), EVERY)
@pytest.mark.parametrize("tolerance", [None, 1.5])
def test_a_protocol_lists_its_figures_and_can_be_pickled(name, challenge, tolerance):
    chosen = protocol(name, challenge, tolerance)
    assert chosen.name == name
    for prediction, reference, spacing in pairs(8):
        scores = chosen.measure(prediction, reference, spacing)
        assert list(scores.values) == list(chosen.units)
        assert set(chosen.ranked) <= set(scores.values)
        if name != "dice":
            call = {"atlas": atlas, "isles": isles, "brats": brats}[name]
            alone = call(prediction, reference, spacing, *([challenge] if challenge else []))
            assert alone.values.items() <= scores.values.items()
            assert (scores.lesions, scores.volumes) == (alone.lesions, alone.volumes)
        if tolerance:
            assert scores.values["nsd"] == normalized_surface_dice(prediction, reference, spacing, tolerance)
        assert pickle.loads(pickle.dumps(chosen)).measure(prediction, reference, spacing) == scores


def test_settings_of_protocols():
    assert protocol("atlas").settings == {"connectivity": 6}
    assert protocol("isles", tolerance=2).settings == {"connectivity": 26, "tolerance_mm": 2}
    assert protocol("dice").settings == {}
    fixed = {"connectivity": 26, "penalty_mm": 374}
    assert protocol("brats").settings == {**fixed, "challenge": "GLI", "dilations": 3, "smallest_mm3": 50}
    assert protocol("brats", "MET").settings == {**fixed, "challenge": "MET", "dilations": 1, "smallest_mm3": 2}
    assert protocol("brats").settings == {
        **fixed,
        "challenge": "GLI",
        "dilations": 3,
        "smallest_mm3": 50,
    }  # the MET settings have not leaked
    assert CHALLENGES["MEN"] == Challenge(dilations=1, smallest=50)


def test_units_and_ranking():
    assert protocol("atlas").units["volume_difference"] == "voxels"
    assert protocol("isles").units["volume_difference"] == "ml"
    assert protocol("brats", tolerance=1).units == {
        "lesionwise_dice": "1",
        "lesionwise_hd95": "mm",
        "dice": "1",
        "hd95": "mm",
        "nsd": "1",
    }
    assert protocol("brats").ranked == {"lesionwise_dice": True, "lesionwise_hd95": False}
    for name in ("atlas", "isles"):
        ranked = protocol(name).ranked
        assert {figure for figure, more_is_better in ranked.items() if more_is_better} == {"dice", "lesion_f1"}
        assert len(ranked) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "protocol=nonsense: expected one of atlas, isles, brats, dice"),
        (("brats", "gli"), "challenge=gli: expected one of GLI, MET, MEN, SSA, PED"),
        (("atlas", "GLI"), "challenge=GLI: the protocol atlas has no challenges; only brats has"),
        (("dice", None, 0), "tolerance=0: expected a number of mm above zero"),
        (("dice", None, -1.0), "tolerance=-1.0: expected"),
        (("brats", None, float("nan")), "tolerance=nan: expected"),
        (("isles", None, float("inf")), "tolerance=inf: expected"),
        (("isles", None, True), "tolerance=True: expected"),
        (("isles", None, "1"), "tolerance=1: expected"),
    ],
)
def test_unknown_protocols_are_refused(arguments, message):
    with pytest.raises(InputError) as error:
        protocol(*arguments)
    assert str(error.value).startswith(message)


def test_brats_refuses_an_unknown_challenge():
    with pytest.raises(InputError, match="challenge=XYZ: expected one of GLI, MET, MEN, SSA, PED"):
        brats(EMPTY, EMPTY, CUBIC, "XYZ")
