"""The service: `python -m deploy.service run --bundle=BUNDLE --work=DIR --since=DATE`."""

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from json import dumps
from pathlib import Path

from common.cli import Command, run
from common.dicom.remarks import KINDS
from common.errors import InputError, check_number, show
from common.files import atomic_write
from common.literals import names_of
from common.locks import claimed
from common.values import FILE, FOLDER, flag
from deploy.alert import check_address, send_alert
from deploy.archive import RETRIES, Archive, ArchiveError, results_in
from deploy.job import prepare_output
from deploy.login import login
from deploy.mark import HOLD, STATES, Mark, parsed
from deploy.process import exit_cleanly_on_signals, restrict_output, run_guarded
from deploy.worker import HEARTBEAT, PREFIX, Service, log, studies_to_segment

SINCE = os.environ.get("ORTHANC_SINCE", "")
ALERT, ALERTED = os.environ.get("ORTHANC_ALERT", ""), "alerted"  # ALERTED: file in --work while unhealthy
SILENCE = 600.0  # seconds without a heartbeat that count as failure


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
    since: str = SINCE,
    hold: str | Sequence[str] = "contrast,coverage",
    delete_replaced: bool = False,
    adopt: bool = False,
    alert: str = ALERT,
) -> None:
    """Segment the MR studies that Orthanc has received completely, one after another; store the results in Orthanc.

    The environment variables ORTHANC_URL, ORTHANC_USER and ORTHANC_PASSWORD_FILE give Orthanc's address and the login.

    Args:
        work: folder for the heartbeat and temporary files, with patients' images while a study is segmented.
        bundle: folder of brats_finetune or atlas_finetune, with weights; by default the variable HOLOSCAN_MODEL_PATH.
        checkpoint: file of weights; by default models/model.pt of the bundle.
        reference: modality whose series gives the grid of the result; by default as deploy.app chooses.
        bundle_options: additional options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        prepare: prepare raw scans for the model.
        send_to: DICOM node that also receives the results, such as a PACS, by its name in Orthanc's configuration; by
            default the variable ORTHANC_SEND_TO, else none.
        time_limit: seconds for the segmentation of one study.
        attempts: number of attempts at a study; the waits between attempts are 1 minute, 10 minutes, and so on.
        once: exit when no study can be tried now.
        since: first day of the scans to segment, such as 2026-11-25, or all; by default the variable ORTHANC_SINCE.
        hold: kinds of remarks that hold results until a person releases them; "none" holds none.
        delete_replaced: delete earlier results of a study in Orthanc once new ones that replace them are delivered.
        adopt: take over the studies of a stopped service on this Orthanc.
        alert: address that gets a POST of JSON when a study fails, is given up or is held; by default the variable
            ORTHANC_ALERT, else none.
    """
    exit_cleanly_on_signals()
    check_number("time_limit", time_limit, float, 1)
    check_number("attempts", attempts, int, 1)
    once, prepare = flag("once", once), flag("prepare", prepare)
    delete_replaced, adopt = flag("delete_replaced", delete_replaced), flag("adopt", adopt)
    kinds, first_day, alert = _kinds(hold), _first_day(since), check_address(str(alert))
    if shutil.which("setpriv") is None:
        raise InputError("setpriv: not installed; expected Linux with util-linux")
    archive, folder = _open(), Path(FOLDER.parse("work", work))
    with claimed("work", folder):
        command = _command(bundle, checkpoint, reference, bundle_options, prepare)
        nodes = archive.modalities()
        if send_to and str(send_to) not in nodes:
            raise InputError(f"--send_to={send_to}: expected one of Orthanc's DicomModalities: {', '.join(nodes)}")
        for leftover in folder.glob(f"{PREFIX}*"):  # of a killed service
            shutil.rmtree(leftover, ignore_errors=True)
        log("waiting for studies" + (f" scanned on {since} or later" if first_day else ""))
        service = Service(
            archive,
            command,
            folder,
            str(send_to),
            time_limit,
            attempts,
            since=first_day,
            hold=kinds,
            delete_replaced=delete_replaced,
            adopt=adopt,
            alert=alert,
        )
        service.run(once)


def _first_day(since: str) -> str:
    """Return the option `--since` as YYYYMMDD, or "" for `all`; raise an InputError for an invalid date."""
    try:
        return "" if str(since) == "all" else f"{date.fromisoformat(str(since)):%Y%m%d}"
    except ValueError:
        raise InputError(
            f"--since={since}: expected the first day of the scans to segment, such as 2026-11-25, or all"
        ) from None


def _kinds(hold: str | Sequence[str]) -> list[str]:
    """Return the option `--hold` as a list of remark kinds; empty for `none`."""
    words = names_of(hold)
    kinds = [] if words == ["none"] else words
    if not set(kinds) <= set(KINDS):
        raise InputError(f"--hold={','.join(words)}: expected none, or some of {','.join(KINDS)}")
    return kinds


def _command(bundle: str, checkpoint: str, reference: str, bundle_options: str, prepare: bool) -> list[str]:
    """Return the application's command line; raise an InputError for an option that is invalid for every study."""
    if not str(bundle).strip():
        raise InputError("--bundle: missing; it has no default")
    run_guarded(_check_model, bundle, checkpoint, reference, bundle_options)  # a process, to free PyTorch's memory
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
    """Return a client of the Orthanc server in the environment variables."""
    return Archive(*login("ORTHANC_URL", "ORTHANC_USER", "ORTHANC_PASSWORD_FILE"), retries)


def health(work: str, given_up: int = 0, alert: str = ALERT) -> None:
    """Exit with status 0 if the service is alive, Orthanc answers and no study was given up, else with 1 and a reason.

    Args:
        work: folder of the service.
        given_up: number of given-up studies to tolerate.
        alert: address that gets one POST of JSON when the service becomes unhealthy, and no more until it recovers; by
            default the variable ORTHANC_ALERT.
    """
    check_number("given_up", given_up, int, 0)
    alert, alerted = check_address(str(alert)), Path(FOLDER.parse("work", work)) / ALERTED
    archive = _open(retries=0)
    trouble = ""
    try:
        age = time.time() - alerted.with_name(HEARTBEAT).stat().st_mtime
        lost = [mark for study in archive.studies() if (mark := parsed(study.mark)) and mark.state == "given_up"]
        if abs(age) > SILENCE:  # below 0 after the clock was set back
            trouble = f"no heartbeat for {age:.0f} s"
        elif len(lost) > given_up:
            trouble = f"studies given up: {len(lost)}; status lists them, retry or release --discard settles them"
    except OSError:
        trouble = "no heartbeat"
    except ArchiveError as error:
        trouble = str(error)
    show(f"unhealthy: {trouble}" if trouble else f"healthy: heartbeat {age:.0f} s ago")
    if trouble:
        problem = "" if alerted.exists() else send_alert(alert, state="unhealthy", reason=trouble)
        if problem:
            show(problem)
        elif alert:
            with suppress(OSError):
                alerted.touch()
        raise SystemExit(1)
    with suppress(OSError):
        alerted.unlink()


def status(json: bool = False, since: str = SINCE) -> None:
    """Print the number of studies by state, and the reason for each failed or held study.

    Args:
        json: print one JSON object.
        since: first day of the scans that the service segments; by default the variable ORTHANC_SINCE, else all.
    """
    as_json, marks = flag("json", json), _marks(_open(retries=1), _first_day(since or "all"))
    counts = Counter(mark.state for mark in marks)
    listed = [mark for mark in marks if mark.reason]
    if as_json:
        studies = [
            {"study": mark.pseudonym, "state": mark.state, "attempts": mark.attempts, "reason": mark.reason}
            for mark in listed
        ]
        show(dumps({state: counts[state] for state in STATES} | {"studies": studies}))
        return
    show(", ".join(f"{counts[state]} {state.replace('_', ' ')}" for state in STATES))
    for mark in listed:
        state = mark.state.replace("_", " ")
        show(f"study {mark.pseudonym}: {state}, to {mark.step}, attempt {mark.attempts}: {mark.reason}")


def _marks(archive: Archive, first_day: str) -> list[Mark]:
    return [mark for _, mark in studies_to_segment(archive, first_day, {})]


def retry(study: str) -> None:
    """Reset the attempts of studies. Held and finished studies are segmented again, other studies repeat their step.

    Args:
        study: name of a study in the log, or `failed` for all failed, given-up and running studies.
    """
    show(_retry(_open(retries=1), study))


def _retry(archive: Archive, study: str) -> str:
    chosen = _chosen(archive, study, "failed", "given_up", "running")
    for name, mark in chosen.items():
        archive.set_mark(name, mark.renewed().text())
    return f"studies to try again: {len(chosen)}"


def inspect(study: str, output: str) -> None:
    """Write the held results of a study to a folder for review. The results identify the patient.

    Args:
        study: name of a study in the log.
        output: folder without results; it is created if missing.
    """
    archive = _open(retries=1)
    folder = Path(FOLDER.parse("output", output))
    results = _held_results(archive, study)
    prepare_output(folder)
    for name, content in results.items():
        with atomic_write(folder / name) as file:
            file.write_bytes(content)
    show(f"wrote {', '.join(results)}")


def _held_results(archive: Archive, study: str) -> dict[str, bytes]:
    """Return the held results of a study by file name; raise an InputError if the results are missing or damaged."""
    name, mark = next(iter(_chosen(archive, study).items()))
    if mark.step != HOLD:
        raise InputError(f"--study={study}: no held results; `status` lists the held studies")
    if not (results := results_in(archive.kept(name) or b"")):
        raise InputError(f"--study={study}: its results in Orthanc are lost or damaged; `retry` segments it again")
    return results


def release(study: str, discard: bool = False) -> None:
    """Let the service deliver the held results of a study, or close the study without results.

    Args:
        study: name of a study in the log, or `held` for all held studies.
        discard: discard the results; also closes a study that was given up.
    """
    show(_release(_open(retries=1), study, flag("discard", discard)))


def _release(archive: Archive, study: str, discard: bool = False) -> str:
    chosen = _chosen(archive, study, "held")
    for mark in chosen.values():
        if mark.state != "held" and not (discard and mark.state == "given_up"):
            raise InputError(f"--study={study}: {mark.state}; expected a held study")
    for name, mark in chosen.items():
        archive.set_mark(name, mark.released(discard).text())
        if discard:
            archive.drop(name)
    return f"studies {'closed without results' if discard else 'to deliver'}: {len(chosen)}"


def page(port: int = 8043, since: str = SINCE) -> None:
    """Serve a page on this machine: failed and held studies, the summaries of held results, buttons to settle them.

    Args:
        port: port on 127.0.0.1; 0 picks a free port.
        since: first day of the scans that the service segments; by default the variable ORTHANC_SINCE, else all.
    """
    exit_cleanly_on_signals()
    check_number("port", port, int, 0, 65535)
    first_day, archive = _first_day(since or "all"), _open(retries=1)
    archive.last_change()  # refuses a wrong address or login
    from deploy.page import Page  # imports pydicom

    actions = {
        "retry": partial(_retry, archive),
        "release": partial(_release, archive),
        "discard": partial(_release, archive, discard=True),
    }
    try:
        server = Page(
            port,
            look=partial(_marks, archive, first_day),
            results=partial(_held_results, archive),
            actions=actions,
        )
    except OSError as error:
        raise InputError(f"--port={port}: {error.strerror}; expected a free port") from None
    with server:
        show(server.address)
        server.serve_forever()


def _chosen(archive: Archive, study: str, word: str = "", *states: str) -> dict[str, Mark]:
    """Find the study with this name in the log; return Orthanc's id -> mark. Raise an InputError if there is none.

    If `study` is `word`, return all studies in the states `word` and `states` instead, possibly none.
    """
    marks = {stored.id: mark for stored in archive.studies() if (mark := parsed(stored.mark))}
    if word and str(study) == word:
        return {name: mark for name, mark in marks.items() if mark.state in (word, *states)}
    chosen = {name: mark for name, mark in marks.items() if mark.pseudonym == str(study)}
    if not chosen:
        raise InputError(f"--study={study}: unknown; expected a name from the log" + (f", or {word}" if word else ""))
    return chosen


COMMANDS: dict[str, Command] = {
    "run": serve,
    "health": health,
    "status": status,
    "retry": retry,
    "inspect": inspect,
    "release": release,
    "page": page,
}

if __name__ == "__main__":
    run(COMMANDS, "deploy.service", confidential=restrict_output)
