import re
from dataclasses import replace

import pytest

from deploy.mark import DELIVER, DONE, SEGMENT, Mark, mark_of, parsed

NEW = Mark("s5f3a9c01", "images")


def test_a_mark_survives_its_way_through_orthanc():
    mark = Mark("s5f3a9c01", "images", DELIVER, 2, 17.5, "why", "kept", "delivered", "owner", 4)
    assert parsed(mark.text()) == mark_of(mark.text(), "images") == mark
    assert mark_of(mark.text(), "others") == Mark("s5f3a9c01", "others", delivered="delivered", owner="owner")


CHANGES = {SEGMENT: "?", "0,": '"0",', '"kept": ""': '"kept": 7'}  # valid -> invalid part of a mark


@pytest.mark.parametrize(
    "text", [None, "[1]", "done", '{"a": 1}', *(NEW.text().replace(part, other) for part, other in CHANGES.items())]
)
def test_a_study_without_a_valid_mark_is_new(text):
    mark = mark_of(text, "images")
    assert (mark.images, mark.step, mark.attempts) == ("images", SEGMENT, 0)
    assert re.fullmatch("s[0-9a-f]{8}", mark.pseudonym)  # never a number on a command line
    assert mark_of(text, "images").pseudonym != mark.pseudonym


def test_a_successful_step_begins_the_next_which_is_tried_at_once():
    failed = replace(NEW, attempts=2, due=17.5, reason="why", owner="owner")
    assert failed.moved_to(DELIVER, kept="k") == replace(NEW, step=DELIVER, attempts=1, kept="k", owner="owner")
    assert failed.moved_to(DONE) == replace(NEW, step=DONE, owner="owner")


def test_attempts_are_counted_and_their_waits_grow():
    mark, waits = NEW, []
    while mark.is_open:
        mark = mark.begun("owner", limit=3)
        assert mark.state == "running"
        mark = mark.failed("why", now=1000)
        assert mark.state == ("failed" if mark.is_open else "given_up")
        waits.append(mark.due - 1000)
    assert waits == [60, 600, 6000]
    assert replace(mark, attempts=400).failed("why", now=0).due < 1e12, "a mark that somebody changed"
    assert [mark.next_attempt(now) for now in (-5001, 900, 1000, 9000)] == [-5001, 900, 7000, 9000], "clock set back"
    assert mark.renewed() == replace(NEW, owner="owner")
    assert NEW.begun("", 3).stopped() == NEW
