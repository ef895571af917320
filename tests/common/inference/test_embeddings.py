"""`common.inference.embeddings`: the file of vectors, and pictures of the reconstruction."""

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.errors import InputError
from common.inference.embeddings import EmbeddingFile, Inpainting

# The file


def run(cases, folder, levels=False):
    """Run an engine whose output for each case is a vector of its number; None is a case that failed."""

    def step(engine, batch):
        subject, value = batch[0]["subject"], batch[0]["value"]
        engine.state.output = [] if value is None else [{"pred": vectors(value), "subject": subject}]
        return engine.state.output

    def vectors(value):
        vector = torch.full((3,), float(value))
        return {"embedding": vector, "level_0": vector[:1]} if levels else {"embedding": vector}

    engine = Engine(step)
    written = EmbeddingFile(str(folder), {"bundle": "toy", "modalities": ["T1"]})
    written.attach(engine)
    engine.run([[{"subject": subject, "value": value}] for subject, value in cases])
    print(*written.figures(engine))
    return folder / "embeddings.npz"


def test_the_file_has_subjects_vectors_and_settings_without_pickle(tmp_path):
    cases = [("b", 2), ("a", 1)]
    path = run(cases, tmp_path, levels=True)
    with np.load(path, allow_pickle=False) as content:
        assert set(content.files) == {"subject", "settings", "embedding", "level_0"}
        assert content["subject"].tolist() == ["a", "b"]
        assert content["embedding"].tolist() == [[1, 1, 1], [2, 2, 2]]
        assert content["embedding"].dtype == content["level_0"].dtype == np.float32
        assert content["level_0"].tolist() == [[1], [2]]
        assert json.loads(str(content["settings"])) == {"bundle": "toy", "modalities": ["T1"]}
    assert [file.name for file in tmp_path.iterdir()] == ["embeddings.npz"]
    assert run(cases[::-1], tmp_path / "2", levels=True).read_bytes() == path.read_bytes(), "in any order of subjects"


def test_a_case_that_failed_is_left_out(tmp_path, capsys):
    with np.load(run([("a", 1), ("b", None), ("c", 3)], tmp_path)) as content:
        assert content["subject"].tolist() == ["a", "c"]
        assert content["embedding"][:, 0].tolist() == [1, 3]
    assert not run([("a", None)], tmp_path / "none").exists()
    assert capsys.readouterr().out == "2 of 3 subjects embedded: vectors of 3 values\n\n"


def test_existing_vectors_are_replaced_only_on_request(tmp_path):
    file = tmp_path / "embeddings.npz"
    file.write_bytes(b"of an earlier run")
    with pytest.raises(InputError, match=r"embeddings.npz: exists already; expected existing=replace, or another"):
        EmbeddingFile(str(tmp_path), {})
    with pytest.raises(InputError, match=r"existing=skip: expected one of refuse, replace"):
        EmbeddingFile(str(tmp_path), {}, existing="skip")
    EmbeddingFile(str(tmp_path), {}, existing="replace")
    assert file.read_bytes() == b"of an earlier run", "until the new ones are complete"


# Pictures


class Echo(torch.nn.Module):
    """Returns its input."""

    def forward(self, image):
        self.seen = image
        return {"reconstruction": image}


def case(subject, seed=0):
    image = MetaTensor(torch.rand(1, 40, 36, 44, generator=torch.Generator().manual_seed(seed)) + 0.1)
    return [{"image": image, "pred": {}}], [{"subject": subject}]


def pixels(figure):
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes]


def test_a_picture_shows_the_middle_of_the_volume_with_the_same_noise_each_time():
    network = Echo()
    draw = Inpainting(network, ["T1"], (32, 32, 32), subjects=3)
    outputs, batch = case("a")
    clean = outputs[0]["image"].as_tensor()[:, 4:36, 2:34, 6:38]
    (first,) = draw(outputs, batch).values()
    corrupted = network.seen[0]
    assert corrupted.shape == clean.shape
    share = (corrupted != clean).float().mean().item()
    assert 0.1 < share < 0.3
    (again,) = draw(outputs, batch).values()
    for one, other in zip(pixels(first), pixels(again), strict=True):
        np.testing.assert_array_equal(one, other)
