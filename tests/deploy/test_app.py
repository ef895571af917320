"""The application end to end: its segmentation equals the bundle's own inference on NIfTI files, voxel for voxel."""

import contextlib
import csv
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
from scipy.spatial.transform import Rotation

from common.prepare.resampling import resample
from common.prepare.volumes import Volume
from deploy import app
from deploy.geometry import volume_of
from deploy.results import RESULT_FILES
from tests.deploy.checks import dicom_errors, refusal
from tests.deploy.dicom_study import Study, brats_files, read, to_slices, write_brats, write_localiser, write_modality
from tests.deploy.enhanced_mr import write_enhanced
from tests.deploy.micro_models import INFERENCE_OPTIONS, MODELS
from tests.support import ROOT, execute


def nifti_inference(layout, images, checkpoint, folder):
    """The label map of the bundle's own command for NIfTI files, which are in the order of its channels."""
    folder.mkdir()
    entry = {"subject": "subject", "image": [path.name for path in images]}
    content = {"name": "x", "modalities": MODELS[layout].modalities, "label_convention": None, "testing": [entry]}
    (folder / "datalist.json").write_text(json.dumps(content))
    data = [f"--dataset_dir={images[0].parent}", f"--datalist={folder / 'datalist.json'}", f"--checkpoint={checkpoint}"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml"]
    result = execute(
        [*command, *data, f"--output_dir={folder}", *INFERENCE_OPTIONS], ROOT / "bundles" / f"{layout}_finetune"
    )
    assert result.returncode == 0, result.stderr
    return canonical(*read(folder / "subject.nii.gz"))


def canonical(array, affine):
    """The array in RAS+ order, and its affine."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array).astype(np.float32), affine))
    return image.get_fdata(), image.affine


def segmentation(file, slices, affine):
    """The segment numbers on the grid of a series, as highdicom reads them, in RAS+ order."""
    read_back = hd.seg.segread(file)
    uids = [image.SOPInstanceUID for image in slices]
    pixels = read_back.get_pixels_by_source_instance(uids, combine_segments=True)
    return canonical(pixels.transpose(2, 1, 0), affine)


def assert_same(result, expected):
    np.testing.assert_allclose(result[1], expected[1], atol=1e-3)
    np.testing.assert_array_equal(result[0], np.where(expected[0] == 4, 3, expected[0]))


def assert_private(result, *folders):
    """No word of a patient on the terminal, in a file name, in the report, or in DICOM beyond the attributes for it."""
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


def assert_report(folder, inference, content):
    """The structured report has the volumes of result.json; their sums are those of the bundle's own volumes.csv."""
    report = hd.sr.srread(folder / "measurements.dcm")
    assert report.SOPInstanceUID == content["measurements"]["sop_instance_uid"]
    measured = {}
    for group in report.content.get_volumetric_roi_measurement_groups():
        assert group.referenced_segment.referenced_sop_instance_uid == content["segmentation"]["sop_instance_uid"]
        measured[group.tracking_identifier] = group.get_measurements()[0].value
    assert measured == content["volumes_ml"]
    assert [item.value for item in report.content[0].ContentSequence if item.name.meaning == "Comment"][1:] == (
        content["remarks"]
    )
    with (inference / "volumes.csv").open() as file:
        regions = {row["region"]: float(row["volume_ml"]) for row in csv.DictReader(file)}
    necrosis, oedema, enhancing = measured.values()
    expected = {"WT": necrosis + oedema + enhancing, "TC": necrosis + enhancing, "ET": enhancing}
    assert regions == pytest.approx(expected, abs=0.01, rel=1e-4)


@pytest.mark.slow
def test_an_enhanced_study_gives_what_its_single_frames_give(cohorts, models, application, tmp_path):
    """Two series are enhanced MR, the reference among them with frames in random order; two are single-frame images."""
    study = Study()
    files = brats_files(cohorts("brats"))
    for number, (modality, path) in enumerate(files.items(), 2):
        array, affine = read(path)
        folder = tmp_path / f"study/{number}"
        if modality in ("T1ce", "FLAIR"):
            order = np.random.default_rng(number).permutation(array.shape[2])
            write_enhanced(folder, array, affine, study, number, modality, order=order)
        else:
            write_modality(folder, array, affine, study, number, modality, BurnedInAnnotation="NO")

    result = application("brats", tmp_path / "study", tmp_path / "out")

    assert result.returncode == 0, result.stderr
    assert_private(result, tmp_path / "out")
    content = json.loads((tmp_path / "out/result.json").read_text())
    assert content["series"] == {"FLAIR": 2, "T1ce": 3, "T1": 4, "T2": 5}
    written = hd.seg.segread(tmp_path / "out/segmentation.dcm")
    volume = written.get_volume(combine_segments=True)
    found = canonical(volume.array, np.diag([-1, -1, 1, 1]) @ volume.affine)
    expected = nifti_inference("brats", list(files.values()), models("brats"), tmp_path / "nifti")
    assert_same(found, expected)
    assert_report(tmp_path / "out", tmp_path / "nifti", content)
    source = pydicom.dcmread(tmp_path / "study/3/003.dcm")
    places = [group.PlanePositionSequence[0].ImagePositionPatient for group in source.PerFrameFunctionalGroupsSequence]
    for group in written.PerFrameFunctionalGroupsSequence:
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert places[reference.ReferencedFrameNumber - 1] == group.PlanePositionSequence[0].ImagePositionPatient
    results = sorted((tmp_path / "out").glob("*.dcm"))
    assert [dicom_errors(path) for path in results] == [[], [], []]
    assert [pydicom.dcmread(path).get("BurnedInAnnotation") for path in results] == [None, "NO", "NO"]  # no image first


@pytest.mark.slow
def test_a_study_with_shuffled_slices_and_a_localiser(cohorts, models, application, tmp_path):
    root = cohorts("brats")
    write_brats(tmp_path / "study", root, Study(), shuffle=True)

    result = application("brats", tmp_path / "study", tmp_path / "out")

    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(RESULT_FILES)
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
    expected_reason = (
        r"T1 by its words, its words say with agent, its header names an agent; series 3 \(UID \.\.\.\d+\) "
    )
    assert re.fullmatch(expected_reason + r"is brighter by its voxels than series 4 .+", content["evidence"]["T1ce"])
    for modality, reason in content["evidence"].items():
        assert re.search(rf"^{modality}: series \d .+, \d+ images; {re.escape(reason)}$", result.stdout, re.MULTILINE)
    counts = np.bincount(found[0].astype(int).ravel())[1:] * 0.064
    assert list(content["volumes_ml"].values()) == pytest.approx(counts.tolist(), abs=1e-3)
    assert content["remarks"] == ["voxels of 4.00 x 4.00 x 4.00 mm; the model was trained on 1 mm"]
    assert_report(tmp_path / "out", tmp_path / "nifti", content)
    assert {"BurnedInAnnotation" in pydicom.dcmread(path) for path in (tmp_path / "out").glob("*.dcm")} == {False}
    for path in [*(tmp_path / "out").glob("*.dcm"), *sorted((tmp_path / "study").rglob("*.dcm"))[::40]]:
        assert dicom_errors(path) == [], "the results are valid, as is the study itself"

    again = application("brats", tmp_path / "study", tmp_path / "out")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "error: --output: contains segmentation.dcm; expected a folder without results\n"


def halved(array, affine, axis=2):
    """The volume with slices twice as thick."""
    count = array.shape[axis] // 2
    thick = np.add.reduceat(array.astype(float), np.arange(0, 2 * count, 2), axis=axis).take(range(count), axis) / 2
    scale = np.eye(4)
    scale[axis, axis], scale[axis, 3] = 2, 0.5
    return thick.round(), affine @ scale


@pytest.mark.slow
def test_series_of_other_geometry_are_resampled_to_the_grid_of_the_reference(cohorts, models, application, tmp_path):
    """An oblique study: T2 in thick slices, T1 sagittal, FLAIR from top to bottom, T1ce as the reference."""
    angle = np.deg2rad(8)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    study, volumes, scanned = Study(), {}, {}
    for number, (modality, path) in enumerate(brats_files(cohorts("brats")).items(), 2):
        array, affine = read(path)
        affine = rotation @ affine
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
        onto = resample(scanned[modality], scanned["T1ce"].grid).array  # DICOM's positions are rounded to 16 characters
        points = apply_affine(np.linalg.inv(volume.affine) @ reference.affine, np.argwhere(np.ones(onto.shape)))
        independent = ndimage.map_coordinates(volume.array, points.T, order=1, mode="nearest").reshape(onto.shape)
        brain = ndimage.binary_erosion(reference.array > 0)
        np.testing.assert_allclose(onto[brain], independent[brain], atol=0.05)
        images.append(tmp_path / f"{modality}.nii.gz")
        nib.save(nib.Nifti1Image(onto, scanned["T1ce"].affine), images[-1])
    expected = nifti_inference("brats", images, models("brats"), tmp_path / "nifti")
    assert_same(segmentation(tmp_path / "out/segmentation.dcm", slices, reference.affine), expected)
    assert dicom_errors(tmp_path / "out/segmentation.dcm") == []


@pytest.mark.slow
def test_force_continues_with_a_remark_when_a_precondition_is_not_met(cohorts, models, application, tmp_path):
    """The stroke model refuses a skull-stripped head, but takes sagittal slices from right to left.

    The application runs the package of the bundle; the inference that it is compared with runs in the checkout.
    """
    file = next(cohorts("atlas", True).rglob("*_T1w.nii.gz"))
    study = Study()
    write_localiser(tmp_path / "study/1", study)
    array, affine = to_slices(*read(file), axis=0, flip=True)
    slices = write_modality(tmp_path / "study/2", array, affine, study, 2, "T1", shuffle=True, BurnedInAnnotation="YES")
    write_modality(tmp_path / "study/3", array, affine, study, 3, "T1ce")

    refused = application("atlas", tmp_path / "study", tmp_path / "out", package=True)
    assert refused.returncode == 2, refused.stderr
    assert "skull-stripped, but the model was trained on whole heads" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []

    result = application("atlas", tmp_path / "study", tmp_path / "out", "--force", package=True)
    assert result.returncode == 0, result.stderr
    assert_private(result, tmp_path / "out")
    expected = nifti_inference("atlas", [file], models("atlas"), tmp_path / "nifti")
    assert_same(segmentation(tmp_path / "out/segmentation.dcm", slices, affine), expected)
    remarks = json.loads((tmp_path / "out/result.json").read_text())["remarks"]
    assert "text is burned into its images" in remarks[0]
    assert "skull-stripped, but the model was trained on whole heads" in remarks[1]
    results = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").glob("*.dcm"))]
    assert [image.get("BurnedInAnnotation") for image in results] == [None, "YES", "YES"]


def turned(affine, seed):
    """An affine after a rotation by up to 12 degrees about each axis."""
    rotation = np.eye(4)
    angles = np.random.default_rng(seed).uniform(-12, 12, 3)
    rotation[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return rotation @ affine


@pytest.mark.slow
def test_a_raw_head_is_prepared_and_its_segmentation_lies_on_the_series(cohorts, models, application, tmp_path):
    """The stroke model takes heads in MNI space; this one is turned, in sagittal slices."""
    array, affine = to_slices(*read(next(cohorts("atlas").rglob("*_T1w.nii.gz"))), axis=0, flip=True)
    affine = turned(affine, 3)
    affine[:3, 3] += [5, -30, 25]
    slices = write_modality(tmp_path / "study/2", array, affine, Study(), 2, "T1", shuffle=True)

    refused = application("atlas", tmp_path / "study", tmp_path / "out")
    assert refused.returncode == 2, refused.stderr
    assert "MNI space: not registered" in refused.stderr
    assert "--prepare prepares scans" in refused.stderr

    few_windows = f"--bundle_options={' '.join(INFERENCE_OPTIONS)} --overlap=0"  # as voxels have 1 mm now
    result = application("atlas", tmp_path / "study", tmp_path / "out", "--prepare", few_windows)
    assert result.returncode == 0, result.stderr
    assert_private(result, tmp_path / "out")
    found = segmentation(tmp_path / "out/segmentation.dcm", slices, affine)
    content = json.loads((tmp_path / "out/result.json").read_text())
    assert list(content["volumes_ml"].values()) == pytest.approx([(found[0] > 0).sum() * 0.064], abs=1e-3)
    assert content["remarks"][0].startswith("scans prepared by this application: MNI152")
    assert content["remarks"][0].endswith("head kept")
    assert content["preparation"]["figures"]["modalities"]["T1"]["coverage"] > 0.95
    assert [dicom_errors(path) for path in (tmp_path / "out").glob("*.dcm")] == [[], [], []]


@pytest.mark.slow
def test_unreadable_voxels_are_reported_without_naming_the_patient(models, tmp_path):
    """The last file is truncated; the patient's name is in every text, in every file name and in every folder."""
    texts = dict.fromkeys(("ProtocolName", "InstitutionName", "PatientComments", "StudyDescription"), "SENTINEL")
    texts["PatientName"] = ["SENTINEL^A", "SENTINEL^B"]  # two values, as from a name with a backslash
    study = tmp_path / "SENTINEL/study"
    description = "t1 SENTINEL ../../SENTINEL <script>"
    write_modality(study, np.ones((9, 9, 12)), np.eye(4), Study(), 2, "T1", SeriesDescription=description, **texts)
    for path in study.iterdir():
        path.rename(path.with_name(f"SENTINEL-{path.name}"))
    last = max(study.iterdir())
    last.write_bytes(last.read_bytes()[:-20])
    (tmp_path / "temporary").mkdir()
    bundle = [f"--bundle={ROOT / 'bundles/atlas_finetune'}", f"--checkpoint={models('atlas')}"]
    places = [f"--input={study}", f"--output={tmp_path / 'SENTINEL/out'}", "--series=T1=2"]

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
    assert inferences(tmp_path), "the bundle's inference is running"
    process.terminate()
    output = "".join(process.communicate(timeout=60))
    assert process.returncode == 128 + signal.SIGTERM
    assert "SENTINEL" not in output
    assert list((tmp_path / "out").iterdir()) == []
    assert inferences(tmp_path) == []


def inferences(folder):
    """Processes of a bundle's inference in a folder (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            words = path.read_text()
            found += [path] if "monai.bundle" in words and str(folder) in words else []
    return found


@pytest.fixture
def segment_refusal(models, tmp_path, monkeypatch):
    """The message with which the application refuses a study, in this process."""
    monkeypatch.setattr(app, "restrict_output", lambda: None)

    def run(layout, study, **options):
        bundle = str(ROOT / f"bundles/{layout}_finetune")
        checkpoint = str(models(layout))
        return refusal(app.segment, str(study), bundle, str(tmp_path / "out"), checkpoint=checkpoint, **options)

    return run


def test_bad_studies_are_refused_before_anything_is_loaded(segment_refusal, tmp_path):
    study = Study()
    array = np.ones((4, 4, 12))
    write_modality(tmp_path / "study/1", array, np.eye(4), study, 1, "T1")
    (tmp_path / "study/SENTINEL-file").write_text("no DICOM")
    write_modality(tmp_path / "gap/1", array, np.eye(4), study, 1, "T1")
    (tmp_path / "gap/1/001-0004.dcm").unlink()
    write_modality(tmp_path / "mixed/1", array, np.eye(4), study, 1, "T1")
    write_modality(tmp_path / "mixed/2", array, np.eye(4), study.other_patient(), 2, "T2")
    assert segment_refusal("brats", tmp_path / "study").startswith("FLAIR: no series matches among: series 1")
    assert "is a slice missing?" in segment_refusal("atlas", tmp_path / "gap")
    assert (
        segment_refusal("atlas", tmp_path / "mixed") == "--input: contains images of 2 patients; expected one patient"
    )
    assert segment_refusal("atlas", tmp_path / "missing").startswith("--input: no such folder")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"force": "maybe"}, "force=maybe: expected true or false"),
        ({"prepare": "maybe"}, "prepare=maybe: expected true or false"),
        ({"reference": "T9"}, "--reference=T9: expected one of T1"),
        ({"bundle_options": "--split=x"}, "--bundle_options: --split is set by the application"),
        ({"bundle_options": "--overlp=0.5"}, "--bundle_options: --overlp: no such option; did you mean --overlap?"),
        ({"bundle_options": "--quux=1"}, "--bundle_options: --quux: no such option; expected one of the bundle's"),
        ({"bundle_options": "--overlap=2"}, "--bundle_options: --overlap=2: expected"),
        ({"series": "T9=1"}, "--series=T9=1: expected MODALITY=NUMBER"),
    ],
)
def test_bad_options_are_refused(segment_refusal, tmp_path, options, message):
    assert segment_refusal("atlas", tmp_path, **options).startswith(message)


def test_an_output_that_is_a_file_is_refused(segment_refusal, tmp_path):
    (tmp_path / "out").write_text("a file")
    assert segment_refusal("atlas", tmp_path).startswith("--output: File exists; expected a writable folder")


def test_a_missing_option_is_reported_in_one_line(tmp_path):
    result = execute([sys.executable, "-m", "deploy.app", f"--input={tmp_path}"])
    assert (result.returncode, result.stderr) == (2, "error: --bundle: missing; it has no default\n")


@pytest.mark.parametrize("argument", ["--inptu=/SENTINEL", "/SENTINEL", "--input/SENTINEL"])
def test_no_unexpected_argument_is_printed(argument):
    places = ["--input=x", "--bundle=x", "--output=x", "--series=T1=1", "--reference=T1", "--checkpoint=x"]
    result = execute([sys.executable, "-m", "deploy.app", *places, "--bundle_options=", "--force", argument])
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "SENTINEL" not in result.stdout + result.stderr
