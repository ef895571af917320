"""Plain state dicts and the JSON beside them: read as a training's checkpoint is, and bound to one file."""

import hashlib
import json

import pytest
import torch

from common import weights
from common.errors import InputError
from common.ssl.networks import SSLHead
from tests.support import one_line

STATE = {"a.weight": torch.ones(2), "a.bias": torch.zeros(1)}
MEASURED = {"spacing": [[1, 1, 1]] * 2, "extent": [[9, 9, 9]] * 2, "volume": [1, 1], "air": [0, 0], "overlap": [1, 1]}
STATED = {"modalities": ["T1", "FLAIR"], "model_size": "micro", "measured": MEASURED}


@pytest.fixture
def plain(file):
    weights.write_plain(STATE, STATED, file)
    return file


def test_what_is_written_is_what_torch_and_hashlib_say(plain):
    content = torch.load(plain, weights_only=True)
    assert all(torch.equal(content[name], tensor) for name, tensor in STATE.items())
    assert content.keys() == STATE.keys()
    record = json.loads(plain.with_name("model.json").read_text())
    assert record == {"sha256": hashlib.sha256(plain.read_bytes()).hexdigest(), **STATED}


def test_every_reader_takes_it_for_a_checkpoint_of_a_training(plain, tmp_path):
    wrapped = tmp_path / "wrapped.pt"
    weights.write({"network": STATE, "metadata": STATED}, wrapped)
    one, other = weights.read(plain), weights.read(wrapped)
    assert one.state.keys() == other.state.keys()
    assert (one.metadata, one.missing) == (other.metadata, other.missing) == (STATED, None)
    assert weights.settings_of([str(plain), str(wrapped)]) == weights.settings_of(wrapped)
    assert weights.measured_of([str(plain), str(wrapped)]) == [MEASURED] * 2
    wrapped.with_name("wrapped.json").write_text("{")  # a file that holds more than tensors heeds no JSON
    assert weights.read(wrapped).metadata == STATED


@pytest.mark.parametrize("reader", [weights.read, weights.settings_of, weights.measured_of, weights.metadata_of])
def test_a_record_of_another_file_is_refused(plain, tmp_path, reader):
    weights.write_plain({"a": torch.zeros(1)}, {}, tmp_path / "other.pt")
    (tmp_path / "other.pt").replace(plain)
    with pytest.raises(InputError, match=r"model.pt: its SHA-256 is \w{64}; .*json is about \w{64}: expected") as error:
        reader(plain)
    one_line(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "names no sha256; expected the SHA-256 of model.pt and its metadata, or no file of this name"),
        ('{"modalities": ["T1"]}', "names no sha256"),
        ('{"sha256": 7}', "names no sha256"),
        ('{"sha256": "a", "sha256": "b"}', 'the key "sha256" occurs twice'),
    ],
)
def test_a_json_that_is_no_record_is_refused(plain, text, message):
    plain.with_name("model.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        weights.read(plain)
    assert "model.json" in one_line(error)


def test_a_record_is_held_to_the_rules_of_metadata(file):
    weights.write_plain(STATE, {"modalities": ["$print()"]}, file)
    with pytest.raises(InputError, match="metadata's modalities are"):
        weights.settings_of(file)


def test_a_missing_record_is_named_where_it_is_missed(plain, capsys):
    plain.with_name("model.json").unlink()
    missing = f"does not name its modalities, as {plain.with_name('model.json')}, which would, is missing; "
    assert weights.settings_of(plain) == {}
    with pytest.raises(InputError, match=missing) as error:
        weights.initialise(SSLHead(2, "micro"), plain, ["T1", "FLAIR"])
    one_line(error)
    network = torch.nn.Module()
    network.a = torch.nn.Linear(2, 1)
    network.a.weight = torch.nn.Parameter(torch.zeros(2))
    weights.restore(network, plain, ["T1"])
    assert capsys.readouterr().out == f"checkpoint {plain}: {missing}assuming T1\n"
    assert torch.equal(network.a.weight, STATE["a.weight"])


@pytest.mark.parametrize("value", [torch.ones(1), float("nan"), {1, 2}])
def test_metadata_that_json_cannot_hold_are_refused(file, value):
    with pytest.raises(InputError, match="expected metadata of plain words and numbers") as error:
        weights.write_plain(STATE, {"grid": value}, file)
    one_line(error)
