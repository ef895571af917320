"""The application end to end: its segmentation equals the bundle's own inference on NIfTI files, voxel for voxel."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import yaml
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from common.errors import InputError
from common.metrics.measures import dice
from deploy import app
from deploy.dicom.geometry import volume_of
from deploy.outputs import make_all, make_summary
from scripts.prepare.volumes import FLIP, Volume, resample
from scripts.run import argument
from tests.deploy.dicom.dicom_study import (
    Study,
    brats_files,
    canonical,
    change,
    read,
    refusal,
    to_slices,
    write_brats,
    write_localiser,
    write_modality,
)
from tests.deploy.dicom.enhanced_mr import write_enhanced
from tests.support import MODALITIES, ROOT, execute

pytestmark = pytest.mark.slow
OPTIONS = "--num_workers=0"
RESULTS = {"segmentation.dcm", "measurements.dcm", "summary.dcm", "result.json"}
NUMBERS = {"FLAIR": 2, "T1ce": 3, "T1": 4, "T2": 5}  # of the series


def nifti_inference(images, checkpoint, folder):
    """Return the label map of the bundle's own command for NIfTI files; `images` are in the order of its channels."""
    folder.mkdir()
    content = {"name": "x", "modalities": MODALITIES["brats_finetune"], "label_convention": None}
    content["testing"] = [{"subject": "subject", "image": [path.name for path in images]}]
    (folder / "datalist.json").write_text(json.dumps(content))
    paths = {"dataset_dir": images[0].parent, "datalist": folder / "datalist.json", "output_dir": folder}
    data = [argument(f"--{name}={path}") for name, path in paths.items()]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml"]
    result = execute([*command, *data, f"--checkpoint={checkpoint}", OPTIONS], ROOT / "bundles/brats_finetune")
    assert result.returncode == 0, result.stderr
    return canonical(*read(folder / "subject.nii.gz"))


def segmentation(folder):
    """Return the segment numbers of the result in RAS+ order, and their affine."""
    volume = hd.seg.segread(folder / "segmentation.dcm").get_volume(combine_segments=True)
    return canonical(volume.array, FLIP @ volume.affine)


def assert_private(printed, folder):
    """Check that terminal, file names and report hold no patient data, nor DICOM except in the patient's attributes."""
    words = [printed, *(path.name for path in folder.rglob("*")), (folder / "result.json").read_text()]
    for path in folder.glob("*.dcm"):
        image = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID", "AccessionNumber"):
            delattr(image, keyword)
        words.append(str(image))
    assert "SENTINEL" not in "".join(words)
    assert "mprage" not in printed


@pytest.fixture(scope="module")
def finished(cohorts, package, tmp_path_factory):
    """The README's command on an oblique study with a localiser. The reference is enhanced MR with frames in random
    order; the others are single-frame images: T2 in thick slices, T1 sagittal, FLAIR from top to bottom."""
    folder, study, volumes, scanned = tmp_path_factory.mktemp("study #1 "), Study(), {}, {}
    rotation = np.eye(4)
    rotation[:3, :3] = Rotation.from_euler("z", 8, degrees=True).as_matrix()
    write_localiser(folder / "study/1", study)
    for number, (modality, path) in enumerate(brats_files(cohorts("brats")).items(), 2):
        array, affine = read(path)
        affine, target = rotation @ affine, folder / f"study/{number}"
        if modality == "T1ce":
            order = np.random.default_rng(0).permutation(array.shape[2])
            written = [write_enhanced(target, array, affine, study, number, modality, order=order)]
        else:
            if modality == "T2":
                array, affine = array[:, :, ::2], affine @ np.diag([1, 1, 2, 1])
            array, affine = to_slices(array, affine, 0 if modality == "T1" else 2, flip=modality != "T2")
            options = {"shuffle": True, "BurnedInAnnotation": "NO"}
            written = write_modality(target, array, affine, study, number, modality, **options)
        volumes[modality] = Volume(np.ascontiguousarray(array, np.float32), affine)
        scanned[modality], _ = volume_of(written, modality)
    values = {"input": folder / "study", "bundle": package, "output": os.path.relpath(folder / "out", ROOT)}
    (command,) = re.findall(r"python -m (deploy\.app [^`\n]+)", (ROOT / "deploy/README.md").read_text())
    options = [f"--{name}={values[name]}" for name in re.findall(r"--(\w+)=", command)]
    result = execute([sys.executable, "-m", "deploy.app", *options, f"--bundle_options={OPTIONS}"])
    assert result.returncode == 0, result.stderr
    content = json.loads((folder / "out/result.json").read_text())
    made = {"result": result, "content": content, "config": package / "configs/inference.yaml"}
    return SimpleNamespace(folder=folder, volumes=volumes, scanned=scanned, **made)


def test_a_study_is_segmented_as_its_scans_are_in_nifti_files(finished, models):
    """The series are resampled to the grid of the reference; SciPy's trilinear interpolation gives the same."""
    scanned, reference, images = finished.scanned, finished.volumes["T1ce"], []
    brain = ndimage.binary_erosion(reference.array > 0)
    for modality, volume in finished.volumes.items():
        onto = resample(scanned[modality], scanned["T1ce"].grid).array  # DICOM's positions are rounded to 16 characters
        points = apply_affine(np.linalg.inv(volume.affine) @ reference.affine, np.argwhere(np.ones(onto.shape)))
        independent = ndimage.map_coordinates(volume.array, points.T, order=1, mode="nearest").reshape(onto.shape)
        np.testing.assert_allclose(onto[brain], independent[brain], atol=0.05)
        images.append(finished.folder / f"{modality}.nii.gz")
        nib.save(nib.Nifti1Image(onto, scanned["T1ce"].affine), images[-1])
    result = segmentation(finished.folder / "out")
    expected = nifti_inference(images, models["brats"], finished.folder / "nifti")
    np.testing.assert_allclose(result[1], expected[1], atol=1e-3)
    np.testing.assert_array_equal(result[0], np.where(expected[0] == 4, 3, expected[0]))
    counts = np.bincount(result[0].astype(int).ravel())[1:]
    assert (len(counts), counts.min() > 0) == (3, True)
    assert list(finished.content["volumes_ml"].values()) == pytest.approx((counts * 0.064).tolist(), abs=1e-3)


def test_the_results_are_complete_valid_and_private(finished, assert_valid):
    out = finished.folder / "out"
    assert {path.name for path in out.iterdir()} == RESULTS
    (warning,) = finished.result.stderr.splitlines()
    assert warning.startswith(f"warning: {finished.config}: its expressions run as a program")
    assert_private(finished.result.stdout, out)
    for name in RESULTS - {"result.json"}:
        assert_valid(out / name)
    content = finished.content
    assert content["series"] == NUMBERS
    text = "voxels of 4.00 x 4.00 x 4.00 mm; the model was trained on 1 mm"
    assert content["remarks"] == [{"kind": "spacing", "text": text}]
    assert content["held"] == []
    groups = hd.sr.srread(out / "measurements.dcm").content.get_volumetric_roi_measurement_groups()
    measured = {group.tracking_identifier: group.get_measurements()[0].value for group in groups}
    assert measured == content["volumes_ml"]


def test_the_packaged_application_does_the_same_without_the_checkout(finished, package, tmp_path):
    laid_out = execute([sys.executable, "-m", "deploy.layout", f"--package={package}", f"--output={tmp_path / 'map'}"])
    assert laid_out.returncode == 0, laid_out.stderr
    config = yaml.safe_load((tmp_path / "map/app/app.yaml").read_text())
    assert config["application"].keys() >= {"title", "version"}
    places = {"INPUT": finished.folder / "study", "OUTPUT": tmp_path / "out", "MODEL": tmp_path / "map/models"}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own |= {f"HOLOSCAN_{name}_PATH": str(path) for name, path in places.items()}
    own["SEGMENT_OPTIONS"] = f"--bundle_options={OPTIONS}"
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [sys.executable, str(tmp_path / "map/app")]
    alone = subprocess.run(words, cwd=empty, env=own, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    assert not list(empty.iterdir())
    for one, other in zip(segmentation(tmp_path / "out"), segmentation(finished.folder / "out"), strict=True):
        np.testing.assert_array_equal(one, other)
    content = json.loads((tmp_path / "out/result.json").read_text())
    assert content["volumes_ml"] == finished.content["volumes_ml"]


@pytest.fixture
def segment(models, tmp_path, monkeypatch):
    """Runs the application in this process, with the checkpoint of a layout."""
    monkeypatch.setattr(app, "exit_cleanly_on_signals", lambda: None)
    monkeypatch.setattr(app, "run_guarded", lambda work, *arguments: work(*arguments))

    def run(layout, study, **options):
        bundle, checkpoint = ROOT / f"bundles/{layout}_finetune", models[layout]
        app.segment(str(study), str(bundle), str(tmp_path / "out"), checkpoint=str(checkpoint), **options)

    return run


def test_a_preview_prints_choice_and_evidence_and_writes_nothing(segment, tmp_path, capsys):
    write_brats(tmp_path / "study", None, Study())
    segment("brats", tmp_path / "study", preview=True)
    printed = capsys.readouterr().out
    assert "SENTINEL" not in printed
    assert len([line for line in printed.splitlines() if line.startswith("series ")]) == 5
    assert "T1ce: series 3 (UID " in printed
    for file in (tmp_path / "study/3").iterdir():
        change(file, ContrastBolusAgent="", SeriesDescription="t1_mprage_tra")
    with pytest.raises(InputError, match="T1ce: no series states contrast agent in its name or header: series 3"):
        segment("brats", tmp_path / "study", preview=True)
    assert not (tmp_path / "out").exists()


def test_force_continues_with_a_remark_when_a_precondition_is_not_met(cohorts, segment, tmp_path, capsys):
    """The stroke model refuses a skull-stripped head with text."""
    study = Study()
    array, affine = read(next(cohorts("atlas", True).rglob("*_T1w.nii.gz")))
    write_modality(tmp_path / "study/2", array, affine, study, 2, "T1", shuffle=True, BurnedInAnnotation="YES")
    write_modality(tmp_path / "study/3", array, affine, study, 3, "T1ce")

    message = refusal(segment, "atlas", tmp_path / "study")
    assert message.endswith("Preconditions; --prepare prepares scans, --force continues anyway")
    assert list((tmp_path / "out").iterdir()) == []
    segment("atlas", tmp_path / "study", force=True, bundle_options=f"{OPTIONS} --cleanup=lesion=largest")
    lesion, _ = segmentation(tmp_path / "out")
    assert ndimage.label(lesion, np.ones((3, 3, 3)))[1] == 1
    assert_private(capsys.readouterr().out, tmp_path / "out")
    remarks = json.loads((tmp_path / "out/result.json").read_text())["remarks"]
    assert [remark["kind"] for remark in remarks[:2]] == ["precondition"] * 2
    assert "text is burned into its images" in remarks[0]["text"]
    assert "skull-stripped, but the model was trained on whole heads" in remarks[1]["text"]
    assert {"kind": "cleanup", "text": "Regions were cleaned up: lesion=largest"} in remarks
    results = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").glob("*.dcm"))]
    assert [image.get("BurnedInAnnotation") for image in results] == [None, "YES", "YES"]  # the first is no image


def test_results_in_doubt_are_whole_and_end_with_a_status_of_their_own(cohorts, segment, tmp_path, monkeypatch):
    """The name of the T1ce states contrast agent, its header does not. make_all has an additional entry, table."""
    write_brats(tmp_path / "study", cohorts("brats"), Study())
    for file in (tmp_path / "study/3").iterdir():
        change(file, ContrastBolusAgent="", SeriesDescription="t1 post contrast")
    monkeypatch.setattr("deploy.operator.infer", lambda _, scans, *__: (scans["T1"].array > 0).astype(np.uint8))
    monkeypatch.setattr("deploy.operator.make_all", lambda case: make_all(case) | {"table": make_summary(case)})
    out = tmp_path / "out"
    with monkeypatch.context() as patch:  # a signal before the last move
        patch.setattr(Path, "rename", lambda path, to: sys.exit(143) if to.name == "result.json" else path.replace(to))
        with pytest.raises(SystemExit, match="143"):
            segment("brats", tmp_path / "study")
    assert list(out.iterdir()) == []
    for name in ("foreign.dcm", "table.dcm"):
        (out / name).touch()
    assert "contains table.dcm" in refusal(segment, "brats", tmp_path / "study")
    assert {path.name for path in out.iterdir()} == {"foreign.dcm", "table.dcm"}
    (out / "table.dcm").unlink()
    with pytest.raises(SystemExit) as ended:
        segment("brats", tmp_path / "study")
    assert ended.value.code == 3
    assert {path.name for path in out.iterdir()} == RESULTS | {"foreign.dcm", "table.dcm"}
    report = json.loads((out / "result.json").read_text())
    assert len(report["held"]) == 1
    for name in ("segmentation", "measurements", "summary", "table"):
        assert pydicom.dcmread(out / f"{name}.dcm").SOPInstanceUID == report[name]["sop_instance_uid"]


def test_a_raw_head_is_prepared_and_its_segmentation_lies_on_the_series(cohorts, segment, tmp_path, monkeypatch):
    """The stroke model expects heads in MNI space; this head is turned, in sagittal slices. A mask of bright voxels
    replaces the inference."""
    array, affine = to_slices(*read(next(cohorts("atlas").rglob("*_T1w.nii.gz"))), axis=0, flip=True)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [10, -12, 6], degrees=True).as_matrix()
    turn[:3, 3] = [5, -30, 25]
    write_modality(tmp_path / "study", array, turn @ affine, Study(), 2, "T1", shuffle=True)
    bright = np.percentile(array, 75)
    monkeypatch.setattr("deploy.operator.infer", lambda _, scans, *__: (scans["T1"].array > bright).astype(np.uint8))

    segment("atlas", tmp_path / "study", prepare=True)
    result = segmentation(tmp_path / "out")
    truth = canonical(array > bright, turn @ affine)
    np.testing.assert_allclose(result[1], truth[1], atol=1e-3)
    assert dice(result[0] > 0, truth[0] > 0) > 0.9
    content = json.loads((tmp_path / "out/result.json").read_text())
    assert list(content["volumes_ml"].values()) == pytest.approx([result[0].sum() * 0.064], abs=1e-3)
    assert content["remarks"][0]["kind"] == "prepared"
    assert content["remarks"][0]["text"].endswith("head kept")
    assert content["preparation"]["figures"]["modalities"]["T1"]["coverage"] > 0.95
