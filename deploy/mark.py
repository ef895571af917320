"""The mark that Orthanc stores with each study: the service's progress and the next step."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from common.files import parse_json

SEGMENT, DELIVER, DONE = "segment", "deliver", "done"
FIRST_WAIT, FACTOR = 60.0, 10  # seconds until the second attempt; each further wait is this many times as long


@dataclass(frozen=True)
class Mark:
    """The service's progress on a study, stored in Orthanc."""

    pseudonym: str  # random name of the study in the log, unrelated to the patient
    images: str  # digest of the MR images; if they change, the study counts as new
    step: str = SEGMENT  # next step: SEGMENT, DELIVER (the kept results) or DONE
    attempts: int = 0  # at this step, the current attempt included
    due: float = 0.0  # earliest time of the next attempt, seconds since 1970
    reason: str = ""  # of the last failure
    kept: str = ""  # digest of the series from which the kept results were made
    delivered: str = ""  # digest of the series from which the delivered results were made

    def text(self) -> str:
        """The mark as Orthanc stores it."""
        return json.dumps(asdict(self))

    def is_open(self, attempts: int) -> bool:
        """Whether a step is left and fewer than `attempts` attempts were made."""
        return self.step != DONE and self.attempts < attempts

    def begun(self) -> "Mark":
        """The mark during the next attempt, which counts even if the service is killed."""
        return replace(self, attempts=self.attempts + 1, reason="the service ended during this attempt")

    def failed(self, reason: str, now: float) -> "Mark":
        """The mark after a failed attempt."""
        return replace(self, due=now + FIRST_WAIT * FACTOR ** (self.attempts - 1), reason=reason)

    def stopped(self) -> "Mark":
        """The mark after a signal stopped an attempt, which then does not count."""
        return replace(self, attempts=max(self.attempts - 1, 0), reason="")

    def renewed(self) -> "Mark":
        """The mark after a user requested further attempts; a finished study is segmented again."""
        if self.step == DONE:
            return Mark(self.pseudonym, self.images)
        return replace(self, attempts=0, due=0.0, reason="")

    def moved_to(self, step: str, **changes: str) -> "Mark":
        """The mark after a successful step."""
        return replace(self, step=step, attempts=int(step != DONE), due=0.0, reason="", **changes)


def digest_of(words: Sequence[str]) -> str:
    """A digest that detects changes of a list."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def parsed(text: str | None) -> Mark | None:
    """The mark in a text; None if there is no text or the service cannot have written it."""
    try:
        return Mark(**parse_json(text or "null"))
    except (TypeError, ValueError):
        return None


def mark_of(text: str | None, images: str) -> Mark:
    """The mark of a study with these images; a new mark if the text is missing, invalid or about different images."""
    mark = parsed(text)
    if mark is None:
        return Mark(f"s{secrets.token_hex(4)}", images)  # python-fire reads text such as 1e234567 as a number
    return mark if mark.images == images else Mark(mark.pseudonym, images, delivered=mark.delivered)
