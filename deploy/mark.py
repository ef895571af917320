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
FIRST_WAIT, FACTOR = 60.0, 10  # seconds until the second attempt; each further wait is this many times as long


@dataclass(frozen=True)
class Mark:
    """The service's progress on a study, stored in Orthanc."""

    pseudonym: str  # random name of the study in the log, unrelated to the patient
    images: str  # digest of the MR images; if they change, the study counts as new
    step: str = SEGMENT  # next step: SEGMENT, HOLD (the kept results, for a person), DELIVER (them) or DONE
    attempts: int = 0  # at this step, the current attempt included
    due: float = 0.0  # earliest time of the next attempt, seconds since 1970
    reason: str = ""  # of the last failure, or for holding the results
    kept: str = ""  # digest of the series from which the kept results were made
    delivered: str = ""  # digest of the series from which the delivered results were made
    owner: str = ""  # the service that works on the study: its machine and folder
    limit: int = 3  # attempts at each step

    def text(self) -> str:
        """The mark as Orthanc stores it."""
        return json.dumps(asdict(self))

    @property
    def is_open(self) -> bool:
        """Whether the service has to do the next step, and may try."""
        return self.step in (SEGMENT, DELIVER) and self.attempts < self.limit

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.step in (HOLD, DONE):
            return "held" if self.step == HOLD else "done"
        if self.reason == RUNNING:
            return "running"
        return "given_up" if not self.is_open else "failed" if self.reason else "queued"

    def next_attempt(self, now: float) -> float:
        """Time of the next attempt; `now` also if `due` is beyond any wait, as after the clock was set back."""
        return self.due if now < self.due <= now + self._wait else now

    @property
    def _wait(self) -> float:
        return FIRST_WAIT * FACTOR ** min(max(self.attempts - 1, 0), 9)  # seconds after a failed attempt

    def begun(self, owner: str, limit: int) -> "Mark":
        """The mark during the next attempt, which counts even if the service is killed."""
        return replace(self, attempts=self.attempts + 1, reason=RUNNING, owner=owner, limit=limit)

    def failed(self, reason: str, now: float) -> "Mark":
        """The mark after a failed attempt."""
        return replace(self, due=now + self._wait, reason=reason)

    def stopped(self) -> "Mark":
        """The mark after a signal stopped an attempt, which then does not count."""
        return replace(self, attempts=max(self.attempts - 1, 0), reason="")

    def renewed(self) -> "Mark":
        """The mark after a user requested further attempts; a study with results is segmented again."""
        if self.step in (HOLD, DONE):
            return Mark(self.pseudonym, self.images, owner=self.owner)
        return replace(self, attempts=0, due=0.0, reason="")

    def released(self, discard: bool) -> "Mark":
        """The mark after a person saw the held results: to be delivered, or the study closed without results."""
        return replace(self, step=DONE if discard else DELIVER, attempts=0, due=0.0, reason="")

    def moved_to(self, step: str, **changes: Any) -> "Mark":
        """The mark after a successful step."""
        return replace(self, **{"step": step, "attempts": int(step != DONE), "due": 0.0, "reason": "", **changes})


def digest_of(words: Sequence[str]) -> str:
    """A digest that detects changes of a list."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def parsed(text: str | None) -> Mark | None:
    """The mark in a text; None if there is no text or the service cannot have written it."""
    try:
        mark = Mark(**parse_json(text or "null"))
    except (TypeError, ValueError):
        return None
    numbers, texts = (mark.attempts, mark.due, mark.limit), (mark.pseudonym, mark.images, mark.reason, mark.owner)
    valid = all(isinstance(each, int | float) for each in numbers) and all(isinstance(each, str) for each in texts)
    return mark if valid and mark.step in (SEGMENT, HOLD, DELIVER, DONE) else None


def mark_of(text: str | None, images: str) -> Mark:
    """The mark of a study with these images; a new mark if the text is missing, invalid or about different images."""
    mark = parsed(text)
    if mark is None:
        return Mark(f"s{secrets.token_hex(4)}", images)  # python-fire reads text such as 1e234567 as a number
    same = mark.images == images
    return mark if same else Mark(mark.pseudonym, images, delivered=mark.delivered, owner=mark.owner)
