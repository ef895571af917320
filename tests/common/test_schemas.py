import pytest

from common.errors import InputError
from common.schemas import check_schema

SCHEMA = {
    "type": "object",
    "required": ["train"],
    "properties": {"train": {"type": "integer"}, "name": {"pattern": "^[a-z]+$", "description": "small letters"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trainn": 1}, "F: $.trainn: no such key; did you mean train?"),  # the misspelt key, not the missing one
        ({"train": "x"}, "F: $.train = \"x\": 'x' is not of type 'integer'; expected a run"),
        ({"train": 1, "name": "A"}, 'F: $.name = "A": small letters; expected a run'),
    ],
)
def test_the_line_names_the_entry_and_its_fault(content, message):
    check_schema({"train": 1, "name": "a"}, SCHEMA, "F", "a run")
    with pytest.raises(InputError) as error:
        check_schema(content, SCHEMA, "F", "a run")
    assert str(error.value) == message
