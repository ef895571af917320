"""A stand-in for deploy.app, which takes a minute: three small results from the MR images of a folder.

The description of the first image says how it behaves: `refused` fails, `doubtful` gives a remark that holds the
results, `slow` ends in its second run.
"""

import json
import sys
import time
from pathlib import Path

import pydicom
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

runs = Path(sys.argv[1])
folders = dict(option.removeprefix("--").split("=", 1) for option in sys.argv[2:])
source, output = Path(folders["input"]), Path(folders["output"])
image = pydicom.dcmread(next(source.iterdir()), stop_before_pixels=True)
with runs.open("a") as file:
    file.write(f"{image.SeriesDescription} {len([*source.iterdir()])}\n")
if image.SeriesDescription == "slow" and runs.read_text().count("slow") == 1:
    time.sleep(600)
if image.SeriesDescription == "refused":
    sys.exit("error: a slice is missing")
output.mkdir()
for name in ("segmentation", "measurements", "summary"):
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.SeriesInstanceUID, image.Modality, image.Manufacturer = generate_uid(), "OT", "BrainSegFounder bundles"
    image.save_as(output / f"{name}.dcm")
held = ["T1ce: its name states contrast agent, its header does not"] if image.SeriesDescription == "doubtful" else []
(output / "result.json").write_text(json.dumps({"held": held}))
sys.exit(3 if held else 0)
