"""Schemas, and the lines about content that does not match."""

import pytest

from common.errors import InputError
from common.schemas import array, check_schema, entries, mapping, only

NUMBER = {"type": "integer"}
RUN = only({"train": NUMBER}, device={"type": "string"}, axes=mapping(array(NUMBER, minItems=1), {"maxLength": 1}))


@pytest.mark.parametrize("content", [{"train": 1}, {"train": 1, "device": "cpu", "axes": {"a": [1]}}])
def test_content_that_matches_passes(content):
    check_schema(content, RUN, "F", "a run")
    check_schema(content | {"more": 1}, entries({"train": NUMBER}), "F", "a run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trainn": 1}, "F: $.trainn: no such key; did you mean train?"),  # the misspelt key, not the missing one
        ({"train": "x", "zzz": 1}, "F: $.zzz: no such key; expected one of train, device, axes"),
        ({"train": 1, 5: 1}, "F: $.5: no such key; expected one of train, device, axes"),
        ({"device": "cpu" * 100}, "F: $: 'train' is a required property; expected a run"),
        ({"train": "x"}, "F: $.train = \"x\": 'x' is not of type 'integer'; expected a run"),
        ({"train": 1, "axes": {"a": []}}, "F: $.axes.a = []: [] should be non-empty; expected a run"),
        ({"train": 1, "axes": {"ab": [1]}}, "F: $.axes = \"ab\": 'ab' is too long; expected a run"),
    ],
)
def test_the_line_names_the_entry_and_its_fault(content, message):
    with pytest.raises(InputError) as error:
        check_schema(content, RUN, "F", "a run")
    assert str(error.value) == message
