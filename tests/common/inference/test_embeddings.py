"""`common.inference.embeddings`: the file of vectors."""

import json

import numpy as np
import torch
from ignite.engine import Engine

from common.inference.embeddings import EmbeddingFile


def run(cases, folder, levels=False):
    """Run an engine whose output for each case is a vector of its number; None is a case that failed."""

    def step(engine, batch):
        subject, value = batch[0]["subject"], batch[0]["value"]
        if value is None:
            engine.state.batch = []  # as `Predictor` does
            return []
        return [{"pred": vectors(value), "subject": subject}]

    def vectors(value):
        vector = torch.full((3,), float(value))
        return {"embedding": vector, "level_0": vector[:1]} if levels else {"embedding": vector}

    engine = Engine(step)
    written = EmbeddingFile(str(folder), {"bundle": "toy", "modalities": ["T1"]}, {"a": "training"})
    written.attach(engine)
    engine.run([[{"subject": subject, "value": value}] for subject, value in cases])
    print(*written.figures(engine))
    return folder / "embeddings.npz"


def test_the_file_has_subjects_vectors_and_settings_without_pickle(tmp_path):
    cases = [("b", 2), ("a", 1)]
    path = run(cases, tmp_path, levels=True)
    with np.load(path, allow_pickle=False) as content:
        assert set(content.files) == {"subject", "split", "settings", "embedding", "level_0"}
        assert content["split"].tolist() == ["training", ""]
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
