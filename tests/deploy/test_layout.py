"""The packaged application, without the checkout, on a folder as Mercure writes it: the segmentation of deploy.app."""

import json
import os
import subprocess
import sys

import highdicom as hd
import pydicom
import pytest
import yaml

from deploy.inference import MONAI_BUNDLE
from tests.deploy.dicom.dicom_study import Study, write_brats
from tests.support import ROOT, execute

OPTIONS = "--bundle_options=--num_workers=0"


def test_the_bundle_and_the_work_load_nothing_of_the_sdk():
    for code in (MONAI_BUNDLE, "import sys; sys.modules['monai.deploy'] = None; import deploy.work, deploy.app"):
        ended = execute([sys.executable, "-X", "importtime", "-c", code, "--help"])
        assert "monai.bundle" in ended.stderr
        assert "holoscan" not in ended.stderr


@pytest.mark.slow
def test_the_application_alone_segments_as_the_checkout_does(cohorts, package, tmp_path):
    write_brats(tmp_path / "study", cohorts("brats"), Study())
    received, empty = tmp_path / "received", tmp_path / "empty"
    for folder in (received, empty):
        folder.mkdir()
    for path in (tmp_path / "study").rglob("*.dcm"):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        name = f"{image.SeriesInstanceUID}#{image.SOPInstanceUID}"
        path.rename(received / f"{name}.dcm")
        (received / f"{name}.tags").write_text(
            json.dumps({"Modality": "MR", "SeriesInstanceUID": str(image.SeriesInstanceUID)})
        )
    (received / "task.json").write_text(json.dumps({"id": "1", "info": {"uid": "1"}, "process": {"module_name": "a"}}))

    laid_out = execute([sys.executable, "-m", "deploy.layout", f"--package={package}", f"--output={tmp_path / 'map'}"])
    assert laid_out.returncode == 0, laid_out.stderr
    config = yaml.safe_load((tmp_path / "map/app/app.yaml").read_text())
    assert config["application"].keys() >= {"title", "version"}
    assert not (tmp_path / "map/app/common").exists()
    places = {"INPUT": received, "OUTPUT": tmp_path / "alone", "MODEL": tmp_path / "map/models"}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own |= {f"HOLOSCAN_{name}_PATH": str(path) for name, path in places.items()} | {"SEGMENT_OPTIONS": OPTIONS}
    words = [sys.executable, str(tmp_path / "map/app")]
    alone = subprocess.run(words, cwd=empty, env=own, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    assert not list(empty.iterdir())

    options = [
        f"--input={received}",
        f"--bundle={ROOT / 'bundles/brats_finetune'}",
        f"--output={tmp_path / 'checkout'}",
    ]
    options.append(f"--checkpoint={package / 'models/model.pt'}")
    beside = execute([sys.executable, "-m", "deploy.app", *options, OPTIONS])
    assert beside.returncode == 0, beside.stderr
    ours, theirs = (hd.seg.segread(tmp_path / name / "segmentation.dcm") for name in ("alone", "checkout"))
    assert ours.PixelData == theirs.PixelData
    assert ours.PerFrameFunctionalGroupsSequence == theirs.PerFrameFunctionalGroupsSequence
    assert [segment.SegmentLabel for segment in ours.SegmentSequence] == [
        item.SegmentLabel for item in theirs.SegmentSequence
    ]
    volumes = [
        json.loads((tmp_path / name / "result.json").read_text())["volumes_ml"] for name in ("alone", "checkout")
    ]
    assert volumes[0] == volumes[1] != {}
