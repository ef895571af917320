"""Table 7 from a table of participants."""

import os

import pytest

from common.errors import InputError
from scripts.experiments.demographics import demographics
from scripts.experiments.figures import cohort_chart
from tests.support import one_line


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def some(counts):
    return {name: number for name, number in counts.items() if number}


def test_people_are_counted_in_the_papers_groups(tmp_path):
    rows = ["40,F,White", "44.9,male,British", "45,1,1001", "49,0,2", "65,0,Chinese", "64,f,5", ",NA,-3", "80,m,4003"]
    found = demographics(write(tmp_path / "people.csv", "\n".join(["age,sex,ethnicity", *rows]) + "\n"))
    assert some(found["Age at recruitment"]) == {"≤ 45": 2, "45-49": 2, "60-64": 1, "≥ 65": 2, "Unanswered": 1}
    assert some(found["Gender"]) == {"Male": 3, "Female": 4, "Unanswered": 1}
    assert some(found["Race"]) == {"White": 3, "Mixed": 1, "Asian": 2, "Black": 1, "Unanswered": 1}
    assert {sum(group.values()) for group in found.values()} == {8}
    assert cohort_chart(found).startswith("<svg")


def test_fields_of_uk_biobank_and_own_names_are_columns(tmp_path):
    fields = write(tmp_path / "fields.tsv", "eid\t21022-0.0\t31-0.0\t21000-0.0\n1\t50\t0\t6\n")
    own = write(tmp_path / "own.csv", "A,S,G\n50,F,Other\n")
    found = demographics(fields)
    assert found == demographics(own, {"age": "A", "sex": "S", "ethnicity": "G"})
    assert some(found["Age at recruitment"]) == {"50-54": 1}
    assert some(found["Race"]) == {"Other": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age,sex\n50,F\n", "no column for ethnicity; expected one of ethnicity, race"),
        ("age,sex,race\nold,F,White\n", "line 2: age='old': expected"),
        ("age,sex,race\n50,F,<b>\n", "line 2: ethnicity='<b>': expected"),
    ],
)
def test_other_tables_are_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError) as refused:
        demographics(write(tmp_path / "people.csv", text))
    assert message in one_line(refused)


def test_a_pipe_does_not_hang_its_reader(tmp_path):
    os.mkfifo(tmp_path / "people.csv")
    with pytest.raises(InputError) as refused:
        demographics(str(tmp_path / "people.csv"))
    assert "people.csv: not a regular file; expected" in one_line(refused)
