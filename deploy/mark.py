"""The mark of a study, stored with it in Orthanc: what the service has done with the study, and what comes next."""

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
    """What the service has done with a study.

    Attributes:
        pseudonym: random name of the study in the log; nothing of the patient is in it.
        images: digest of the MR images that it is about; others make the study new.
        step: what comes next: SEGMENT, DELIVER the results that are kept in Orthanc, or nothing (DONE).
        attempts: how often the step was tried, the one in progress included.
        due: time from which the step may be tried, in seconds since 1970.
        reason: why the last attempt failed.
        kept: digest of the series from which the kept results were made.
        delivered: the same of the results that were delivered last.
    """

    pseudonym: str
    images: str
    step: str = SEGMENT
    attempts: int = 0
    due: float = 0.0
    reason: str = ""
    kept: str = ""
    delivered: str = ""

    def text(self) -> str:
        """The mark as Orthanc stores it."""
        return json.dumps(asdict(self))

    def is_open(self, attempts: int) -> bool:
        """Whether there is something to do, and fewer than `attempts` attempts were made."""
        return self.step != DONE and self.attempts < attempts

    def begun(self) -> "Mark":
        """The mark during the next attempt: it counts even if the service is killed."""
        return replace(self, attempts=self.attempts + 1, reason="the service ended during this attempt")

    def failed(self, reason: str, now: float) -> "Mark":
        """The mark after an attempt that failed."""
        return replace(self, due=now + FIRST_WAIT * FACTOR ** (self.attempts - 1), reason=reason)

    def stopped(self) -> "Mark":
        """The mark after an attempt that a signal has stopped, which does not count."""
        return replace(self, attempts=max(self.attempts - 1, 0), reason="")

    def renewed(self) -> "Mark":
        """The mark before further attempts that someone has asked for; what is done is done anew."""
        if self.step == DONE:
            return Mark(self.pseudonym, self.images)
        return replace(self, attempts=0, due=0.0, reason="")

    def moved_to(self, step: str, **changes: str) -> "Mark":
        """The mark after a step that succeeded."""
        return replace(self, step=step, attempts=int(step != DONE), due=0.0, reason="", **changes)


def digest_of(words: Sequence[str]) -> str:
    """A digest by which to tell whether a list has changed."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def parsed(text: str | None) -> Mark | None:
    """The mark that a text holds; None if there is none, or if the service cannot have written it."""
    try:
        mark = Mark(**parse_json(text or "null"))
    except (TypeError, ValueError):
        return None
    kinds = {"attempts": int, "due": int | float}
    return mark if all(isinstance(value, kinds.get(name, str)) for name, value in vars(mark).items()) else None


def mark_of(text: str | None, images: str) -> Mark:
    """The mark of a study with these images; a new one if there is none, or one of other images.

    A mark that the service cannot have written counts as none: the study is segmented again.

    Args:
        text: as Orthanc stores it.
        images: digest of the study's MR images.
    """
    mark = parsed(text)
    if mark is None:
        return Mark(f"s{secrets.token_hex(4)}", images)  # python-fire reads text such as 1e234567 as a number
    return mark if mark.images == images else Mark(mark.pseudonym, images, delivered=mark.delivered)
