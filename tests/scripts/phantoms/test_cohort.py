import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_wm_template
from scipy import ndimage

from common.errors import InputError
from scripts.phantoms.anatomy import Grid, add_glioma, add_strokes, make_head, seed_points
from scripts.phantoms.cohort import make
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.mr_signal import SEQUENCES, TISSUES, Sequence, Tissue, scan, signal

SPACING = 4  # mm


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """One small cohort of each layout, with the oddities that can be asked for."""
    root = tmp_path_factory.mktemp("cohorts")
    oddities = {"ukb": {"too_few_slices": 1, "without_flair": 1}}
    for layout in ("ukb", "brats", "atlas"):
        options = oddities.get(layout, {"without_lesion": 1})
        make(layout, 5, root / layout, spacing=SPACING, seed=1, workers=1, **options)
    return root


@pytest.fixture(scope="module")
def grid():
    return LAYOUTS["atlas"].grid(float(SPACING))


def _files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _voxels(path):
    return np.asarray(nib.load(path).dataobj)


def _volumes(root, number, *kinds):
    name = f"BraTS2021_{number:05d}"
    return [_voxels(root / f"brats/{name}/{name}_{kind}.nii.gz") for kind in kinds]


SUBJECTS = ["sub-r001s001", "sub-r001s002", "sub-r001s003", "sub-r001s004", "sub-r002s001"]
ATLAS_FILE = "{0}/ses-1/anat/{0}_ses-1_space-MNI152NLin2009aSym_{1}.nii.gz"
ATLAS_KINDS = ("T1w", "label-L_desc-T1lesion_mask")


def _atlas(root, subject):
    return [_voxels(root / "atlas" / ATLAS_FILE.format(subject, kind)) for kind in ATLAS_KINDS]


def test_files_are_named_as_in_the_cohorts_and_nothing_else_is_left(cohorts):
    ukb = [1000012 + 37 * index for index in range(5)]
    assert _files(cohorts / "ukb") == sorted(
        [f"{eid}_20252_2_0/T1/T1_brain_to_MNI.nii.gz" for eid in ukb]
        + [f"{eid}_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz" for eid in ukb[:-1]]
    )
    names = [f"BraTS2021_0000{index}" for index in range(5)]
    kinds = ("flair", "t1ce", "t1", "t2", "seg")
    assert _files(cohorts / "brats") == sorted(f"{name}/{name}_{kind}.nii.gz" for name in names for kind in kinds)
    expected = sorted(ATLAS_FILE.format(subject, kind) for subject in SUBJECTS for kind in ATLAS_KINDS)
    assert _files(cohorts / "atlas") == expected


@pytest.mark.parametrize(
    ("layout", "shape", "orientation", "dtype", "corner"),
    [
        ("ukb", (182, 218, 182), "LAS", np.int16, (90, -126, -72)),
        ("brats", (240, 240, 155), "LPS", np.int16, (0, 239, 0)),
        ("atlas", (197, 233, 189), "RAS", np.float32, (-98, -134, -72)),
    ],
)
def test_volumes_have_the_grid_of_the_cohort(cohorts, layout, shape, orientation, dtype, corner):
    """The shape at 1 mm is that of the real files."""
    assert LAYOUTS[layout].grid(1.0).shape == shape
    images = [nib.load(path) for path in sorted((cohorts / layout).rglob("*.nii.gz"))]
    assert {image.shape for image in images} == {tuple(-(-edge // SPACING) for edge in shape)}
    assert {"".join(nib.aff2axcodes(image.affine)) for image in images} == {orientation}
    assert {tuple(image.header.get_zooms()) for image in images} == {(SPACING,) * 3}
    assert {image.get_data_dtype() for image in images} <= {np.dtype(dtype), np.dtype(np.uint8)}
    for image in images:
        np.testing.assert_array_equal(image.affine[:3, 3], corner)
        np.testing.assert_array_equal(image.affine, images[0].affine)
        np.testing.assert_array_equal(image.header.get_qform(), image.header.get_sform())


@pytest.mark.parametrize("layout", ["ukb", "brats", "atlas"])
def test_the_brain_lies_in_the_middle_whatever_the_orientation(cohorts, layout):
    """The affine leads from each voxel to a place where the brain of the cohort's space is."""
    names = {"ukb": "1000049*/T1/*.gz", "brats": "*1_t1.nii.gz", "atlas": "*2_*T1w*"}
    (path,) = (cohorts / layout).rglob(names[layout])
    image = nib.load(path)
    foreground = np.asarray(image.dataobj) > 0.3 * np.percentile(np.asarray(image.dataobj), 99)
    centre = nib.affines.apply_affine(image.affine, np.argwhere(foreground).mean(0))
    expected = np.array([0, -17, 10]) + LAYOUTS[layout].mni_origin
    np.testing.assert_allclose(centre, expected, atol=20)
    assert abs(centre[0] - expected[0]) < 6  # the left half mirrors the right one


def test_labels_are_those_of_the_cohorts(cohorts):
    values = [set(np.unique(_volumes(cohorts, number, "seg"))) for number in range(5)]
    assert values == [{0}, *[{0, 1, 2, 4}] * 4]
    values = [set(np.unique(_atlas(cohorts, subject)[1])) for subject in SUBJECTS]
    assert values == [{0}, *[{0, 1}] * 4]


def test_an_enhancing_rim_encloses_the_necrosis(cohorts):
    for number in range(1, 5):
        (labels,) = _volumes(cohorts, number, "seg")
        around = ndimage.binary_dilation(labels == 1) & (labels != 1)
        assert np.mean(labels[around] == 4) > 0.85  # a rim of one voxel, at this spacing
        assert (labels == 2).sum() * SPACING**3 > 5000  # mm3 of oedema
        assert 30 < (labels > 0).sum() * SPACING**3 / 1000 < 160  # cm3


def _before_and_after(grid, modality, change):
    """One scan of a head without and with a lesion, all else equal, and its labels."""
    rng = np.random.default_rng(5)
    head = make_head(rng, grid, [], skull_stripped=True)
    before = scan(np.random.default_rng(6), head, SEQUENCES[modality], agent=0.25)
    change(rng, head)
    after = scan(np.random.default_rng(6), head, SEQUENCES[modality], agent=0.25)
    return before[head.inside], after[head.inside], head.labels


@pytest.mark.parametrize(
    ("modality", "necrosis", "oedema", "rim"),
    [("T1", -1, -1, -1), ("T1ce", -1, -1, +1), ("T2", +1, +1, +1), ("FLAIR", 0, +1, +1)],
)
def test_gliomas_look_as_radiology_describes_them(grid, modality, necrosis, oedema, rim):
    """Darker (-1) or brighter (+1) than the same place before, and none of them subtle."""
    centres = np.array([[30, -30, 30]], np.float32)  # mm; white matter
    before, after, labels = _before_and_after(grid, modality, lambda rng, head: add_glioma(rng, head, centres))
    for label, direction in ((1, necrosis), (2, oedema), (4, rim)):
        ratio = np.median(after[labels == label] / before[labels == label])
        assert direction * (ratio - 1) > 0.15 or direction == 0
    np.testing.assert_allclose(np.median(after[labels == 0] / before[labels == 0]), 1, atol=0.01)


def test_chronic_strokes_are_dark_on_t1(cohorts):
    for subject in SUBJECTS[1:]:
        image, labels = _atlas(cohorts, subject)
        around = ndimage.binary_dilation(labels == 1, iterations=4) & ~ndimage.binary_dilation(labels == 1)
        assert np.median(image[labels == 1]) < 0.85 * np.median(image[around])


def test_a_scan_that_was_cut_short_has_too_few_slices(cohorts):
    for path in sorted((cohorts / "ukb").rglob("*.nii.gz")):
        height = (_voxels(path) > 0).any((0, 1)).sum() * SPACING
        assert (height < 100) == ("1000012" in str(path))  # mm; the paper's rule at 1 mm


def test_the_skull_comes_off_and_on(tmp_path):
    for stripped, layout in (("true", "atlas"), ("false", "brats")):
        make(layout, 1, tmp_path / layout, spacing=SPACING, skull_stripped=stripped, workers=1)
    stripped, _ = _atlas(tmp_path, "sub-r001s001")
    (whole,) = _volumes(tmp_path, 0, "t1")
    brain = 1.9e6  # mm3; the volume of the ICBM152 brain mask
    assert 0.75 < (stripped > 0).sum() * SPACING**3 / brain < 1.25
    assert (whole > 0).mean() > 0.9  # noise fills the air


def test_the_same_seed_gives_the_same_bytes_on_one_or_two_workers(cohorts, tmp_path):
    for name, options in (("two", {"seed": 1, "workers": 2}), ("other", {"seed": 2, "workers": 2})):
        make("brats", 3, tmp_path / name, spacing=SPACING, without_lesion=1, **options)
    for file in _files(tmp_path / "two"):
        made = (tmp_path / "two" / file).read_bytes()
        assert made == (cohorts / "brats" / file).read_bytes()
        assert made != (tmp_path / "other" / file).read_bytes() or "00000_seg" in file
        assert made[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + made[8:10]  # gzip: no file name, no time


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "oasis"}, "layout=oasis: expected one of ukb, brats, brats2023, atlas, atlas_sites"),
        ({"difficulty": "easy"}, "difficulty=easy: expected one of standard, medium, hard"),
        ({"subjects": 0}, "subjects=0: expected a whole number from 1"),
        ({"spacing": 5}, "--spacing=5: expected millimetres"),
        ({"spacing": float("nan")}, "--spacing=nan: expected millimetres"),
        ({"spacing": "2mm"}, "--spacing=2mm: expected millimetres"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"without_lesion": 3}, "without_lesion=3: expected a whole number from 0 to 2"),
        ({"layout": "ukb", "without_mask": 1}, "--without_mask=1: the layout ukb has no such subjects"),
        ({"second_visits": 1}, "--second_visits=1: the layout brats has no such .* expected .*'ukb', 'brats2023'"),
        ({"skull_stripped": "maybe"}, "skull_stripped=maybe: expected true or false"),
        ({"overwrite": 2}, "overwrite=2: expected true or false"),
        ({"output": "/dev/null/x"}, "^--output=/dev/null/x: expected a folder that can be written to$"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make(**{"layout": "brats", "subjects": 2, "output": tmp_path / "out"} | options)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone_unless_told(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(InputError, match="not empty; expected a new or an empty folder, or --overwrite"):
        make("ukb", 1, tmp_path, spacing=SPACING)
    assert _files(tmp_path) == ["notes.txt"]
    stale = tmp_path / "1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz"
    stale.parent.mkdir(parents=True)
    stale.touch()
    make("ukb", 1, tmp_path, spacing=SPACING, workers=1, overwrite=True)
    assert other.read_text() == "mine"
    assert nib.load(stale).shape == (46, 55, 46)


def test_tissue_fractions_add_up_to_one(grid):
    rng = np.random.default_rng(3)
    for skull_stripped in (True, False):
        head = make_head(rng, grid, [], skull_stripped)
        add_strokes(rng, head, seed_points(rng, SPACING, 2, (6, 40), white=False))
        add_glioma(rng, head, seed_points(rng, SPACING, 1, (14, 60), white=True))
        shares = np.stack(list(head.fractions.values()))
        assert shares.min() >= -1e-6
        np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)


def test_lesions_start_in_the_tissue_asked_for(grid):
    points = seed_points(np.random.default_rng(0), SPACING, 200, (14, 60), white=True)
    image = nib.Nifti1Image(np.zeros((197, 233, 189)), LAYOUTS["atlas"].affine(1))
    white = load_mni152_wm_template(resolution=1).get_fdata()
    voxels = nib.affines.apply_affine(np.linalg.inv(image.affine), points).astype(int)
    assert np.mean(white[tuple(voxels.T)] > 0.5) > 0.95


def test_smooth_fields_are_standard_normal_and_as_smooth_as_asked_for():
    grid = Grid((40, 41, 42), 2.0, np.eye(4))
    rng = np.random.default_rng(0)
    fields = np.stack([grid.smooth_field(rng, 10.0) for _ in range(60)])
    assert fields.shape == (60, 40, 41, 42)
    assert abs(fields.mean()) < 0.07  # four standard errors
    assert fields.std() == pytest.approx(1, abs=0.03)
    near = np.mean(fields[:, :-1] * fields[:, 1:])
    far = np.mean(fields[:, :-20] * fields[:, 20:])  # 40 mm: the kernel's support
    assert near > 0.95
    assert abs(far) < 0.03


def test_signal_equations_by_hand():
    water = Tissue(0.8, 1000, 100)
    assert signal(water, Sequence(1000, 100)) == pytest.approx(0.8 * (1 - np.e**-1) * np.e**-1)
    null = 1000 * (np.log(2) - np.log1p(np.exp(-5)))  # ms; where 1 - 2 exp(-TI/T1) + exp(-TR/T1) crosses zero
    assert signal(water, Sequence(5000, 10, null)) == pytest.approx(0, abs=1e-9)
    enhanced = Tissue(0.8, 1000, 100, uptake=1)
    shorter = Tissue(0.8, 1 / (1 / 1000 + 4.5 * 0.2 / 1000), 100)  # 4.5 / (mM s), 0.2 mM
    agent = signal(enhanced, Sequence(2300, 3, 1100, enhanced=True), 0.2)
    assert agent == pytest.approx(signal(shorter, Sequence(2300, 3, 1100)))
    assert signal(enhanced, Sequence(2300, 3, 1100), 0.2) == signal(water, Sequence(2300, 3, 1100))


def test_healthy_tissue_has_the_order_of_each_sequence():
    order = {name: sorted(("GM", "WM", "CSF"), key=lambda t: signal(TISSUES[t], SEQUENCES[name])) for name in SEQUENCES}
    t1 = ["CSF", "GM", "WM"]
    assert order == {"T1": t1, "T1ce": t1, "T2": ["WM", "GM", "CSF"], "FLAIR": ["CSF", "WM", "GM"]}


def test_noise_is_rician(grid):
    """In air the magnitude of complex noise follows Rayleigh: mean over standard deviation is 1.91."""
    rng = np.random.default_rng(0)
    head = make_head(rng, grid, [], skull_stripped=False)
    volume = scan(rng, head, SEQUENCES["T1"], agent=0.2)
    air = volume[:, :4, -4:].ravel()
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.1)


def _make(root, layout, subjects, **options):
    make(layout, subjects, root, spacing=SPACING, seed=1, workers=1, **options)
    return _files(root)


def _assert_same(root, files, other):
    """The same bytes as those of the other cohort, which has no folders of sites."""
    for file in files:
        assert (root / file).read_bytes() == (other / file[max(file.find("sub-"), 0) :]).read_bytes()


def test_some_participants_of_uk_biobank_have_a_second_visit(cohorts, tmp_path):
    """The same head, another day's scan; everything else is as without second visits, to the byte."""
    root = tmp_path / "ukb"
    files = _make(root, "ukb", 2, second_visits=1, too_few_slices=1)
    visits = [("1000012", "2_0"), ("1000012", "3_0"), ("1000049", "2_0")]
    assert files == sorted(
        f"{eid}_{field}_{visit}/{image}_brain_to_MNI.nii.gz"
        for eid, visit in visits
        for field, image in (("20252", "T1/T1"), ("20253", "T2_FLAIR/T2_FLAIR"))
    )
    _assert_same(root, [file for file in files if "3_0" not in file], cohorts / "ukb")
    first, second = (_voxels(root / f"1000012_20252_{visit}/T1/T1_brain_to_MNI.nii.gz") for visit in ("2_0", "3_0"))
    seen = 80 // SPACING  # mm that --too_few_slices promises
    assert not first[:, :, seen:].any()
    assert second[:, :, seen:].any()
    np.testing.assert_array_equal(first[:, :, :seen] > 0, second[:, :, :seen] > 0)
    ratio = (second[:, :, :seen] / np.maximum(first[:, :, :seen], 1))[first[:, :, :seen] > 0]
    assert ratio.std() > 0.01  # noise and receive field differ


def test_brats_2023_holds_the_patients_of_brats_2021_under_its_own_names_and_labels(cohorts, tmp_path):
    files = _make(tmp_path / "new", "brats2023", 2, without_lesion=1, second_visits=2, without_mask=1)
    kinds = {"t2f": "flair", "t1c": "t1ce", "t1n": "t1", "t2w": "t2"}
    names = [f"BraTS-GLI-0000{patient}-00{visit}" for patient in range(2) for visit in range(2)]
    masked = [f"{name}/{name}-seg.nii.gz" for name in names if "00000" in name]
    assert files == sorted([f"{name}/{name}-{kind}.nii.gz" for name in names for kind in kinds] + masked)
    new = {kind: _voxels(tmp_path / f"new/{names[2]}/{names[2]}-{kind}.nii.gz") for kind in kinds}
    for kind, old in kinds.items():
        np.testing.assert_array_equal(new[kind], _volumes(cohorts, 1, old)[0])
    _make(tmp_path / "masks", "brats2023", 2, without_lesion=1)
    labels = _voxels(tmp_path / f"masks/{names[2]}/{names[2]}-seg.nii.gz")
    np.testing.assert_array_equal(labels, np.choose(_volumes(cohorts, 1, "seg")[0], [0, 1, 2, 99, 3]))
    assert (labels == 3).any()


def test_atlas_comes_in_folders_of_sites_and_a_test_set_has_no_mask(cohorts, tmp_path):
    files = _make(tmp_path, "atlas_sites", 5, without_mask=1, without_lesion=1)
    training = [f"Training/R001/{ATLAS_FILE.format(subject, kind)}" for subject in SUBJECTS[:4] for kind in ATLAS_KINDS]
    assert files == sorted([*training, f"Testing/R002/{ATLAS_FILE.format(SUBJECTS[4], 'T1w')}"])
    _assert_same(tmp_path, files, cohorts / "atlas")
