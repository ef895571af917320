"""The mark that Orthanc stores with each study: the service's progress and the next step."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from common.files import parse_json

SEGMENT, HOLD, DELIVER, DONE = "segment", "hold", "deliver", "done"
OUTCOMES = ("failed", "given_up", "held", "done")  # of an attempt
STATES = ("queued", "running", *OUTCOMES)
RUNNING = "an attempt is in progress"
FIRST_WAIT, FACTOR = 60.0, 10  # seconds before the second attempt; growth factor of later waits


@dataclass(frozen=True)
class Mark:
    """The service's progress on a study, stored in Orthanc."""

    pseudonym: str  # random name of the study in the log, unrelated to the patient
    images: str  # digest of the MR images; if they change, the study counts as new
    step: str = SEGMENT  # next step: SEGMENT, HOLD (results wait for a person), DELIVER or DONE
    attempts: int = 0  # at this step, the current attempt included
    due: float = 0.0  # earliest time of the next attempt, seconds since 1970
    reason: str = ""  # of the last failure, or for holding the results; RUNNING during an attempt
    kept: str = ""  # digest of the series from which the kept results were made
    delivered: str = ""  # digest of the series from which the delivered results were made
    owner: str = ""  # machine and folder of the service that works on the study
    limit: int = 3  # attempts at each step

    def text(self) -> str:
        """Return the mark as JSON, as Orthanc stores it."""
        return json.dumps(asdict(self))

    @property
    def is_open(self) -> bool:
        """Whether the service will still try the study: steps and attempts are left."""
        return self.step in (SEGMENT, DELIVER) and self.attempts < self.limit

    @property
    def state(self) -> str:
        """State of the study, such as queued or held; one of `STATES`."""
        if self.step in (HOLD, DONE):
            return "held" if self.step == HOLD else "done"
        if self.reason == RUNNING:
            return "running"
        return "given_up" if not self.is_open else "failed" if self.reason else "queued"

    def next_attempt(self, now: float) -> float:
        """Return the time of the next attempt: `due`, or `now` if `due` has passed or the clock was set back."""
        return self.due if now < self.due <= now + self._wait else now

    @property
    def _wait(self) -> float:
        return FIRST_WAIT * FACTOR ** min(max(self.attempts - 1, 0), 9)  # seconds after a failed attempt

    def begun(self, owner: str, limit: int) -> "Mark":
        """Return the mark for a new attempt, which counts even if the service is killed."""
        return replace(self, attempts=self.attempts + 1, reason=RUNNING, owner=owner, limit=limit)

    def failed(self, reason: str, now: float) -> "Mark":
        """Return the mark after a failed attempt."""
        return replace(self, due=now + self._wait, reason=reason)

    def stopped(self) -> "Mark":
        """Return the mark after an interrupted attempt, which does not count."""
        return replace(self, attempts=max(self.attempts - 1, 0), reason="")

    def renewed(self) -> "Mark":
        """Return the mark after a user requested further attempts; a held or finished study is segmented again."""
        if self.step in (HOLD, DONE):
            return Mark(self.pseudonym, self.images, owner=self.owner)
        return replace(self, attempts=0, due=0.0, reason="")

    def released(self, discard: bool) -> "Mark":
        """Return the mark after a review of the held results: they are delivered or, with `discard`, discarded."""
        return replace(self, step=DONE if discard else DELIVER, attempts=0, due=0.0, reason="")

    def moved_to(self, step: str, **changes: Any) -> "Mark":
        """Return the mark after a successful step: `step` is next, and `changes` are values of further fields."""
        return replace(self, **{"step": step, "attempts": int(step != DONE), "due": 0.0, "reason": "", **changes})


def digest_of(words: Sequence[str]) -> str:
    """Return the SHA-256 digest of a list of texts, in their order."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def parsed(text: str | None) -> Mark | None:
    """Parse a mark; None if the text is missing or invalid."""
    try:
        mark = Mark(**parse_json(text or "null"))
    except (TypeError, ValueError):
        return None
    numbers = ("attempts", "due", "limit")
    valid = all(isinstance(value, int | float if name in numbers else str) for name, value in asdict(mark).items())
    return mark if valid and mark.step in (SEGMENT, HOLD, DELIVER, DONE) else None


def mark_of(text: str | None, images: str) -> Mark:
    """Return the mark in `text`, or a new mark if the text is missing or invalid, or if the digest `images` differs."""
    mark = parsed(text)
    if mark is None:
        return Mark(f"s{secrets.token_hex(4)}", images)  # python-fire reads text such as 1e234567 as a number
    same = mark.images == images
    return mark if same else Mark(mark.pseudonym, images, delivered=mark.delivered, owner=mark.owner)
