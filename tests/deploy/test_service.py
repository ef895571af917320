"""The service with a real Orthanc. Except in one test, a stand-in replaces deploy.app, which takes a minute."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests

from common.errors import InputError
from common.files import parse_json
from deploy import service, worker
from deploy.archive import Archive, ArchiveError
from deploy.job import DICOM_FILES
from deploy.mark import DELIVER, DONE, SEGMENT, parsed
from deploy.worker import Service, SharedError
from tests.common.dicom.checks import refusal
from tests.common.dicom.dicom_study import Study, write_brats, write_series
from tests.deploy.orthanc import READER, USER, WITH_ORTHANC, running_orthanc
from tests.support import ROOT, execute

pytestmark = WITH_ORTHANC
STAND_IN = [sys.executable, str(ROOT / "tests/deploy/stand_in_segmenter.py")]
DRIVER = f"""
import sys
from pathlib import Path
from deploy.archive import Archive
from deploy.process import exit_cleanly_on_signals
from deploy.worker import Service
exit_cleanly_on_signals()
url, user, password, work = sys.argv[1:]
Service(Archive(url, user, password), {STAND_IN!r}, Path(work), poll=0.2, settle=0).run()
"""
RESULTS = ["OT"] * len(DICOM_FILES)  # of the stand-in


class Hospital:
    """An Orthanc, and services that run a stand-in for the segmentation."""

    def __init__(self, pacs, folder):
        self.pacs, self.folder = pacs, folder
        self.url, self.user, self.password = f"http://127.0.0.1:{pacs.http}", USER, pacs.password
        self.archive = Archive(self.url, self.user, self.password, retries=0)
        self.work, self.runs = folder / "work", folder / "runs"
        self.work.mkdir()
        (folder / "password").write_text(f"{pacs.password}\n")

    def send(self, study, number=2, **attributes):
        """Send a series of a study."""
        folder = self.folder / f"sent-{study.identifier}-{number}"
        write_series(folder, np.ones((4, 4, 3)), np.eye(4), study, number, **{"SeriesDescription": "t1"} | attributes)
        self.pacs.send(folder)

    def receive(self, study, number=2, **attributes):
        """Send a series of a study, and wait until Orthanc considers the study complete."""
        self.send(study, number, **attributes)
        self.settle()

    def settle(self):
        """Wait until Orthanc considers all studies complete."""
        self.wait_until(lambda: all(study.stable for study in self.archive.studies()))

    def wait_until(self, condition):
        end = time.monotonic() + 600
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.05)

    def service(self, archive=None, work=None, **options):
        return Service(archive or self.archive, STAND_IN, work or self.work, poll=0.1, settle=0, **options)

    def start(self):
        """Start the service as a process."""
        arguments = [sys.executable, "-c", DRIVER, self.url, self.user, self.password, str(self.work)]
        return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def environment(self):
        """Return the environment variables with Orthanc's address and login."""
        password = self.folder / "password"
        return {"ORTHANC_URL": self.url, "ORTHANC_USER": self.user, "ORTHANC_PASSWORD_FILE": str(password)}

    def _runs(self):
        return [line.split() for line in self.runs.read_text().splitlines()] if self.runs.exists() else []

    def patients(self):
        """Return the patients of the stand-in's runs, in order."""
        return [patient for _, patient, _ in self._runs()]

    def replaced(self):
        """Return the number of earlier results that each run of the stand-in received."""
        return [int(number) for _, _, number in self._runs()]

    def stand_ins(self):
        """Return the process ids of the running stand-ins."""
        return [pid for pid, _, _ in self._runs() if Path("/proc", pid).exists()]

    def results(self, study):
        """Return the modalities of a study's results in Orthanc, by QIDO-RS."""
        series = self.pacs.query(f"studies/{study.study}/series")
        modalities = [attributes["00080060"]["Value"][0] for attributes in series]
        return sorted(modality for modality in modalities if modality != "MR")

    def marks(self):
        """Return the marks, in the order in which the studies arrived."""
        return [parsed(self.archive.mark(study.id)) for study in self.archive.studies()]


def patient(number):
    return Study(name=f"SENTINEL^{number}", identifier=f"SENTINEL-{number}")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """With the roles of compose.yaml."""
    roles = {"LuaScripts": [str(ROOT / "deploy/roles.lua")]}
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), StableAge=1, **roles) as pacs:
        yield pacs


@pytest.fixture
def hospital(orthanc, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    hospital = Hospital(orthanc, tmp_path)
    for name, value in hospital.environment().items():
        monkeypatch.setenv(name, value)
    yield hospital
    for study in hospital.archive.studies():
        url = f"{hospital.url}/studies/{study.id}"
        requests.delete(url, auth=(hospital.user, orthanc.password), timeout=60).raise_for_status()


def test_studies_are_done_in_order_and_a_broken_one_stops_none(hospital, capsys):
    """SECURITY.md: "anyone who may write there can have any study segmented"."""
    studies = broken, crashing, last = [patient(number) for number in range(1, 4)]
    for study, behaviour in ((broken, "refused"), (crashing, "crash"), (last, "t1")):
        hospital.send(study, SeriesDescription=behaviour)
        time.sleep(1)  # Orthanc notes the time of arrival in whole seconds
    hospital.settle()
    hospital.service(attempts=2).run(once=True)
    assert hospital.patients() == [study.identifier for study in studies]
    assert [hospital.results(study) for study in studies] == [[], [], RESULTS]
    assert [mark.step for mark in hospital.marks()].count(DONE) == 1

    hospital.settle()  # the results have arrived like any other series
    hospital.service().run(once=True)
    assert len(hospital.patients()) == 3

    log = capsys.readouterr()
    assert log.err == ""
    reasons = [line.split(": ", 1)[1] for line in log.out.splitlines()]
    assert "status 1: series 2: has no slice; expected one (" in reasons[0]
    assert "failed to segment, attempt 1 of 2, next in 60 s: status 1: no message (" in reasons[1]
    assert reasons[2].startswith("done (")
    identifiers = [stored.id for stored in hospital.archive.studies()]
    for study in studies:
        identifiers += [study.study, study.study[-8:], study.frame, study.name, study.identifier]
    assert not [word for word in [*identifiers, "SENTINEL", "19010203", "87654321"] if word in log.out]


def test_a_killed_service_leaves_nothing_undone_and_does_nothing_twice(hospital):
    first, second = patient(1), patient(2)
    hospital.send(first, SeriesDescription="slow")
    time.sleep(1)
    hospital.receive(second)
    process = hospital.start()
    hospital.wait_until(hospital.stand_ins)
    process.kill()
    process.wait()
    hospital.wait_until(lambda: not hospital.stand_ins())  # it ends with the service
    assert hospital.results(first) == hospital.results(second) == []
    assert hospital.marks()[0].attempts == 1

    (hospital.folder / "hurry").touch()
    hospital.service().run(once=True)
    assert hospital.patients() == [first.identifier, first.identifier, second.identifier]
    assert hospital.results(first) == hospital.results(second) == RESULTS
    assert {mark.step for mark in hospital.marks()} == {DONE}


@pytest.mark.parametrize(
    ("method", "part", "reason"),
    [
        (
            "GET",
            "series",
            "failed to segment, attempt 1 of 3, next in 60 s: Orthanc answers GET studies with status 404 (",
        ),
        ("GET", "metadata", "Orthanc does not keep the mark (metadata 4711), next attempt in 600 s"),
        ("PUT", "metadata", "Orthanc answers PUT studies with status 404, next attempt in 600 s"),
    ],
)
def test_a_study_whose_requests_orthanc_refuses_stops_no_other(hospital, capsys, method, part, reason):
    first, second = patient(1), patient(2)
    hospital.send(first)
    time.sleep(1)
    hospital.receive(second)
    orthanc_id = hospital.archive.studies()[0].id

    class Refusing(Archive):
        def _request(self, verb, path, **options):
            is_refused = verb == method and part in path
            return super()._request(verb, path.replace(orthanc_id, "0") if is_refused else path, **options)

    hospital.service(Refusing(hospital.url, hospital.user, hospital.password, retries=0)).run(once=True)
    assert (hospital.results(first), hospital.results(second)) == ([], RESULTS)
    assert re.search(rf"Z study s\w+: {re.escape(reason)}", capsys.readouterr().out)


def test_a_study_that_is_deleted_during_its_attempt_is_forgotten(hospital, monkeypatch, capsys):
    hospital.receive(patient(1))

    def delete(*_):
        (study,) = hospital.archive.studies()
        hospital.archive._request("DELETE", f"studies/{study.id}")

    monkeypatch.setattr(Service, "_call", delete)
    running = hospital.service()
    running.run(once=True)
    assert (running.digests, running.barred) == ({}, {})
    assert re.fullmatch(r"\S+Z study s\w+: deleted in Orthanc\n", capsys.readouterr().out)


def test_results_of_a_study_that_grows_during_its_attempt_are_not_delivered(hospital, monkeypatch, capsys):
    study, call = patient(1), Service._call
    hospital.receive(study)

    def grow(*arguments):
        if not hospital.patients():
            hospital.receive(study, number=1)
        call(*arguments)

    monkeypatch.setattr(Service, "_call", grow)
    hospital.service().run(once=True)
    assert (hospital.results(study), hospital.replaced()) == (RESULTS, [0, 0])
    first, second = [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert first.startswith("queued again, as MR images arrived during the attempt (")
    assert second.startswith("done (")
    hospital.settle()
    hospital.service().run(once=True)
    assert len(hospital.patients()) == 2


def test_a_signal_ends_the_service_also_if_orthanc_does_not_answer(hospital, monkeypatch):
    class Failing(Archive):
        def mark(self, study):
            if self.limit < 10:
                raise ArchiveError("Orthanc does not answer")
            return super().mark(study)

    hospital.receive(patient(1))
    monkeypatch.setattr(Service, "_call", lambda *_: sys.exit(143))
    with pytest.raises(SystemExit, match="143"):
        hospital.service(Failing(hospital.url, hospital.user, hospital.password)).run(once=True)


def test_damaged_results_are_made_again(hospital):
    person = patient(1)
    hospital.receive(person)
    hospital.service(send_to="none").run(once=True)
    (study,) = hospital.archive.studies()
    hospital.archive.keep(study.id, hospital.archive.kept(study.id).replace(b"PK\1\2", b"PK\1\3"))
    service.retry(hospital.marks()[0].pseudonym)
    hospital.settle()
    hospital.service(delete_replaced=True).run(once=True)
    assert (hospital.results(person), len(hospital.patients())) == (RESULTS, 2)


def test_the_service_waits_for_a_lost_work_folder(hospital, monkeypatch):
    """It is a file for a while, after the start."""
    aside, lines = hospital.folder / "aside", []

    class Losing(Archive):
        def last_change(self):
            if not lines:
                hospital.work.rename(aside)
                hospital.work.touch()
            return super().last_change()

    def log(line):
        lines.append(line)
        if line.startswith("--work"):
            hospital.work.unlink()
            aside.rename(hospital.work)

    monkeypatch.setattr(worker, "log", log)
    hospital.receive(patient(1))
    hospital.service(Losing(hospital.url, hospital.user, hospital.password)).run(once=True)
    assert lines[0].startswith(f"{hospital.work / 'metrics.prom'}: cannot be written: ")
    assert lines[1] == "--work: Not a directory"
    assert ": done (" in lines[2]


class Killed(BaseException):
    """The process ends, and no handler runs."""


class Dying(Archive):
    """Kills its service after `left` requests that change something in Orthanc."""

    left = 0

    def _request(self, method, path, **options):
        answer = super()._request(method, path, **options)
        if method != "GET" and not path.startswith("tools/"):
            self.left -= 1
            if self.left == 0:
                raise Killed
        return answer


def test_wherever_a_service_is_killed_each_study_gets_its_results_once(hospital):
    """The requests of a study are: mark, keep, mark, store, mark, drop. The first study is killed in four attempts.

    A service that follows a killed one begins with a mark, too.
    """
    studies = [patient(1), patient(2), patient(3)]
    for study in studies:
        hospital.send(study)
    hospital.settle()
    for requests_left in (1, 3, 4, 4, 5, 5):
        dying = Dying(hospital.url, hospital.user, hospital.password)
        dying.left = requests_left
        with pytest.raises(Killed):
            hospital.service(dying, attempts=9).run(once=True)
    hospital.settle()
    hospital.service(attempts=9).run(once=True)
    assert [hospital.results(study) for study in studies] == [RESULTS] * 3
    assert [(mark.step, mark.reason) for mark in hospital.marks()] == [(DONE, "")] * 3
    assert len(hospital.patients()) == 4, "the first one twice: its mark did not yet say that results were kept"


def test_sigterm_stops_the_segmentation_and_the_attempt_does_not_count(hospital):
    hospital.receive(patient(1), SeriesDescription="slow")
    process = hospital.start()
    hospital.wait_until(hospital.stand_ins)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(60) == 143
    assert time.monotonic() - began < 10
    assert not hospital.stand_ins()
    assert [(mark.step, mark.attempts) for mark in hospital.marks()] == [(SEGMENT, 0)]
    assert not list(hospital.work.glob(".unfinished-*"))
    assert "stopped by a signal" in process.stdout.read()


def test_a_study_that_takes_too_long_is_stopped(hospital):
    hospital.receive(patient(1), SeriesDescription="slow")
    hospital.service(time_limit=2).run(once=True)
    assert not hospital.stand_ins()
    assert [mark.reason for mark in hospital.marks()] == ["not done after 2 s, the limit for one study"]


def test_a_new_series_counts_only_if_it_changes_the_choice_and_its_results_replace_the_first(hospital, capsys):
    study, names = patient(1), set()
    for number, results, delete in ((5, 1, False), (6, 1, False), (3, 2, False), (2, 1, True)):
        hospital.receive(study, number=number)
        hospital.service(delete_replaced=delete).run(once=True)  # the stand-in takes the series with the lowest number
        assert hospital.results(study) == sorted(RESULTS * results)
        names |= {mark.pseudonym for mark in hospital.marks()}
    assert hospital.replaced() == [0, 3, 3, 6]
    log = [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines() if "replace" in line]
    assert log == [
        "the results replace 3 earlier objects, left in Orthanc",
        "the results replace 6 earlier objects, deleted in Orthanc",
    ]
    assert len(names) == 1


def test_studies_that_still_arrive_and_those_without_mr_are_left_alone(hospital, tmp_path):
    hospital.receive(patient(1), Modality="CT")
    with running_orthanc(tmp_path / "orthanc", StableAge=3600) as pacs:
        other = Hospital(pacs, tmp_path / "orthanc")
        other.send(patient(1))
        for site in (hospital, other):
            site.service().run(once=True)
            assert (hospital.patients(), site.marks()) == ([], [None])


def test_a_result_that_orthanc_refuses_is_noticed(hospital):
    hospital.send(patient(1))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.write(next(hospital.folder.rglob("*.dcm")), "1.dcm")
        archive.writestr("2.dcm", "not DICOM")
    with pytest.raises(ArchiveError, match="1 of 2 results"):
        hospital.archive.store(content.getvalue())


def test_a_reader_may_see_and_query_but_not_change_or_delete(hospital):
    """SECURITY.md: "lets only the service's user change or delete"."""
    hospital.receive(patient(1))
    (study,) = hospital.archive.studies()

    def status(method, path, **options):
        url = f"{hospital.url}/{path}"
        return requests.request(method, url, auth=(READER, hospital.password), timeout=60, **options).status_code

    path = f"studies/{study.id}"
    assert [status("GET", readable) for readable in (path, f"{path}/series", "dicom-web/studies")] == [200] * 3
    assert status("POST", "tools/find", json={"Level": "Study", "Query": {}}) == 200
    faked = {"X-HTTP-Method-Override": "DELETE"}
    refused = [status("DELETE", path), status("GET", f"{path}?_method=DELETE"), status("GET", path, headers=faked)]
    refused += [
        status("PUT", f"{path}/metadata/4711", data="{}"),
        status("POST", "tools/reset"),
        status("POST", "instances"),
    ]
    assert refused == [403] * 6
    assert len(hospital.archive.studies()) == 1


def test_results_wait_for_a_pacs_that_is_down(hospital, capsys):
    """The PACS is DCMTK's storescp. Its files have the UIDs of Orthanc's results."""
    study = patient(1)
    hospital.receive(study)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = {"AET": "PACS", "Host": "127.0.0.1", "Port": port}
    requests.put(f"{hospital.url}/modalities/pacs", json=node, auth=(hospital.user, hospital.password), timeout=10)
    hospital.service(send_to="pacs").run(once=True)
    (mark,) = hospital.marks()
    assert (mark.step, mark.attempts) == (DELIVER, 1)
    down = "DICOM node pacs: it is down or refuses connections (no answer to C-ECHO) ("
    assert f"failed to deliver, attempt 1 of 3, next in 60 s: {down}" in capsys.readouterr().out

    received = hospital.folder / "received"
    received.mkdir()
    pacs = subprocess.Popen(["storescp", "--output-directory", received, "--aetitle", "PACS", str(port)])
    try:
        service.retry(mark.pseudonym)
        assert capsys.readouterr().out == "studies to try again: 1\n"
        hospital.settle()
        hospital.service(send_to="pacs").run(once=True)
    finally:
        pacs.terminate()
        pacs.wait()
    assert len(hospital.patients()) == 1
    assert [mark.step for mark in hospital.marks()] == [DONE]
    uids = {str(pydicom.dcmread(path).SeriesInstanceUID) for path in received.iterdir()}
    stored = hospital.pacs.query(f"studies/{study.study}/series")
    assert uids == {series["0020000E"]["Value"][0] for series in stored if series["00080060"]["Value"][0] != "MR"}
    assert len(uids) == len(DICOM_FILES)


def test_a_second_service_is_refused_until_it_adopts_the_studies(hospital, tmp_path):
    """This includes a service that marks a study at the same moment: the later mark counts."""
    other = tmp_path / "other"
    other.mkdir()
    hospital.receive(patient(1))
    hospital.service().run(once=True)
    expected = rf"the service [^ ]+:{hospital.work} works on this Orthanc; .+ can take over with --adopt"
    with pytest.raises(SharedError, match=expected):
        hospital.service(work=other).run(once=True)
    hospital.service(work=other, adopt=True).run(once=True)
    with pytest.raises(SharedError):
        hospital.service().run(once=True)
    assert len(hospital.patients()) == 1

    class Late(Archive):
        def set_mark(self, study, text):
            super().set_mark(study, text)
            hospital.archive.set_mark(study, text.replace(str(other), "another"))

    hospital.receive(patient(2))
    with pytest.raises(SharedError):
        hospital.service(Late(hospital.url, hospital.user, hospital.password), work=other).run(once=True)
    assert len(hospital.patients()) == 1


def test_retry_mends_a_study_that_two_services_left_half_done(hospital):
    """The results are there twice, the mark says that kept ones are to be delivered, and none are kept."""
    study = patient(1)
    hospital.receive(study)
    hospital.service().run(once=True)
    (mark,) = hospital.marks()
    service.retry(mark.pseudonym)
    hospital.settle()
    hospital.service().run(once=True)
    assert hospital.results(study) == sorted(RESULTS * 2)
    (stored,) = hospital.archive.studies()
    hospital.archive.set_mark(stored.id, replace(mark, step=DELIVER, attempts=3, delivered="").text())
    service.retry(mark.pseudonym)
    hospital.settle()
    hospital.service(delete_replaced=True).run(once=True)
    assert (hospital.results(study), [mark.step for mark in hospital.marks()]) == (RESULTS, [DONE])


def test_doubtful_results_are_held_until_a_person_releases_them(hospital, capsys):
    study, clear = patient(1), patient(2)
    hospital.send(study, SeriesDescription="doubtful")
    hospital.receive(clear)
    hospital.service(hold=["contrast", "coverage"]).run(once=True)
    assert (hospital.results(study), hospital.results(clear)) == ([], RESULTS)
    capsys.readouterr()
    service.status(json=True)
    report = parse_json(capsys.readouterr().out)
    (held,) = report.pop("studies")
    assert report == {"queued": 0, "running": 0, "failed": 0, "given_up": 0, "held": 1, "done": 1}
    reason = "T1ce: series 2 was chosen by its name alone"
    assert held == {"study": held["study"], "state": "held", "attempts": 1, "reason": reason}

    with pytest.raises(InputError, match="unknown; expected a name from the log"):
        service.inspect("other", str(hospital.folder / "look"))
    assert not (hospital.folder / "look").exists()
    service.inspect(held["study"], str(hospital.folder / "look"))
    assert sorted(path.name for path in (hospital.folder / "look").iterdir()) == sorted(DICOM_FILES)
    service.release("held")
    hospital.settle()
    hospital.service(hold=["contrast"]).run(once=True)
    assert (hospital.results(study), len(hospital.patients())) == (RESULTS, 2)


def test_only_studies_scanned_since_a_day_are_segmented(hospital):
    """Without a date of its own, a study counts by the day on which it arrived."""
    for number, day in enumerate(("20251231", "20260101", "", "2026.01.02"), 1):
        hospital.send(patient(number), StudyDate=day)
    hospital.settle()
    hospital.service(since="20260101").run(once=True)
    assert sorted(hospital.patients()) == ["SENTINEL-2", "SENTINEL-3", "SENTINEL-4"]


def test_studies_that_were_given_up_are_counted_and_make_the_service_unhealthy(hospital, capsys):
    hospital.receive(patient(1), SeriesDescription="refused")
    hospital.service(attempts=1).run(once=True)
    with pytest.raises(SystemExit, match=r"^1$"):
        service.health(str(hospital.work))
    service.health(str(hospital.work), given_up=1)
    (mark,) = hospital.marks()
    service.release(mark.pseudonym, discard=True)
    service.health(str(hospital.work))
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[0].startswith("unhealthy: studies given up: 1")
    assert [line.split(" ")[0] for line in lines[1:]] == ["healthy:", "studies", "healthy:"]
    metrics = (hospital.work / "metrics.prom").read_text()
    assert 'brainsegfounder_attempts_total{outcome="given_up"} 1\n' in metrics
    assert 'brainsegfounder_studies{state="given_up"} 1\n' in metrics


def test_a_webhook_gets_failures_and_held_results_and_its_own_failure_stops_nothing(hospital, capsys):
    received, statuses = [], iter([204, 500, 302, 204])

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(parse_json(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(next(statuses))
            self.send_header("Location", "/")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Webhook) as webhook:
        threading.Thread(target=webhook.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{webhook.server_port}/key"
        for number, behaviour in enumerate(("refused", "doubtful", "doubtful", "t1"), 1):
            hospital.send(patient(number), SeriesDescription=behaviour)
            time.sleep(1)
        hospital.settle()
        hospital.service(alert=address, attempts=1, hold=["contrast"]).run(once=True)
        names = [mark.pseudonym for mark in hospital.marks()]
        for _ in range(2):
            with pytest.raises(SystemExit):
                service.health(str(hospital.work), alert=address)
        webhook.shutdown()
    service.release(names[0], discard=True)
    service.health(str(hospital.work), alert=address)
    (hospital.work / "heartbeat").unlink()
    with pytest.raises(SystemExit):
        service.health(str(hospital.work), alert=address)
    doubt = "T1ce: series 2 was chosen by its name alone"
    given_up = "studies given up: 1; status lists them, retry or release --discard settles them"
    assert received == [
        {"study": names[0], "state": "given_up", "reason": "status 1: series 2: has no slice; expected one"},
        {"study": names[1], "state": "held", "reason": doubt},
        {"study": names[2], "state": "held", "reason": doubt},
        {"state": "unhealthy", "reason": given_up},
    ]
    log = capsys.readouterr().out
    problems = [re.sub(r".*(--alert)", r"\1", line) for line in log.splitlines() if "--alert" in line]
    assert problems == [f"--alert: not delivered ({what})" for what in ("status 500", "status 302", "ConnectionError")]
    assert (len(hospital.patients()), "key" in log) == (4, False)
    assert refusal(service.health, str(hospital.work), alert="hooks/key").startswith(
        "--alert: expected an address such"
    )


def test_health_asks_the_service_and_orthanc(hospital, capsys):
    def unhealthy():
        with pytest.raises(SystemExit, match=r"^1$"):
            service.health(str(hospital.work))
        return capsys.readouterr().out

    hospital.service().run(once=True)
    service.health(str(hospital.work))
    assert capsys.readouterr().out.startswith("healthy: heartbeat ")
    password = (hospital.folder / "password").read_text()
    (hospital.folder / "password").write_text("wrong")
    refused = "Orthanc answers GET studies with status 401; see ORTHANC_USER and ORTHANC_PASSWORD_FILE"
    assert unhealthy() == f"unhealthy: {refused}\n"
    (hospital.folder / "password").write_text(password)
    os.utime(hospital.work / "heartbeat", (time.time() - 700,) * 2)
    assert re.fullmatch(r"unhealthy: no heartbeat for 7\d\d s\n", unhealthy())


def test_bad_options_are_refused_in_one_line(hospital, monkeypatch):
    monkeypatch.setattr(service, "exit_cleanly_on_signals", lambda: None)
    port = hospital.pacs.http
    assert refusal(service.page, port) == f"--port={port}: Address already in use; expected a free port"
    message = "--study=s00000000: unknown; expected a name from the log, or failed"
    assert refusal(service.retry, "s00000000") == message
    monkeypatch.setenv("ORTHANC_URL", "http://user:SENTINEL@orthanc")
    assert refusal(service._first_day, "soon").startswith("--since=soon: expected the first day of the scans")
    assert refusal(service._kinds, ("contrast", "spaces")).startswith(
        "--hold=contrast,spaces: expected none, or some of contrast,"
    )
    assert refusal(service.status).startswith("ORTHANC_URL: expected an address such as http://orthanc:8042")
    monkeypatch.setenv("ORTHANC_URL", "http://orthanc")
    monkeypatch.setenv("ORTHANC_PASSWORD_FILE", "/dev/zero")
    assert refusal(service.status).startswith("ORTHANC_PASSWORD_FILE=/dev/zero: not a regular file")
    password = hospital.folder / "password"
    monkeypatch.setenv("ORTHANC_PASSWORD_FILE", str(password))
    for text, what in (("\n", "empty"), ("a\nb\n", "several lines")):
        password.write_text(text)
        assert refusal(service.status).startswith(f"ORTHANC_PASSWORD_FILE={password}: {what}; expected a file with")
    password.write_text("a\n")
    message = refusal(service.serve, "/dev/null", "bundles", since="all")
    assert message.startswith("--work=/dev/null: not a regular file; expected a folder"), "before Orthanc is asked"


def test_the_command_segments_a_study_as_the_application_does(hospital, cohorts, models, capsys):
    """The only test here with deploy.app: its options arrive, and its segmentation is in Orthanc."""
    study = Study()
    write_brats(hospital.folder / "study", cohorts("brats"), study)
    hospital.pacs.send(hospital.folder / "study")
    hospital.settle()
    options = [
        f"--bundle={ROOT / 'bundles/brats_finetune'}",
        f"--checkpoint={models['brats']}",
        "--attempts=1",
        "--since=all",
    ]
    options += ["--bundle_options=--num_workers=0", f"--work={hospital.work}", "--once"]
    (hospital.work / "study-of-the-user").mkdir()
    result = execute([sys.executable, "-m", "deploy.service", "run", *options], **hospital.environment())
    assert result.returncode == 0, result.stderr
    assert len(hospital.results(study)) == len(DICOM_FILES), result.stdout
    assert (hospital.work / "study-of-the-user").is_dir(), "it has removed only temporary folders"
    waiting, done = result.stdout.splitlines()
    assert waiting.endswith("Z waiting for studies")
    assert f"study {hospital.marks()[0].pseudonym}: done (" in done
    assert "SENTINEL" not in result.stdout + result.stderr
    assert study.study[-8:] not in result.stdout + result.stderr
    service.status()
    assert capsys.readouterr().out == "0 queued, 0 running, 0 failed, 0 given up, 0 held, 1 done\n"
