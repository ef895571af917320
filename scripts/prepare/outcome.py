"""Outcomes of preparing a subject or resampling a label map; imports nothing slow."""

from dataclasses import dataclass

RECORD = "prepare.json"


@dataclass(frozen=True)
class Outcome:
    """The outcome of preparing a subject or resampling a label map.

    A subject is left out of the datalist until the user accepts its quality figures outside the limits.

    Attributes:
        name: subject.
        is_new: whether it was done now, and not by an earlier command.
        outside: descriptions of the quality figures outside their limits.
        is_accepted: whether the user accepted them.
        may_be_right: whether they are so near their limits that the picture can decide.
        fault: reason for a failure, if any.
        remarks: lines on orientations and skull stripping.
        seconds: time taken; 0 if unknown.
    """

    name: str
    is_new: bool = False
    outside: tuple[str, ...] = ()
    is_accepted: bool = False
    may_be_right: bool = False
    fault: str = ""
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        time_taken = f" in {self.seconds:.0f} s" if self.seconds else ""
        done = f"done{time_taken}" if self.is_new else "done before"
        end = () if not self.outside else ("accepted",) if self.is_accepted else ("left out",)
        return f"{self.name}: {self.fault or '; '.join((done, *self.outside, *end))}"

    @property
    def is_left_out(self) -> bool:
        """Whether the datalist lacks the subject because quality figures are outside their limits."""
        return bool(self.outside) and not self.is_accepted

    @property
    def is_usable(self) -> bool:
        """Whether the subject has a usable result: it did not fail and was not left out."""
        return not self.fault and not self.is_left_out
