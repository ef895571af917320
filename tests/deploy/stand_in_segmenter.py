"""A stand-in for deploy.app, which takes a minute: three small results from the MR images of a folder.

The description of the first image says how it behaves: `refused` and `crash` fail, `slow` waits until it is stopped,
`doubtful` gives a remark. Each run adds a line to the file that the variable RUNS names.
"""

import json
import os
import sys
import time
from pathlib import Path

import pydicom
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

MANUFACTURER = "BrainSegFounder bundles"
OUTPUTS = Path(__file__).parents[2] / "deploy/outputs"
folders = dict(option.removeprefix("--").split("=", 1) for option in sys.argv[1:])
source, output = Path(folders["input"]), Path(folders["output"])
images = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(source.iterdir())]
first = min(images, key=lambda image: image.SeriesNumber)
with Path(os.environ["RUNS"]).open("a") as file:
    replaced = [*Path(folders["replaces"]).iterdir()] if "replaces" in folders else []
    file.write(f"{os.getpid()} {first.PatientID} {len(replaced)}\n")
behaviour = first.SeriesDescription
if behaviour == "refused":
    sys.exit("error: series 2 (UID ...87654321): has no slice; expected one")
if behaviour == "crash":
    sys.exit(first.PatientName)
while behaviour == "slow" and not Path(os.environ["RUNS"]).with_name("hurry").exists():
    time.sleep(0.05)
output.mkdir()
for name in [module.stem for module in OUTPUTS.glob("[!_]*.py")]:
    result = pydicom.dcmread(min(source.iterdir()), stop_before_pixels=True)
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    result.SOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    result.SeriesInstanceUID = generate_uid()
    result.Modality, result.Manufacturer = "OT", MANUFACTURER
    result.save_as(output / f"{name}.dcm")
chosen = [image for image in images if image.SeriesNumber == first.SeriesNumber]
sources = {"T1": {"series_uid": first.SeriesInstanceUID, "images": len(chosen)}}
doubt = [{"kind": "contrast", "text": "T1ce: series 2 (UID ...87654321) was chosen by its name alone"}]
remarks = [{"kind": "spacing", "text": "voxels of 4 mm"}, *(doubt if behaviour == "doubtful" else [])]
(output / "result.json").write_text(json.dumps({"sources": sources, "remarks": remarks}))
