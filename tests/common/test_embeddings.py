"""Vectors of volumes, held to a loop over voxels and windows, and to what must not change them."""

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    NormalizeIntensityd,
    Orientationd,
    SpatialPadd,
)

from common.embeddings import EmbeddingFile, EmbeddingInferer, Inpainting
from common.networks import SSLHead
from common.preflight import InputError


def pooling(*strides):
    """An encoder without context: each token is the mean of its block; the second channel, that of the squares."""

    def encode(windows):
        both = torch.cat([windows, windows**2], dim=1)
        return [torch.nn.functional.avg_pool3d(both, stride) for stride in strides]

    return encode


def volume(*sides, seed=0):
    """A volume of one channel with a ball of values that are not 0."""
    centre = torch.tensor(sides)[:, None, None, None] / 2
    distance = (((torch.stack(torch.meshgrid(*map(torch.arange, sides), indexing="ij")) + 0.5) - centre) ** 2).sum(0)
    values = torch.rand(sides, generator=torch.Generator().manual_seed(seed)) + 0.1
    return (values * (distance < (min(sides) / 2) ** 2))[None, None]


def starts(side, edge, step):
    """Windows from the beginning on, the last one at the end."""
    places = list(range(0, side - edge + 1, step))
    return places if places[-1] == side - edge else [*places, side - edge]


def by_hand(image, edge, step, stride, encode):
    """The mean over foreground voxels of the mean over windows of the features of the voxel's token."""
    sides = image.shape[2:]
    total, voxels = 0, 0
    windows = [(x, y, z) for x in starts(sides[0], edge, step) for y in starts(sides[1], edge, step)
               for z in starts(sides[2], edge, step)]  # fmt: skip
    maps = {
        (x, y, z): encode(image[..., x : x + edge, y : y + edge, z : z + edge])[0][0].double() for x, y, z in windows
    }
    for place in np.argwhere(image[0].numpy().any(axis=0)):
        holding = [corner for corner in windows if all(0 <= p - c < edge for p, c in zip(place, corner, strict=True))]
        tokens = [(place - np.array(corner)) // stride for corner in holding]
        features = [maps[corner][:, x, y, z] for corner, (x, y, z) in zip(holding, tokens, strict=True)]
        total = total + torch.stack(features).mean(dim=0)
        voxels += 1
    return (total / voxels)[None]


@pytest.mark.parametrize(("overlap", "step"), [(0.5, 4), (0.25, 6), (0, 8)])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_brain_voxel_counts_once(overlap, step, batch):
    image = volume(13, 16, 9)
    found = EmbeddingInferer((8, 8, 8), overlap, batch, levels=True)(image, pooling(2, 4))
    assert found.keys() == {"embedding", "level_0", "level_1"}
    for level, stride in enumerate((2, 4)):
        expected = by_hand(image, 8, step, stride, pooling(stride))
        np.testing.assert_allclose(found[f"level_{level}"], expected, rtol=1e-6)
    assert torch.equal(found["embedding"], found["level_1"])
    assert found["embedding"].dtype == torch.float32


def test_only_the_deepest_level_unless_asked():
    assert list(EmbeddingInferer((8, 8, 8))(volume(8, 8, 8), pooling(2, 4))) == ["embedding"]


def test_zeros_around_a_volume_and_overlap_do_not_matter_to_an_encoder_without_context():
    image = volume(24, 24, 24)
    expected = EmbeddingInferer((8, 8, 8), overlap=0)(image, pooling(4))["embedding"]
    padded = torch.nn.functional.pad(image, (8, 16, 24, 0, 8, 8))
    for other, overlap in ((image, 0.5), (padded, 0), (padded, 0.5)):
        found = EmbeddingInferer((8, 8, 8), overlap)(other, pooling(4))["embedding"]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_windows_without_brain_are_not_encoded():
    image = torch.zeros(1, 1, 32, 32, 8)
    image[..., :8, :8, :] = 1
    seen = []

    def encode(windows):
        seen.extend(windows)
        return [windows]

    EmbeddingInferer((8, 8, 8), overlap=0)(image, encode)
    assert len(seen) == 1


def test_background_has_no_weight():
    """What an encoder says of the background is not in the vector."""
    image = volume(16, 16, 16)
    loud = EmbeddingInferer((16, 16, 16))(image, lambda windows: [torch.where(windows == 0, 1e6, windows)])
    np.testing.assert_allclose(loud["embedding"], [[image[image != 0].mean()]], rtol=1e-6)


@pytest.mark.parametrize("image", [torch.zeros(1, 1, 8, 8, 8), torch.ones(2, 1, 8, 8, 8), torch.ones(1, 1, 8, 8, 4)])
def test_no_brain_several_volumes_and_small_ones_are_refused(image):
    with pytest.raises(ValueError, match="expected"):
        EmbeddingInferer((8, 8, 8))(image, pooling(2))


# A real encoder, prepared as the bundles do


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SSLHead(in_channels=1, model_size="micro").eval()


def embed(network, array):
    """The vector of a scan's array [x, y, z], prepared as inference.yaml does."""
    prepare = Compose(
        [
            EnsureChannelFirstd("image", channel_dim="no_channel"),
            Orientationd("image", axcodes="RAS", labels=None),
            CropForegroundd("image", source_key="image", allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            SpatialPadd("image", spatial_size=(64, 64, 64)),
        ]
    )
    image = prepare({"image": MetaTensor(torch.as_tensor(array), affine=torch.eye(4))})["image"]
    with torch.no_grad():
        return EmbeddingInferer((64, 64, 64), overlap=0)(image[None], network.swinViT, None)["embedding"]


def test_zeros_around_a_scan_do_not_change_its_vector_at_all(network):
    scan = volume(60, 66, 50)[0, 0]
    padded = torch.nn.functional.pad(scan, (3, 11, 0, 7, 20, 1))
    expected = embed(network, scan)
    assert expected.shape == (1, 192)
    assert torch.equal(embed(network, padded), expected)  # what is cut to its foreground is the same array
    assert not torch.allclose(embed(network, scan.flip(0)), expected, atol=1e-3)


# The file


def run(cases, folder, levels=False, existing="refuse"):
    """An engine that puts out, for each case, its number as vector; None is a case that failed."""

    def step(engine, batch):
        subject, value = batch[0]["subject"], batch[0]["value"]
        engine.state.output = [] if value is None else [{"pred": vectors(value), "subject": subject}]
        return engine.state.output

    def vectors(value):
        vector = torch.full((3,), float(value))
        return {"embedding": vector, "level_0": vector[:1]} if levels else {"embedding": vector}

    engine = Engine(step)
    EmbeddingFile(str(folder), {"bundle": "toy", "modalities": ["T1"]}, existing).attach(engine)
    engine.run([[{"subject": subject, "value": value}] for subject, value in cases])
    return folder / "embeddings.npz"


def test_the_file_holds_subjects_vectors_and_settings_without_pickle(tmp_path):
    path = run([("b", 2), ("a", 1)], tmp_path, levels=True)
    with np.load(path, allow_pickle=False) as content:
        assert set(content.files) == {"subject", "settings", "embedding", "level_0"}
        assert content["subject"].tolist() == ["a", "b"]
        assert content["embedding"].tolist() == [[1, 1, 1], [2, 2, 2]]
        assert content["embedding"].dtype == content["level_0"].dtype == np.float32
        assert content["level_0"].tolist() == [[1], [2]]
        assert json.loads(str(content["settings"])) == {"bundle": "toy", "modalities": ["T1"]}
    assert [file.name for file in tmp_path.iterdir()] == ["embeddings.npz"]


def test_the_order_of_subjects_does_not_change_the_file(tmp_path):
    cases = [("b", 2), ("a", 1), ("c", 3)]
    assert run(cases, tmp_path / "1").read_bytes() == run(cases[::-1], tmp_path / "2").read_bytes()


def test_a_case_that_failed_is_left_out(tmp_path):
    with np.load(run([("a", 1), ("b", None), ("c", 3)], tmp_path)) as content:
        assert content["subject"].tolist() == ["a", "c"]
        assert content["embedding"][:, 0].tolist() == [1, 3]


def test_nothing_is_written_of_no_subject(tmp_path):
    assert not run([("a", None)], tmp_path).exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "embeddings.npz").mkdir()
    with pytest.raises(InputError, match=r"embeddings\.npz: .*expected a file that can be written"):
        run([("a", 1)], tmp_path, existing="replace")


def test_a_second_run_of_an_engine_begins_anew(tmp_path):
    engine = Engine(lambda _, batch: [{"pred": {"embedding": torch.zeros(2)}}])
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: None)
    EmbeddingFile(str(tmp_path), {}).attach(engine)
    for subject in ("a", "b"):
        engine.run([[{"subject": subject}]])
    with np.load(tmp_path / "embeddings.npz") as content:
        assert content["subject"].tolist() == ["b"]


# Pictures


class Echo(torch.nn.Module):
    """Says back what it sees."""

    def forward(self, image):
        self.seen = image
        return {"reconstruction": image}


def case(subject, seed=0):
    image = MetaTensor(volume(40, 36, 44, seed=seed)[0])
    return [{"image": image, "pred": {}}], [{"subject": subject}]


def pixels(figure):
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes]


def test_the_first_subjects_are_drawn():
    draw = Inpainting(Echo(), ["T1"], (32, 32, 32), subjects=2)
    assert [list(draw(*case(name))) for name in "abc"] == [["a"], ["b"], []]
    assert list(Inpainting(Echo(), ["T1"], (32, 32, 32), subjects=0)(*case("a"))) == []


def test_a_case_that_failed_takes_no_ones_place():
    draw = Inpainting(Echo(), ["T1"], (32, 32, 32), subjects=1)
    assert draw([], InputError("unreadable")) == {}
    assert list(draw(*case("a"))) == ["a"]


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
    draw(*case("b", seed=1))
    (again,) = draw(outputs, batch).values()
    for one, other in zip(pixels(first), pixels(again), strict=True):
        np.testing.assert_array_equal(one, other)
    seen, restored, truth = pixels(first)
    np.testing.assert_array_equal(seen, restored)
    np.testing.assert_array_equal(seen == truth, (corrupted == clean)[0, :, :, 16].numpy()[::-1].T)


@pytest.mark.parametrize("subjects", [-1, 1.5, "all"])
def test_a_number_of_pictures_that_cannot_be(subjects):
    with pytest.raises(InputError, match=f"--pictures={subjects}: expected a whole number"):
        Inpainting(Echo(), ["T1"], (32, 32, 32), subjects)


def test_vectors_that_are_there_are_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "embeddings.npz").write_bytes(b"of an earlier run")
    with pytest.raises(InputError, match=r"embeddings.npz: is there already; expected --existing=replace, or another"):
        EmbeddingFile(str(tmp_path), {})
    with pytest.raises(InputError, match=r"--existing=skip: expected one of refuse, replace"):
        EmbeddingFile(str(tmp_path), {}, existing="skip")
    EmbeddingFile(str(tmp_path), {}, existing="replace")
    assert (tmp_path / "embeddings.npz").read_bytes() == b"of an earlier run", "until the new ones are complete"
