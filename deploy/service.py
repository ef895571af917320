"""The service: `python -m deploy.service run --bundle=BUNDLE --work=DIR`; see README.md in this folder.

It segments the studies that Orthanc receives one by one, in a separate process each, and stores the results in Orthanc.
Its state is a mark on each study in Orthanc (mark.py), so it can be killed at any time.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.cli import run
from common.errors import InputError, check_number, show
from common.files import parse_json
from common.locks import claimed
from common.values import FILE, FOLDER, flag
from deploy.archive import RETRIES, Archive, ArchiveError, StoredStudy
from deploy.job import REPORT
from deploy.mark import DELIVER, DONE, SEGMENT, Mark, digest_of, mark_of, parsed
from deploy.process import exit_cleanly_on_signals, restrict_output, run_guarded

HEARTBEAT = "heartbeat"  # file in --work
BEAT, SILENCE = 5.0, 600.0  # seconds between heartbeats during a segmentation; silence that counts as failure
LOOK = 600.0  # seconds between looks at all studies, even if Orthanc reports no change
GRACE = 20.0  # seconds between SIGTERM and SIGKILL
ROOT = Path(__file__).resolve().parents[1]  # where `python -m deploy.app` runs
ACCEPTS = "expected an Orthanc that accepts ORTHANC_USER and its password"
PREFIX = "study-"  # of the folders of single studies


class AttemptError(Exception):
    """A failed segmentation; the message does not identify the study."""


@dataclass
class Service:
    """The loop over the studies in Orthanc.

    `command` segments a study from `--input` to `--output` and exits with 0 if all results exist.
    """

    archive: Archive
    command: Sequence[str]
    work: Path
    send_to: str = ""  # DICOM node in Orthanc's configuration
    time_limit: float = 7200.0  # seconds for the segmentation of one study
    attempts: int = 3  # for each step of a study
    poll: float = 10.0  # seconds between queries to Orthanc

    def run(self, once: bool = False) -> None:
        """Work until this process is stopped; with `once`, until no study can be tried now."""
        seen, next_look, trouble = -1, 0.0, ""
        while True:
            self._beat()
            try:
                last = self.archive.last_change()
                task = None
                if last != seen or time.time() >= next_look:
                    task, next_look = self._next()
                    seen = last
                if task is not None:
                    self._work_on(*task)
                    seen = -1
                    continue
                trouble = ""
                if once:
                    return
            except (ArchiveError, KeyError, TypeError) as error:  # KeyError, TypeError: an incomplete answer
                message = str(error) if isinstance(error, ArchiveError) else "Orthanc's answer is not as expected"
                if message != trouble:
                    log(message)
                trouble = message
                seen = -1
            time.sleep(self.poll)

    def _beat(self) -> None:
        (self.work / HEARTBEAT).touch()

    def _next(self) -> tuple[tuple[StoredStudy, list[str], Mark] | None, float]:
        """The next study to try, if any, and the time of the next full look at all studies."""
        now = time.time()
        next_look = now + LOOK
        for study in self.archive.studies():
            if not study.stable or not (images := self.archive.images(study.id)):
                continue
            mark = mark_of(self.archive.mark(study.id), digest_of(images))
            if mark.is_open(self.attempts):
                if mark.due <= now:
                    return (study, images, mark), now
                next_look = min(next_look, mark.due)
        return None, next_look

    def _work_on(self, study: StoredStudy, images: list[str], mark: Mark) -> None:
        """Try a study once; update its mark and the log."""
        began = time.monotonic()
        mark = mark.begun()
        try:
            self.archive.set_mark(study.id, mark.text())
            if mark.step == SEGMENT:
                mark = self._segment(study, images, mark)
                self.archive.set_mark(study.id, mark.text())
            if mark.step == DELIVER:
                mark = self._deliver(study, mark)
                self.archive.set_mark(study.id, mark.text())
                self.archive.drop(study.id)
        except (AttemptError, ArchiveError, OSError, KeyError, TypeError, ValueError) as error:
            mark = mark if mark.step == DONE else mark.failed(_reason(error), time.time())
            self.archive.set_mark(study.id, mark.text())
        except (SystemExit, KeyboardInterrupt):  # a signal
            self.archive.set_mark(study.id, mark.stopped().text())
            log(f"study {mark.pseudonym}: stopped by a signal")
            raise
        outcome = "done"
        if mark.step != DONE:
            more = f"next in {mark.due - time.time():.0f} s" if mark.is_open(self.attempts) else "given up"
            outcome = f"failed to {mark.step}, attempt {mark.attempts} of {self.attempts}, {more}: {mark.reason}"
        log(f"study {mark.pseudonym}: {outcome} ({time.monotonic() - began:.0f} s)")

    def _segment(self, study: StoredStudy, images: list[str], mark: Mark) -> Mark:
        """Segment a study and keep the results in Orthanc, unless the last results came from the same series."""
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=self.work) as temporary:
            folder = Path(temporary)
            self.archive.fetch(images, folder / "input")
            self._beat()
            self._call(folder)
            sources = parse_json((folder / "output" / REPORT).read_bytes())["sources"]
            source = digest_of([f"{name} {value}" for name, value in sorted(sources.items())])
            if source == mark.delivered:
                return mark.moved_to(DONE)
            self.archive.keep(study.id, _packed(folder / "output"))
        return mark.moved_to(DELIVER, kept=source)

    def _deliver(self, study: StoredStudy, mark: Mark) -> Mark:
        """Store the kept results in Orthanc and send them to the PACS. Their UIDs stay the same on every attempt."""
        instances = self.archive.store(self.archive.kept(study.id))
        if self.send_to:
            self.archive.send(self.send_to, instances)
        return mark.moved_to(DONE, delivered=mark.kept)

    def _call(self, folder: Path) -> None:
        """Run the command from `folder`/input to `folder`/output. It gets SIGTERM whenever this process ends."""
        options = [f"--input={folder / 'input'}", f"--output={folder / 'output'}"]
        with (folder / "messages").open("w+b") as messages:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig=TERM", *self.command, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                start_new_session=True,
            )
            try:
                status = self._wait_for(process)
            finally:
                _stop(process)
            messages.seek(0)
            text = messages.read().decode(errors="replace")
        if status != 0:
            errors = [line for line in text.splitlines() if line.startswith("error: ")]
            what = errors[-1].removeprefix("error: ") if errors else "no message"
            raise AttemptError(f"status {status}: {what}")

    def _wait_for(self, process: subprocess.Popen[bytes]) -> int:
        end = time.monotonic() + self.time_limit
        while (left := end - time.monotonic()) > 0:
            try:
                return process.wait(min(BEAT, left))
            except subprocess.TimeoutExpired:
                self._beat()
        raise AttemptError(f"not done after {self.time_limit:.0f} s, the limit for one study")


def log(text: str) -> None:
    """Print a line with the time. The text must not identify a patient or a study."""
    show(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def _reason(error: Exception) -> str:
    """The reason of a failure in one line without parts of UIDs.

    Unexpected exceptions give only their type, since their messages may quote header values.
    """
    if isinstance(error, AttemptError | ArchiveError):
        return re.sub(r" \(UID [^)]*\)", "", str(error))[:500]
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _packed(folder: Path) -> bytes:
    """The DICOM files of a folder as a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.glob("*.dcm")):
            archive.write(path, path.name)
    return content.getvalue()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a running process by SIGTERM, which lets deploy.app clean up, then by SIGKILL."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serve(
    work: str,
    bundle: str = os.environ.get("HOLOSCAN_MODEL_PATH", ""),
    checkpoint: str = "",
    reference: str = "",
    bundle_options: str = "",
    prepare: bool = False,
    send_to: str = os.environ.get("ORTHANC_SEND_TO", ""),
    time_limit: float = 7200,
    attempts: int = 3,
    once: bool = False,
) -> None:
    """Segment the MR studies that Orthanc has received completely, one after another; store the results in Orthanc.

    The variables ORTHANC_URL, ORTHANC_USER and ORTHANC_PASSWORD_FILE say where Orthanc is, and as whom to ask it.

    Args:
        work: folder for temporary files, which hold patients' images while a study is segmented, and for the heartbeat.
        bundle: folder of brats_finetune or atlas_finetune, with weights. In a container HOLOSCAN_MODEL_PATH.
        checkpoint: file of weights; by default models/model.pt of the bundle.
        reference: modality whose series gives the grid of the result; by default T1ce for tumours, T1 for strokes.
        bundle_options: additional options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        prepare: prepare raw scans for the model.
        send_to: name of a DICOM node in Orthanc's configuration that gets the results, too, such as a PACS; by default
            the variable ORTHANC_SEND_TO, else none.
        time_limit: seconds for the segmentation of one study.
        attempts: how often a study is tried; the waits between attempts are 1 minute, 10 minutes, and so on.
        once: end when no study is left that can be tried now.
    """
    restrict_output()
    exit_cleanly_on_signals()
    check_number("time_limit", time_limit, float, 1)
    check_number("attempts", attempts, int, 1)
    once, prepare = flag("once", once), flag("prepare", prepare)
    if shutil.which("setpriv") is None:
        raise InputError("setpriv: not installed; expected Linux with util-linux")
    archive = _open()
    command = _command(bundle, checkpoint, reference, bundle_options, prepare)
    try:
        known = archive.modalities()
    except ArchiveError as error:
        raise InputError(f"ORTHANC_URL: {error}; {ACCEPTS}") from None
    if send_to and str(send_to) not in known:
        raise InputError(f"--send_to={send_to}: expected a name of Orthanc's DicomModalities: {', '.join(known)}")
    folder = Path(FOLDER.parse("work", work))
    with claimed("work", folder):
        for left in folder.glob(f"{PREFIX}*"):  # left by a killed service
            shutil.rmtree(left, ignore_errors=True)
        log("waiting for studies")
        Service(archive, command, folder, str(send_to), time_limit, attempts).run(once)


def _command(bundle: str, checkpoint: str, reference: str, bundle_options: str, prepare: bool) -> list[str]:
    """The application's command line, after checking everything that does not depend on a study."""
    if not str(bundle).strip():
        raise InputError("--bundle: missing; it has no default")
    run_guarded(_check_model, bundle, checkpoint, reference, bundle_options)  # frees PyTorch's memory
    values = {
        "bundle": Path(FOLDER.parse("bundle", bundle)).resolve(),
        "checkpoint": Path(FILE.parse("checkpoint", checkpoint)).resolve() if checkpoint else "",
        "reference": reference,
        "bundle_options": bundle_options,
        "prepare": prepare or "",
    }
    return [sys.executable, "-m", "deploy.app", *(f"--{name}={value}" for name, value in values.items() if value != "")]


def _check_model(bundle: str, checkpoint: str, reference: str, bundle_options: str) -> None:
    from deploy.app import open_model  # imports PyTorch

    open_model(bundle, checkpoint, reference, bundle_options)


def _open(retries: int = RETRIES) -> Archive:
    """A client of the Orthanc that the environment names."""
    names = ("ORTHANC_URL", "ORTHANC_USER", "ORTHANC_PASSWORD_FILE")
    url, user, password_file = (os.environ.get(name, "") for name in names)
    if missing := next((name for name in names if not os.environ.get(name)), None):
        raise InputError(f"{missing}: missing; expected it in the environment")
    if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", url):
        raise InputError("ORTHANC_URL: expected an address such as http://orthanc:8042, without user and password")
    try:
        password = Path(password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"ORTHANC_PASSWORD_FILE={password_file}: {what}; expected a file with the password") from None
    return Archive(url, user, password, retries)


def health(work: str) -> None:
    """End with status 0 if the service is alive and Orthanc answers, else with status 1 and a line that says why.

    Args:
        work: folder of the service.
    """
    restrict_output()
    archive = _open(retries=0)
    try:
        age = time.time() - (Path(FOLDER.parse("work", work)) / HEARTBEAT).stat().st_mtime
        trouble = f"unhealthy: no heartbeat for {age:.0f} s" if age > SILENCE else ""
        archive.last_change()
    except OSError:
        trouble = "unhealthy: no heartbeat"
    except (ArchiveError, KeyError, TypeError) as error:
        trouble = f"unhealthy: {_reason(error)}"
    show(trouble or f"healthy: heartbeat {age:.0f} s ago")
    if trouble:
        raise SystemExit(1)


def status() -> None:
    """Count the studies that are done, to do and given up; a line for each that has failed says why."""
    restrict_output()
    marks = list(_marks(_open(retries=1)).values())
    done = sum(mark.step == DONE for mark in marks)
    show(f"{done} done, {len(marks) - done} not done")
    for mark in marks:
        if mark.step != DONE and mark.reason:
            show(f"study {mark.pseudonym}: to {mark.step}, after {mark.attempts} attempts: {mark.reason}")


def retry(study: str) -> None:
    """Let the service try studies again, with as many attempts as for new ones; what is done is segmented anew.

    Args:
        study: name of a study in the log, or `failed` for all that have failed.
    """
    restrict_output()
    archive = _open(retries=1)
    marks = _marks(archive)
    if str(study) == "failed":
        chosen = {name: mark for name, mark in marks.items() if mark.step != DONE and mark.reason}
    else:
        chosen = {name: mark for name, mark in marks.items() if mark.pseudonym == str(study)}
        if not chosen:
            raise InputError(f"--study={study}: no such study; expected a name of the log, or failed")
    for name, mark in chosen.items():
        archive.set_mark(name, mark.renewed().text())
    show(f"studies to try again: {len(chosen)}")


def _marks(archive: Archive) -> dict[str, Mark]:
    """The marks of all studies, by Orthanc's id."""
    try:
        found = {study.id: parsed(archive.mark(study.id)) for study in archive.studies()}
    except ArchiveError as error:
        raise InputError(f"ORTHANC_URL: {error}; {ACCEPTS}") from None
    return {name: mark for name, mark in found.items() if mark}


if __name__ == "__main__":
    run({"run": serve, "health": health, "status": status, "retry": retry}, "deploy.service", confidential=True)
