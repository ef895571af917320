"""The application from end to end: its segmentation is the bundle's own NIfTI inference, voxel for voxel."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("monai.deploy", reason="needs the environment of make deploy")

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from nibabel.affines import apply_affine
from scipy import ndimage

from common.preflight import InputError
from deploy import app
from deploy.geometry import Volume, resample, volume_of
from deploy.job import RESULTS
from tests.bundles.conftest import ROOT, execute
from tests.deploy.conftest import CHANNELS, SMALL
from tests.deploy.dicom_study import Study, brats_files, read, to_slices, write_brats, write_localiser, write_modality
from tests.deploy.test_segmentation import errors_of


def nifti_inference(layout, images, checkpoint, folder):
    """The bundle's own label map of NIfTI files in the order of its channels, by its own command."""
    folder.mkdir()
    entry = {"subject": "subject", "image": [path.name for path in images]}
    content = {"name": "x", "modalities": CHANNELS[layout][0], "label_convention": None, "testing": [entry]}
    (folder / "datalist.json").write_text(json.dumps(content))
    data = [f"--dataset_dir={images[0].parent}", f"--datalist={folder / 'datalist.json'}", f"--checkpoint={checkpoint}"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml"]
    result = execute([*command, *data, f"--output_dir={folder}", *SMALL], ROOT / "bundles" / f"{layout}_finetune")
    assert result.returncode == 0, result.stderr
    return canonical(*read(folder / "subject.nii.gz"))


def canonical(array, affine):
    """In RAS+ order, with the place of the first voxel."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array).astype(np.float32), affine))
    return image.get_fdata(), image.affine


def segmentation(file, slices, affine):
    """The numbers of the segments on the grid of a series, as highdicom reads them, in RAS+ order."""
    read_back = hd.seg.segread(file)
    uids = [image.SOPInstanceUID for image in slices]
    pixels = read_back.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    return canonical(pixels.transpose(2, 1, 0), affine)


def assert_same(result, expected):
    np.testing.assert_allclose(result[1], expected[1], atol=1e-3)
    np.testing.assert_array_equal(result[0], np.where(expected[0] == 4, 3, expected[0]))


def assert_private(result, *folders):
    """No word of a patient on the terminal, in a name, in a report, or in DICOM beyond the modules that carry it."""
    words = [result.stdout, result.stderr]
    for path in (path for folder in folders for path in folder.rglob("*")):
        words.append(path.name)
        if path.suffix == ".json":
            words.append(path.read_text())
        elif path.suffix == ".dcm":
            image = pydicom.dcmread(path)
            for keyword in ("PatientName", "PatientID", "AccessionNumber"):
                delattr(image, keyword)
            words.append(str(image))
    assert "SENTINEL" not in "".join(words)
    assert "mprage" not in result.stdout + result.stderr


@pytest.mark.slow
def test_a_study_of_shuffled_slices_beside_a_localiser(cohorts, models, application, tmp_path):
    root = cohorts("brats")
    write_brats(tmp_path / "study", root, Study(), shuffle=True)

    result = application("brats", tmp_path / "study", tmp_path / "out")

    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(RESULTS)
    assert_private(result, tmp_path / "out")
    assert result.stderr == ""
    files = brats_files(root)
    slices = sorted(
        (pydicom.dcmread(path) for path in (tmp_path / "study/series3").iterdir()),
        key=lambda image: image.ImagePositionPatient[2],
    )
    found = segmentation(tmp_path / "out/segmentation.dcm", slices, read(files["T1ce"])[1])
    expected = nifti_inference("brats", list(files.values()), models("brats"), tmp_path / "nifti")
    assert_same(found, expected)
    assert set(np.unique(found[0])) == {0, 1, 2, 3}
    content = json.loads((tmp_path / "out/result.json").read_text())
    assert content["series"] == {"FLAIR": 2, "T1ce": 3, "T1": 4, "T2": 5}
    counts = np.bincount(found[0].astype(int).ravel())[1:] * 0.064
    assert list(content["volumes_ml"].values()) == pytest.approx(counts.tolist(), abs=1e-3)
    assert content["remarks"] == ["voxels of 4.00 x 4.00 x 4.00 mm; the model learnt from 1 mm"]
    assert errors_of(tmp_path / "out/segmentation.dcm") == errors_of(tmp_path / "out/summary.dcm") == []
    for path in sorted((tmp_path / "study").rglob("*.dcm"))[::40]:
        assert errors_of(path) == [], "what the tests make is valid itself"

    again = application("brats", tmp_path / "study", tmp_path / "out")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "error: --output: holds segmentation.dcm already; expected a folder without results\n"


def halved(array, affine, axis=2):
    """Slices twice as thick."""
    count = array.shape[axis] // 2
    thick = np.add.reduceat(array.astype(float), np.arange(0, 2 * count, 2), axis=axis).take(range(count), axis) / 2
    scale = np.eye(4)
    scale[axis, axis], scale[axis, 3] = 2, 0.5
    return thick.round(), affine @ scale


@pytest.mark.slow
def test_series_of_other_geometry_come_onto_the_grid_of_the_reference(cohorts, models, application, tmp_path):
    """An oblique examination: T2 in thick slices, T1 sagittal, FLAIR counted from above, T1ce the reference."""
    angle = np.deg2rad(8)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    study, volumes, scanned = Study(), {}, {}
    for number, (modality, path) in enumerate(brats_files(cohorts("brats")).items(), 2):
        array, affine = read(path)
        affine = turn @ affine
        if modality == "T2":
            array, affine = halved(array, affine)
        elif modality != "T1ce":
            array, affine = to_slices(array, affine, 0 if modality == "T1" else 2, flip=True)
        volumes[modality] = Volume(np.ascontiguousarray(array, np.float32), affine)
        written = write_modality(tmp_path / f"study/{number}", array, affine, study, number, modality, shuffle=True)
        scanned[modality], ordered = volume_of(written, modality)
        if modality == "T1ce":
            slices = ordered

    result = application("brats", tmp_path / "study", tmp_path / "out")

    assert result.returncode == 0, result.stderr
    reference = volumes["T1ce"]
    images = []
    for modality, volume in volumes.items():
        onto = resample(scanned[modality], scanned["T1ce"]).array  # DICOM's positions are rounded to 16 characters
        points = apply_affine(np.linalg.inv(volume.affine) @ reference.affine, np.argwhere(np.ones(onto.shape)))
        independent = ndimage.map_coordinates(volume.array, points.T, order=1, mode="nearest").reshape(onto.shape)
        brain = ndimage.binary_erosion(reference.array > 0)
        np.testing.assert_allclose(onto[brain], independent[brain], atol=0.05)
        images.append(tmp_path / f"{modality}.nii.gz")
        nib.save(nib.Nifti1Image(onto, scanned["T1ce"].affine), images[-1])
    expected = nifti_inference("brats", images, models("brats"), tmp_path / "nifti")
    assert_same(segmentation(tmp_path / "out/segmentation.dcm", slices, reference.affine), expected)
    assert errors_of(tmp_path / "out/segmentation.dcm") == []


@pytest.mark.slow
def test_a_stroke_model_takes_one_series_and_force_goes_on_with_a_remark(cohorts, models, application, tmp_path):
    """A stripped head is against the model's preconditions; sagittal slices from right to left are not.

    The bundle is a package here, the inference that it is compared with is the checkout's.
    """
    file = next(cohorts("atlas", True).rglob("*_T1w.nii.gz"))
    study = Study()
    write_localiser(tmp_path / "study/1", study)
    array, affine = to_slices(*read(file), axis=0, flip=True)
    slices = write_modality(tmp_path / "study/2", array, affine, study, 2, "T1", shuffle=True)
    write_modality(tmp_path / "study/3", array, affine, study, 3, "T1ce")

    refused = application("atlas", tmp_path / "study", tmp_path / "out", package=True)
    assert refused.returncode == 2, refused.stderr
    assert "skull-stripped, but the model learnt from whole heads" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []

    result = application("atlas", tmp_path / "study", tmp_path / "out", "--force", package=True)
    assert result.returncode == 0, result.stderr
    assert_private(result, tmp_path / "out")
    expected = nifti_inference("atlas", [file], models("atlas"), tmp_path / "nifti")
    assert_same(segmentation(tmp_path / "out/segmentation.dcm", slices, affine), expected)
    remarks = json.loads((tmp_path / "out/result.json").read_text())["remarks"]
    assert "skull-stripped, but the model learnt from whole heads" in remarks[0]


@pytest.mark.slow
def test_a_run_that_fails_on_voxels_tells_nothing_of_the_patient_either(models, tmp_path):
    """The last file ends too early; every text of the headers, every folder and every file is called by the patient."""
    texts = dict.fromkeys(("ProtocolName", "InstitutionName", "PatientComments", "StudyDescription"), "SENTINEL")
    texts["PatientName"] = ["SENTINEL^A", "SENTINEL^B"]  # as a backslash in a name is read
    study = tmp_path / "SENTINEL/study"
    description = "t1 SENTINEL ../../SENTINEL <script>"
    write_modality(study, np.ones((9, 9, 12)), np.eye(4), Study(), 2, "T1", SeriesDescription=description, **texts)
    for path in study.iterdir():
        path.rename(path.with_name(f"SENTINEL-{path.name}"))
    last = max(study.iterdir())
    last.write_bytes(last.read_bytes()[:-20])
    (tmp_path / "temporary").mkdir()
    bundle = [f"--bundle={ROOT / 'bundles/atlas_finetune'}", f"--checkpoint={models('atlas')}"]
    places = [f"--input={study}", f"--output={tmp_path / 'SENTINEL/out'}"]

    result = execute([sys.executable, "-m", "deploy.app", *places, *bundle], TMPDIR=str(tmp_path / "temporary"))

    assert result.returncode == 2
    assert re.fullmatch(r"error: series 2 \(UID \.\.\.\d+\): voxels cannot be read \(.+: ValueError\)\n", result.stderr)
    assert "SENTINEL" not in result.stdout + result.stderr
    assert list((tmp_path / "SENTINEL/out").iterdir()) == list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_run_leaves_neither_files_nor_processes(cohorts, models, tmp_path):
    file = next(cohorts("atlas").rglob("*_T1w.nii.gz"))
    write_modality(tmp_path / "study", *read(file), Study(), 2, "T1")
    bundle = [f"--bundle={ROOT / 'bundles/atlas_finetune'}", f"--checkpoint={models('atlas')}"]
    places = [f"--input={tmp_path / 'study'}", f"--output={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "deploy.app", *places, *bundle]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    patience = time.monotonic() + 120
    while not inferences(tmp_path) and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.05)
    assert inferences(tmp_path), "the bundle's own process is running"
    process.terminate()
    output = "".join(process.communicate(timeout=60))
    assert process.returncode == 128 + signal.SIGTERM
    assert "SENTINEL" not in output
    assert list((tmp_path / "out").iterdir()) == []
    assert inferences(tmp_path) == []


def inferences(folder):
    """Processes of Linux that a bundle's inference in a folder runs in."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended by now
            words = path.read_text()
            found += [path] if "monai.bundle" in words and str(folder) in words else []
    return found


@pytest.fixture
def refusal(models, tmp_path, monkeypatch):
    """What the application says of bad input, in this process."""
    monkeypatch.setattr(app, "keep_silent", lambda: None)

    def run(layout, study, **options):
        bundle = str(ROOT / f"bundles/{layout}_finetune")
        with pytest.raises(InputError) as error:
            app.segment(str(study), bundle, str(tmp_path / "out"), checkpoint=str(models(layout)), **options)
        message = str(error.value)
        assert "\n" not in message
        assert "SENTINEL" not in message
        return message

    return run


def test_bad_studies_are_named_before_anything_is_loaded(refusal, tmp_path):
    study = Study()
    array = np.ones((4, 4, 12))
    write_modality(tmp_path / "study/1", array, np.eye(4), study, 1, "T1")
    (tmp_path / "study/SENTINEL-file").write_text("no DICOM")
    write_modality(tmp_path / "gap/1", array, np.eye(4), study, 1, "T1")
    (tmp_path / "gap/1/001-0004.dcm").unlink()
    write_modality(tmp_path / "mixed/1", array, np.eye(4), study, 1, "T1")
    write_modality(tmp_path / "mixed/2", array, np.eye(4), study.other_patient(), 2, "T2")
    assert refusal("brats", tmp_path / "study").startswith("FLAIR: no series fits among: series 1")
    assert "is a slice missing?" in refusal("atlas", tmp_path / "gap")
    assert refusal("atlas", tmp_path / "mixed") == "--input: images of 2 patients; expected one"
    assert refusal("atlas", tmp_path / "missing").startswith("--input: no such folder")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"force": "maybe"}, "--force=maybe: expected true or false"),
        ({"reference": "T9"}, "--reference=T9: expected one of T1"),
        ({"bundle_options": "--split=x"}, "--bundle_options: --split is set by the application"),
        ({"series": "T9=1"}, "--series=T9=1: expected MODALITY=NUMBER"),
    ],
)
def test_bad_options_are_named(refusal, tmp_path, options, message):
    assert refusal("atlas", tmp_path, **options).startswith(message)


def test_bad_places_are_named(refusal, tmp_path):
    (tmp_path / "out").write_text("a file")
    assert refusal("atlas", tmp_path).startswith("--output: File exists; expected a folder")


def test_results_are_handed_over_all_or_none(tmp_path):
    for folder in ("results", "out"):
        (tmp_path / folder).mkdir()
    for name in RESULTS:
        (tmp_path / "results" / name).write_text(name)
    (tmp_path / "out/result.json").write_text("somebody else's")
    with pytest.raises(InputError, match=r"holds result.json by now"):
        app._hand_over(tmp_path / "results", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]
    assert (tmp_path / "out/result.json").read_text() == "somebody else's"


def test_a_command_line_that_lacks_something_ends_in_one_line(tmp_path):
    result = execute([sys.executable, "-m", "deploy.app", f"--input={tmp_path}"])
    assert (result.returncode, result.stderr) == (2, "error: --bundle: missing; it has no default\n")
