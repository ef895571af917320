"""The difficult cohort: what its volumes hold, and that a simple method scores lower on it (figures: pytest -s)."""

from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from scripts.phantoms.cohort import make
from scripts.phantoms.hard_heads import DIFFICULT, LESIONS, MIMICS, make_hard_head
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.mr_signal import SEQUENCES
from scripts.phantoms.scanners import FIELD, GAMMA, SLICE, SMOOTHING, SNR, Scanner, draw_scanner, scan_on

SPACING = 2  # mm
TRAINING, TESTING = 10, 6  # subjects
REGIONS = {"brats": {"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}, "atlas": {"lesion": (1,)}}
STANDARD = {  # voxels that are not zero, mean and SD of the first subject's files at 4 mm, seed 1
    "2NLin2009aSym_T1w.nii.gz": (141571, 168.9492, 202.7303),
    "aTS2021_00000_seg.nii.gz": (744, 0.0127, 0.1891),
    "LAIR_brain_to_MNI.nii.gz": (31409, 136.5065, 235.3585),
}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Sixteen subjects of a layout and difficulty, without skull, made when they are asked for."""

    @cache
    def cohort(layout, difficulty):
        root = tmp_path_factory.mktemp(f"{layout}-{difficulty}")
        options = {"spacing": SPACING, "seed": 1, "skull_stripped": True, "difficulty": difficulty, "workers": 2}
        make(layout, TRAINING + TESTING, root, **options)
        return root

    return cohort


@pytest.fixture(scope="module")
def heads():
    """Six heads with tumours at 2 mm."""
    layout = LAYOUTS["brats"]
    grid = layout.grid(float(SPACING))
    return [make_hard_head(np.random.default_rng([7, n]), grid, True, "tumours", list(layout.files)) for n in range(6)]


def _subjects(root, layout):
    """Images [modality, x, y, z] and label of each subject."""
    for index in range(TRAINING + TESTING):
        case = LAYOUTS[layout].case(index)
        images = np.stack([np.asarray(nib.load(root / file).dataobj) for file in case.images.values()])
        yield images.astype(np.float32), np.asarray(nib.load(root / case.label).dataobj)


def test_the_standard_cohort_is_what_it_was(tmp_path):
    for layout in ("ukb", "brats", "atlas"):
        make(layout, 1, tmp_path / layout, spacing=4, seed=1, workers=1)
    for name, figures in STANDARD.items():
        (path,) = tmp_path.rglob(f"*{name}")
        content = np.asarray(nib.load(path).dataobj, dtype=float)
        found = (np.count_nonzero(content), content.mean(), content.std())
        assert found == pytest.approx(figures, rel=1e-3, abs=1e-4), name  # a processor may round in another way


@pytest.mark.parametrize("layout", ["ukb", "brats2023"])
def test_the_same_seed_gives_the_same_bytes_on_one_or_two_workers(tmp_path, layout):
    for workers in (1, 2):
        make(layout, 2, tmp_path / str(workers), spacing=4, seed=3, difficulty="hard", workers=workers)
    made = {path.relative_to(tmp_path / "1"): path.read_bytes() for path in (tmp_path / "1").rglob("*.nii.gz")}
    assert made == {path: (tmp_path / "2" / path).read_bytes() for path in made} != {}


def test_subjects_without_lesion_have_an_empty_mask_and_a_skull_if_asked_for(tmp_path):
    make("atlas", 2, tmp_path, spacing=4, without_lesion=1, skull_stripped=False, difficulty="hard", workers=1)
    sums = [np.asarray(nib.load(tmp_path / LAYOUTS["atlas"].case(n).label).dataobj).sum() for n in range(2)]
    assert sums[0] == 0
    assert sums[1] > 0


@pytest.mark.parametrize(("layout", "disease"), [("brats", "tumours"), ("atlas", "strokes")])
def test_lesions_are_many_and_mostly_below_one_millilitre(cohorts, layout, disease):
    """Volumes of the connected components of the masks on disk, cm3."""
    stated = getattr(DIFFICULT["hard"], disease)
    volumes, numbers = [], []
    for _, label in _subjects(cohorts(layout, "hard"), layout):
        parts, number = ndimage.label(label > 0, np.ones((3, 3, 3)))
        volumes.extend(np.bincount(parts.ravel())[1:] * SPACING**3 / 1000)
        numbers.append(number)
    volumes = np.array(volumes)
    print(f"{layout}: {len(volumes)} lesions, {np.quantile(volumes, (0, 0.25, 0.5, 0.75, 1)).round(3)} cm3")
    print(f"below 1 cm3: {np.mean(volumes < 1):.2f}; of a subject: {min(numbers)} to {max(numbers)}")
    assert volumes.max() <= stated.most * 1.01
    assert min(numbers) >= LESIONS[0]
    assert np.mean(numbers) == pytest.approx(LESIONS[0] + LESIONS[1], abs=1.2)
    assert np.mean(volumes < 1) > 0.4
    assert volumes.min() < 0.1
    assert np.median(volumes) == pytest.approx(stated.median, rel=0.5)
    assert np.log(volumes).std() == pytest.approx(stated.spread, rel=0.3)


def test_lesions_of_the_medium_cohort_are_larger_and_less_faint(cohorts):
    """Median volume of the masks' components on disk; median contrast of heads' lesions."""
    grid, found = LAYOUTS["brats"].grid(4.0), {}
    for difficulty, stated in DIFFICULT.items():
        labels = [label for _, label in _subjects(cohorts("brats", difficulty), "brats")]
        parts = [np.bincount(ndimage.label(label > 0, np.ones((3, 3, 3)))[0].ravel())[1:] for label in labels]
        found[difficulty] = np.median(np.concatenate(parts)) * SPACING**3 / 1000
        made = [make_hard_head(np.random.default_rng(n), grid, True, "tumours", ["T1"], difficulty) for n in range(8)]
        contrast = np.concatenate([np.unique(head.contrast["T1"][head.head.labels > 0]) for head in made])
        assert np.median(contrast) == pytest.approx(np.mean(stated.contrast), abs=0.1)
        assert found[difficulty] == pytest.approx(stated.tumours.median, rel=0.5)
    assert found["medium"] > 3 * found["hard"]


def test_lesions_are_as_faint_as_stated(heads):
    """Contrast measured on noiseless scans: change of signal over the change that the full lesion makes."""
    clean = Scanner(snr=1e6, gamma=1.0, field=0.0, smoothing=0.0, slice_width=0.0, axis=2)
    measured = []
    for subject in heads:
        for modality in LAYOUTS["brats"].files:
            without, shown, full = (
                scan_on(np.random.default_rng(0), head, SEQUENCES[modality], 0.3, clean)[subject.head.inside]
                for head in (
                    type(subject)(subject.head, subject.host, {modality: np.zeros(1, np.float32)}).seen_by(modality),
                    subject.seen_by(modality),
                    subject.head,
                )
            )
            volume = np.zeros(subject.head.grid.shape, np.uint8)
            volume[subject.head.inside] = subject.head.labels > 0
            parts, number = ndimage.label(volume, np.ones((3, 3, 3)))
            for part in range(1, number + 1):
                at = parts[subject.head.inside] == part
                change = full[at] - without[at]
                if np.abs(change).mean() > 20:  # units; a tissue may look like its host
                    measured.append(np.sum(change * (shown - without)[at]) / np.sum(change**2))
    measured = np.array(measured)
    faint = measured < 0.15
    print(f"contrast: {np.quantile(measured, (0, 0.25, 0.5, 0.75, 1)).round(2)}; faint: {faint.mean():.2f}")
    assert measured.min() >= -0.02
    assert measured.max() <= 1.02
    assert 0.02 < faint.mean() < 0.2  # 0.35 of the lesions in one of four modalities: 0.09
    assert np.median(measured[~faint]) == pytest.approx(np.mean(DIFFICULT["hard"].contrast), abs=0.1)


def test_what_resembles_lesions_lies_outside_of_the_label_and_tissue_fractions_add_up_to_one(heads):
    for subject in heads:
        for tissue in MIMICS:
            assert subject.host[tissue].sum() * SPACING**3 > 50  # mm3
            assert not subject.host[tissue][subject.head.labels > 0].any()
        for modality in subject.contrast:
            shares = np.stack(list(subject.seen_by(modality).fractions.values()))
            assert shares.min() >= -1e-5
            np.testing.assert_allclose(shares.sum(0), 1, atol=1e-4)


def test_scanners_cover_the_stated_ranges():
    scanners = [draw_scanner(np.random.default_rng(n)) for n in range(300)]
    ranges = {"snr": SNR, "gamma": GAMMA, "field": FIELD, "smoothing": SMOOTHING, "slice_width": SLICE}
    for name, (least, most) in ranges.items():
        values = [getattr(scanner, name) for scanner in scanners]
        assert least <= min(values) < least + 0.1 * (most - least)
        assert most - 0.1 * (most - least) < max(values) <= most


@pytest.mark.parametrize("snr", SNR)
def test_noise_is_rician_and_as_strong_as_stated(snr):
    """In air the mean of Rayleigh noise is sqrt(pi/2) of the noise in a channel."""
    rng = np.random.default_rng(0)
    subject = make_hard_head(rng, LAYOUTS["atlas"].grid(4.0), False, None, ["T1"])
    scanner = Scanner(snr=snr, gamma=1.0, field=0.0, smoothing=0.0, slice_width=0.0, axis=2)
    volume = scan_on(rng, subject.seen_by("T1"), SEQUENCES["T1"], 0.2, scanner)
    air = volume[:, :4, -4:].ravel()
    white = np.median(volume[subject.head.inside][subject.head.fractions["WM"] > 0.95])
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.1)
    assert white / (air.mean() / np.sqrt(np.pi / 2)) == pytest.approx(snr, rel=0.1)


def test_thick_slices_blur_across_slices_only():
    subject = make_hard_head(np.random.default_rng(0), LAYOUTS["brats"].grid(2.0), True, None, ["T1"])
    steps = {}
    for width in (0.0, 5.0):
        scanner = Scanner(snr=1e6, gamma=1.0, field=0.0, smoothing=0.0, slice_width=width, axis=2)
        volume = scan_on(np.random.default_rng(1), subject.seen_by("T1"), SEQUENCES["T1"], 0.2, scanner)
        inside = ndimage.binary_erosion(subject.head.inside, iterations=5)
        axes = [inside.take(range(1, inside.shape[axis]), axis) for axis in (0, 2)]
        steps[width] = [np.abs(np.diff(volume, axis=a))[where].mean() for a, where in zip((0, 2), axes, strict=True)]
    assert steps[5.0][1] / steps[5.0][0] < 0.85 * steps[0.0][1] / steps[0.0][0]


def _scaled(images):
    """z-scores over the brain, [voxels, modalities], and where the brain is."""
    brain = (images > 0).all(0)
    voxels = images[:, brain].T
    return (voxels - voxels.mean(0)) / voxels.std(0), brain


def _dice(first, second):
    total = first.sum() + second.sum()
    return 2 * (first & second).sum() / total if total else 1.0


def _scores(root, layout):
    """Mean Dice of the test subjects, by method and region; both methods know a voxel's intensities only."""
    cases = [(*_scaled(images), label) for images, label in _subjects(root, layout)]
    cases = [(voxels, label[brain]) for voxels, brain, label in cases]
    training, testing = cases[:TRAINING], cases[TRAINING:]
    voxels, labels = (np.concatenate(each) for each in zip(*training, strict=True))
    guesses = [QuadraticDiscriminantAnalysis().fit(voxels, labels).predict(each) for each, _ in testing]
    scores = {}
    for region, values in REGIONS[layout].items():
        tried = [
            (_dice(sign * voxels[:, modality] > level, np.isin(labels, values)), modality, sign, level)
            for modality in range(voxels.shape[1])
            for sign in (1, -1)
            for level in np.arange(-1, 5, 0.25)
        ]
        _, modality, sign, level = max(tried)
        truths = [np.isin(label, values) for _, label in testing]
        found = {"threshold": [sign * each[:, modality] > level for each, _ in testing]}
        if voxels.shape[1] > 1:  # of one modality the classifier is a threshold too, but none that Dice chose
            found["classifier"] = [np.isin(guess, values) for guess in guesses]
        for method, masks in found.items():
            scores[method, region] = np.mean([_dice(mask, truth) for mask, truth in zip(masks, truths, strict=True)])
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("layout", REGIONS)
def test_a_simple_method_scores_lower_than_on_the_standard_cohort(cohorts, layout):
    standard, hard = (_scores(cohorts(layout, difficulty), layout) for difficulty in ("standard", "hard"))
    for (method, region), score in standard.items():
        print(f"{layout} {method} {region}: standard {score:.2f}, hard {hard[method, region]:.2f}")
        assert hard[method, region] < score - 0.1
