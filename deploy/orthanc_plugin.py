"""Plug-in of Orthanc that runs deploy.app on each stable study; docs/how-to/run-in-a-hospital.md."""

import json
import subprocess
import tempfile
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import orthanc

settings = json.loads(orthanc.GetConfiguration())["BrainSegFounder"]
COMMAND, SEND_TO, REVIEW = (settings[key] for key in ("Command", "SendTo", "Review"))
changed: SimpleQueue[str] = SimpleQueue()


def on_change(change: int, level: int, resource: str) -> None:
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        for study in json.loads(orthanc.RestApiGet("/studies")):
            changed.put(study)
    elif change in (orthanc.ChangeType.STABLE_STUDY, orthanc.ChangeType.UPDATED_METADATA):
        changed.put(resource)


def segment(study: str, folder: Path) -> None:
    series = json.loads(orthanc.RestApiGet(f"/studies/{study}/series"))
    images = [key for item in series if item["MainDicomTags"].get("Modality") == "MR" for key in item["Instances"]]
    metadata = f"/studies/{study}/metadata"  # 4711: the number of MR images, and the outcome
    if not images or json.loads(orthanc.RestApiGet(f"{metadata}?expand")).get("4711", "").startswith(f"{len(images)} "):
        return
    (folder / "input").mkdir()
    for key in images:
        (folder / f"input/{key}.dcm").write_bytes(orthanc.GetDicomForInstance(key))
    command = ["setpriv", "--pdeathsig=TERM", *COMMAND, f"--input={folder}/input", f"--output={folder}/output"]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    outcome = f"failed: {run.stderr.strip().rpartition(chr(10))[2]}"
    if run.returncode in (0, 3):  # 3: held
        held = json.loads((folder / "output/result.json").read_text())["held"]
        outcome, node = (f"held: {'; '.join(held)}", REVIEW) if held else ("done", SEND_TO)
        answers = [orthanc.RestApiPost("/instances", path.read_bytes()) for path in (folder / "output").glob("*.dcm")]
        job = {"Resources": [json.loads(answer)["ID"] for answer in answers], "Synchronous": False}
        orthanc.RestApiPost(f"/modalities/{node}/store", json.dumps(job))  # a job survives a restart of Orthanc
    orthanc.RestApiPut(f"{metadata}/4711", f"{len(images)} {outcome}")


def work() -> None:
    while study := changed.get():
        with tempfile.TemporaryDirectory() as folder:
            try:
                segment(study, Path(folder))
            except Exception as error:
                orthanc.LogError(f"{study}: {type(error).__name__}")


orthanc.RegisterOnChangeCallback(on_change)
Thread(target=work, daemon=True).start()
