"""The loop of the service (service.py has its commands).

The service segments the studies in Orthanc one by one, each in a separate process, and stores the results there. All
progress is in a mark on each study in Orthanc (mark.py), so the service can be killed at any time.
"""

import io
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from common.environment import child_environment
from common.errors import InputError, ending_of, show
from common.files import atomic_write, parse_json
from deploy.alert import send_alert
from deploy.archive import MARK, Archive, ArchiveError, RefusedError, StoredStudy
from deploy.job import REPORT
from deploy.mark import DELIVER, DONE, HOLD, OUTCOMES, RUNNING, SEGMENT, Mark, digest_of, mark_of, parsed

HEARTBEAT, METRICS = "heartbeat", "metrics.prom"  # files in --work
BEAT = 5.0  # seconds between heartbeats during a segmentation
LOOK = 600.0  # seconds between checks of all studies, even if Orthanc reports no change
GRACE = 20.0  # seconds between SIGTERM and SIGKILL
FAREWELL = 5  # seconds for a request after a signal
PREFIX = ".unfinished-study-"  # of the temporary folder of a study


class AttemptError(Exception):
    """A failed segmentation; the message does not identify the study."""


class SharedError(InputError):
    """Another service works on the same Orthanc."""


@dataclass
class Service:
    """The service: a loop that segments the studies in Orthanc one after another.

    `command` is a command line that segments the study in `--input` and exits with status 0 if all results exist in
    `--output`.
    """

    archive: Archive
    command: Sequence[str]
    work: Path
    send_to: str = ""  # DICOM node in Orthanc's configuration
    time_limit: float = 7200.0  # seconds for the segmentation of one study
    attempts: int = 3  # for each step of a study
    poll: float = 10.0  # seconds between queries to Orthanc
    since: str = ""  # YYYYMMDD, first day of the scans to segment
    hold: Collection[str] = ()  # kinds of remarks that a person must see before the results are delivered
    delete_replaced: bool = False
    adopt: bool = False  # take over the studies of another service
    alert: str = ""  # address of a webhook for failed and held studies
    settle: float = 2.0  # seconds to wait for the mark of a second service on a new study
    digests: dict[str, tuple[str, str]] = field(default_factory=dict)  # by study: last update, digest of its images
    barred: dict[str, float] = field(default_factory=dict)  # by study: end of the wait after a refused mark
    counts: Counter[str] = field(default_factory=Counter)  # of attempts by their outcome

    @property
    def owner(self) -> str:
        """Name of this service in the marks."""
        return f"{socket.gethostname()}:{self.work.resolve()}"

    def run(self, once: bool = False) -> None:
        """Work until this process is stopped; with `once`, until no study can be tried now.

        Raises SharedError if another service works on the same Orthanc.
        """
        seen, next_look, trouble, started = -1, 0.0, "", False
        while True:
            try:
                self._beat()
                if not started:
                    self._start()
                started = True
                last = self.archive.last_change()
                task = None
                if last != seen or not next_look - LOOK <= time.time() < next_look:  # the clock may be set back
                    task, next_look = self._next()
                    seen = last
                if task is not None:
                    self._work_on(*task)
                    seen = -1
                    continue
                trouble = ""
                if once:
                    return
            except (InputError, OSError) as error:
                if isinstance(error, SharedError) or not (started or isinstance(error, ArchiveError)):
                    raise
                problem = str(error) if isinstance(error, InputError) else f"--work: {reason_of(error)}"
                if problem != trouble:
                    log(problem)
                trouble, seen = problem, -1
            time.sleep(self.poll)

    def _beat(self) -> None:
        (self.work / HEARTBEAT).touch()

    def _start(self) -> None:
        """With `adopt`, take over the studies of other services; without `adopt`, raise SharedError if there are any.

        Attempts that a killed service left in progress are marked as failed.
        """
        marks = {study.id: mark for study in self.archive.studies() if (mark := parsed(study.mark))}
        for mark in () if self.adopt else marks.values():
            self._check_owner(mark)
        for name, mark in marks.items():
            reason = "the service ended during this attempt" if mark.reason == RUNNING else mark.reason
            if (owned := replace(mark, owner=self.owner, reason=reason)) != mark:
                self.archive.set_mark(name, owned.text())
        self._write_metrics(Counter())  # fails early if the folder is not writable

    def _check_owner(self, mark: Mark | None) -> None:
        if mark is not None and mark.owner not in ("", self.owner):
            raise SharedError(
                f"ORTHANC_URL: the service {mark.owner} works on this Orthanc; "
                f"after it has stopped, {self.owner} can take over with --adopt"
            )

    def _set_mark(self, study: StoredStudy, mark: Mark | None = None) -> None:
        """Mark a study; without `mark`, only check the existing mark.

        Raise SharedError if another service has marked the study, and RefusedError if Orthanc has no valid mark of it.
        """
        if mark is not None:
            self._check_owner(parsed(self.archive.mark(study.id)))
            self.archive.set_mark(study.id, mark.text())
        stored = parsed(self.archive.mark(study.id))
        self._check_owner(stored)
        if stored is None:
            raise RefusedError(f"Orthanc does not keep the mark (metadata {MARK})")

    def _next(self) -> tuple[tuple[StoredStudy, Mark] | None, float]:
        """Return the next study to try and its mark, or None; also return the time of the next check of all studies."""
        now = time.time()
        next_look, states, task = now + LOOK, Counter[str](), None
        for study, mark in studies_to_segment(self.archive, self.since, self.digests):
            self._check_owner(mark)
            states[mark.state] += 1
            if study.stable and mark.is_open:
                due = max(mark.next_attempt(now), self.barred.get(study.id, now))
                next_look = min(next_look, due)
                task = task or ((study, mark) if due <= now else None)
        self._write_metrics(states)
        return task, next_look

    def _work_on(self, study: StoredStudy, mark: Mark) -> None:
        """Try a study once. If Orthanc refuses the mark, bar the study for `LOOK` seconds or, if deleted, forget it."""
        try:
            self._try(study, mark)
        except RefusedError as error:
            if self.archive.has(study.id):
                self.barred[study.id] = time.time() + LOOK
                log(f"study {mark.pseudonym}: {error}, next attempt in {LOOK:.0f} s")
            else:
                self.digests.pop(study.id, None)
                log(f"study {mark.pseudonym}: deleted in Orthanc")

    def _try(self, study: StoredStudy, mark: Mark) -> None:
        """Try a study once; update its mark, the log and the counts."""
        began, is_new = time.monotonic(), parsed(study.mark) is None
        mark = mark.begun(self.owner, self.attempts)
        try:
            self._set_mark(study, mark)
            if is_new:
                time.sleep(self.settle)
                self._set_mark(study)
            kept = self.archive.kept(study.id) if mark.step == DELIVER else None
            if mark.step == DELIVER and kept is None:  # the results are lost
                mark = replace(mark, step=SEGMENT)
            if mark.step == SEGMENT:
                mark, kept = self._segment(study, mark)
                self._set_mark(study, mark)
            if mark.step == DELIVER and kept is not None:
                mark = self._deliver(study, mark, kept)
                self._set_mark(study, mark)
                self.archive.drop(study.id)
        except SharedError:
            raise
        except (AttemptError, ArchiveError, OSError, KeyError, TypeError, ValueError) as error:
            mark = mark if mark.step == DONE else mark.failed(reason_of(error), time.time())
            self._set_mark(study, mark)
        except (SystemExit, KeyboardInterrupt):  # a signal
            self.archive.limit = FAREWELL
            with suppress(ArchiveError):
                self._set_mark(study, mark.stopped())
            log(f"study {mark.pseudonym}: stopped by a signal")
            raise
        outcome = mark.state
        if mark.step == HOLD:
            outcome = f"held for review: {mark.reason}"
        elif mark.state == "queued":
            outcome = "queued again, as MR images arrived during the attempt"
        elif mark.step != DONE:
            more = f"next in {mark.due - time.time():.0f} s" if mark.is_open else "given up"
            outcome = f"failed to {mark.step}, attempt {mark.attempts} of {mark.limit}, {more}: {mark.reason}"
        self.counts[mark.state] += 1
        log(f"study {mark.pseudonym}: {outcome} ({time.monotonic() - began:.0f} s)")
        if mark.reason:
            problem = send_alert(self.alert, study=mark.pseudonym, state=mark.state, reason=mark.reason)
            if problem:
                log(problem)

    def _segment(self, study: StoredStudy, mark: Mark) -> tuple[Mark, bytes | None]:
        """Segment a study and keep the results in Orthanc; return the next mark and the results as a zip archive.

        Nothing is kept, and None is returned for the results, if the delivered results came from the same series, or if
        MR images arrived during the attempt, which then does not count.
        """
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=self.work) as temporary:
            folder = Path(temporary)
            images = self.archive.images(study.id)
            mark = replace(mark, images=digest_of(images))  # the digest may lack images of the same second
            self.archive.fetch(images, folder / "input")
            replaced = self.archive.results(study.id)
            if replaced:
                self.archive.fetch(replaced, folder / "replaced")
            self._beat()
            self._call(folder, [f"--replaces={folder / 'replaced'}"] if replaced else [])
            if self.archive.images(study.id) != images:
                return mark.stopped(), None
            report = parse_json((folder / "output" / REPORT).read_bytes())
            source = digest_of([f"{name} {value}" for name, value in sorted(report["sources"].items())])
            if source == mark.delivered:
                return mark.moved_to(DONE), None
            kept = _packed(folder / "output")
        self._set_mark(study)
        self.archive.keep(study.id, kept)
        reasons = [remark["text"] for remark in report["remarks"] if remark["kind"] in self.hold]
        return mark.moved_to(HOLD if reasons else DELIVER, kept=source, reason=_without_uids("; ".join(reasons))), kept

    def _deliver(self, study: StoredStudy, mark: Mark, kept: bytes) -> Mark:
        """Store the kept results in Orthanc; if configured, send them to the PACS and delete the replaced results.

        The UIDs of the results are the same on every attempt. Return the mark of a finished study.
        """
        instances = self.archive.store(kept)
        if self.send_to:
            self.archive.send(self.send_to, instances)
        replaced = sorted({*self.archive.results(study.id)} - {*instances})
        if self.delete_replaced:
            self.archive.delete(replaced)
        if replaced:
            fate = "deleted in Orthanc" if self.delete_replaced else "left in Orthanc"
            log(f"study {mark.pseudonym}: the results replace {len(replaced)} earlier objects, {fate}")
        return mark.moved_to(DONE, delivered=mark.kept)

    def _write_metrics(self, states: Counter[str]) -> None:
        """Write the counts in Prometheus's text format, for the textfile collector of its node exporter."""
        lines = ["# HELP brainsegfounder_attempts_total Attempts since the service started, by outcome."]
        lines += ["# TYPE brainsegfounder_attempts_total counter"]
        lines += [f'brainsegfounder_attempts_total{{outcome="{name}"}} {self.counts[name]}' for name in OUTCOMES]
        lines += ["# HELP brainsegfounder_studies Studies by state.", "# TYPE brainsegfounder_studies gauge"]
        lines += [f'brainsegfounder_studies{{state="{state}"}} {states[state]}' for state in ("queued", *OUTCOMES)]
        with atomic_write(self.work / METRICS) as file:
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _call(self, folder: Path, options: list[str]) -> None:
        """Run the command from `folder`/input to `folder`/output; raise an AttemptError if it fails.

        The command gets SIGTERM whenever this process ends.
        """
        options = [f"--input={folder / 'input'}", f"--output={folder / 'output'}", *options]
        with (folder / "messages").open("w+b") as messages:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig=TERM", *self.command, *options],
                env=child_environment(),
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
        if status < 0:
            raise AttemptError(f"the segmentation {ending_of(status)}")
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


def studies_to_segment(
    archive: Archive, since: str, cache: dict[str, tuple[str, str]]
) -> Iterator[tuple[StoredStudy, Mark]]:
    """Yield the studies with MR images, the least recently updated first, each with its mark.

    A study without a mark is left out if it is incomplete or was scanned before `since`, YYYYMMDD. `cache` keeps the
    last update of each study and the digest of its images, so that images are listed again only after a change.
    A study is included even if Orthanc refuses to list its images: the attempt then reports the refusal.
    """
    for study in archive.studies():
        if study.mark is None and (not study.stable or study.scanned < since):
            continue
        if cache.get(study.id, (None,))[0] != study.updated:
            try:
                images = archive.images(study.id)
            except RefusedError:
                yield study, parsed(study.mark) or mark_of(None, "")
                continue
            cache[study.id] = study.updated, digest_of(images) if images else ""
        if digest := cache[study.id][1]:
            yield study, mark_of(study.mark, digest)


def log(text: str) -> None:
    """Print a line with the time. The text must not identify a patient or a study."""
    show(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def reason_of(error: Exception) -> str:
    """Return the reason of a failure in one line, without UIDs.

    Unexpected exceptions give only their type, since their messages may quote header values.
    """
    if isinstance(error, AttemptError | ArchiveError):
        return _without_uids(str(error))
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _without_uids(text: str) -> str:
    return re.sub(r" \(UID [^)]*\)", "", text)[:500]


def _packed(folder: Path) -> bytes:
    """Return the DICOM files of a folder as a zip archive."""
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
