"""The report about a folder of runs; expected numbers come from the standard library, not from the report."""

import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from scripts.report.__main__ import report
from scripts.report.charts import POINTS, smooth, thin
from scripts.report.runs import read_stages
from tests.html_pages import Page, text_of

EMBEDDED = "they prove that the software works, not the medicine"
PRESENT = ["dice_present", "WT_dice_present", "WT_n_present"]
ORDER = {"ukb_ssl_pretrain": None, "brats_stage2": "ukb_ssl_pretrain", "brats_finetune": "brats_stage2"}


def record(bundle: str, minute: int, source: str | None = None) -> dict:
    terms = ["total"] if bundle.endswith("finetune") else ["total", "reconstruction", "rotation", "contrastive"]
    metrics = ["dice", "WT", "TC", "ET", *PRESENT] if bundle.endswith("finetune") else [*terms, "contrastive_cosine"]
    return {
        "bundle": bundle,
        "workflow": "train",
        "finished": True,
        "command": f"python -m monai.bundle run --config_file configs/train.yaml --bundle_root bundles/{bundle}",
        "started": f"2026-11-20T08:{minute:02}:00+00:00",
        "seconds": 7620.4,
        "peak_memory_gib": 1.5,
        "device": "cpu",
        "world_size": 1,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": "abcdef",
        "made_up": True,
        "config": {"learning_rate": "0.001", "modalities": ["T1", "T2"]},
        "weights": {
            "source": source,
            "matched": 120,
            "changed": 1,
            "missing": 2,
            "unexpected": 0,
            "tensors": {"changed": ["proj.weight: T1 -> T2"], "missing": ["decoder.one", "decoder.two"]},
        },
        "quantities": {"total": "DiceFocalLoss"} if len(terms) == 1 else dict.fromkeys(terms, "nats"),
        "train": {
            "iteration": [1, 2, 3, 4],
            "loss": {term: [4.0, 3.0, None, 1.0] for term in terms},
            **{"learning_rate": [None, 1e-4, 2e-4, 1e-4], "seconds_per_step": [None, 2.0, 1.0, 1.0]},
        },
        "validation": {"iteration": [0, 4], "metrics": {name: [0.1, 0.625] for name in metrics}},
        "pictures": [],
    }


def put(folder: Path, content: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in content.get("pictures") or []:
        (folder / picture).parent.mkdir(exist_ok=True)
        imsave(folder / picture, np.full((4, 12), hash(picture) % 200))
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def chain_in(folder: Path) -> Path:
    """Three stages chained by the weights that they loaded, the last one evaluated."""
    for minute, (bundle, parent) in enumerate(ORDER.items()):
        content = record(bundle, minute, str(folder / parent / "model.pt") if parent else None)
        pictures = [] if bundle == "brats_finetune" else ["pictures/inpainting.png"]
        put(folder / bundle, content | {"pictures": pictures})
    put_evaluation(folder / "brats_finetune")
    return folder


def put_evaluation(stage: Path) -> None:
    evaluated = record("brats_finetune", 9) | {"workflow": "evaluate", "train": {}, "validation": {}, "seconds": 12.3}
    put(stage / "evaluation", evaluated)
    put_scores(stage / "evaluation", {"TC": (0.55, 0.7, 3), "WT": (0.5, 0.6, 2), "ET": (0.75, None, 0)})
    (stage / "evaluation" / "evaluation.html").touch()


def put_scores(folder: Path, means: dict[str, tuple]) -> None:
    """A summary.json with the mean Dice of each region, that over the cases that have it, and their number."""
    regions = {
        region: {"dice": {"mean": mean, "n": 3}, "dice_present": {"mean": present, "n": n}}
        for region, (mean, present, n) in means.items()
    }
    (folder / "summary.json").write_text(json.dumps({"cases": 3, "regions": regions}))


def page_of(folder: Path) -> str:
    report(str(folder))
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return chain_in(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(chain_in(tmp_path_factory.mktemp("chain")))


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """A single stage with its evaluation."""
    put(tmp_path, record("brats_finetune", 0))
    put_evaluation(tmp_path)
    return tmp_path


def test_page_shows_every_stage_with_its_command_losses_and_weights(page: str) -> None:
    text = text_of(page)
    assert re.findall(r"<h2>(\w+) ?</h2>", page) == list(ORDER)
    for bundle in ORDER:
        assert record(bundle, 0)["command"] in text
        assert f"{bundle}: total loss over the iterations" in page
    assert "Of this network's 123 tensors, it supplied 120 unchanged and 1 adapted, for example" in text
    assert "121 of 123 tensors pretrained" in text
    for name, title in {"learning_rate": "learning rate", "seconds_per_step": "seconds per step"}.items():
        assert f"brats_finetune: {title} over the iterations" in page, name
    assert "decoder.two" in text
    assert len(re.findall(">DiceFocalLoss</text>", page)) == 1, "the loss names its axis"
    axes = ["Dice (0 to 1)", "mean cosine of different crops"]
    assert [len(re.findall(f">{re.escape(axis)}</text>", page)) for axis in axes] == [1, 2]
    assert "python 3.11.7, torch 2.13.0, git commit abcdef; 1 × cpu" in text
    assert "2:07:00+ 0:00:12 evaluation" in text
    assert EMBEDDED in text


def test_metrics_in_different_units_have_different_axes(tmp_path: Path) -> None:
    content = record("brats_finetune", 0)
    names = ["ET_hd95", "WT_hd95", "ET_lesionwise_hd95"]
    content["validation"]["metrics"] |= {name: [374.0, 12.5] for name in names}
    page = page_of(put(tmp_path, content))
    for axis in ("Dice (0 to 1)", "HD95 (mm)", "Lesion-wise HD95 (mm)"):
        assert len(re.findall(f">{re.escape(axis)}</text>", page)) == 1
    assert "brats_finetune: held-out ET_hd95, WT_hd95 over the iterations" in page


def test_page_is_well_formed_and_loads_nothing(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert "@import" not in page
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "object", "embed"}
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            if value := attributes.get(name):
                assert value.startswith(("#", "data:image/png;base64,", "brats_finetune/")), (tag, name, value)
        assert tag != "img" or attributes["alt"]


def test_scores_by_region_and_headline(page: str) -> None:
    text = text_of(page)
    for row in ("TC 0.550 0.700 3", "WT 0.500 0.600 2", "ET 0.750 – 0"):
        assert row in text
    assert "Mean Dice on the held-out subjects: brats_finetune 0.600 (0.650 over those with the region)." in text
    assert 'href="brats_finetune/evaluation/evaluation.html"' in page


def test_an_evaluation_belongs_to_the_training_around_it(single: Path) -> None:
    put(single / "mlruns" / "1" / "artifacts", record("ukb_ssl_pretrain", 0))  # a copy that MLflow keeps
    (stage,) = read_stages(single)
    assert [run.workflow for run in stage.runs] == ["train", "evaluate"]
    assert stage.scored is stage.evaluation


@pytest.mark.parametrize("replaced", ["by a training", "by a resumed training"])
def test_an_evaluation_of_weights_that_were_replaced_stands_apart(tmp_path: Path, replaced: str) -> None:
    put(tmp_path, record("brats_finetune", 10 if replaced == "by a training" else 0))
    put_evaluation(tmp_path)
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"new")
    path = tmp_path / "evaluation/run.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"checkpoints": {str(weights): sha256(b"old").hexdigest()}})
    )
    page = text_of(page_of(tmp_path))
    assert "No run was scored." in page
    assert "Evaluation of weights that a later training has replaced." in page
    if replaced == "by a resumed training":
        weights.write_bytes(b"old")
        assert "brats_finetune 0.600 (0.650 over those with the region)." in text_of(page_of(tmp_path))


def test_everything_recorded_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert('x')</script>\"&$\\frac$"
    content = record("atlas_finetune", 0, attack)
    content |= dict.fromkeys(("bundle", "command", "device", "git_commit"), attack)
    content |= {"config": {attack: attack, "components": {attack: [attack]}}}
    content |= {"versions": {attack: attack}}
    content["weights"]["tensors"] = {"missing": [attack]}
    content["train"]["loss"] = {attack: [1, 2, 3, 4]}
    content["validation"]["metrics"] = {f"{attack}2": [0, 1]}
    put(tmp_path, content)
    put_scores(put(tmp_path / "evaluation", content | {"workflow": "evaluate"}), {attack: (0.5, 0.5, 1)})
    page = Page(page_of(tmp_path))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_interrupted_run_of_which_little_is_known(tmp_path: Path) -> None:
    weights = {"source": None, "matched": 0, "missing": 2, "tensors": {"missing": ["one", "two"]}}
    recorded = {"bundle": "brats_stage2", "workflow": "train", "finished": False, "weights": weights}
    put(tmp_path, recorded | {"train": None, "config": {"cohort": "hospital"}})
    page = page_of(tmp_path)
    text = text_of(page)
    for sentence in (
        *("Interrupted before the end: brats_stage2 (train).", "No loss was recorded.", "No run was scored."),
        *("The command was not recorded.", "Started from random weights."),
    ):
        assert sentence in text
    assert 'data-label="Time">–</td>' in page
    assert EMBEDDED not in text


def test_any_part_may_be_missing(single: Path) -> None:
    whole = {path: json.loads(path.read_text()) for path in single.rglob("run.json")}
    for part in [name for name in record("x", 0) if name not in ("bundle", "workflow")]:
        for path, content in whole.items():
            path.write_text(json.dumps({name: value for name, value in content.items() if name != part}))
        assert Page(page_of(single)).open == [], part


def test_a_missing_picture_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = runs / "brats_stage2" / "pictures" / "inpainting.png"
    for spoil in (lambda: picture.write_bytes(b""), picture.unlink):
        spoil()
        assert "The picture inpainting.png is missing or not a PNG file." in text_of(page_of(runs))
        assert capsys.readouterr().err == f"warning: {picture}: missing or not a PNG file\n"


def test_a_long_curve_is_thinned_and_keeps_its_peaks() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[[5, 30_000, 99_999]] = np.nan, 50.0, -50.0
    iterations, kept = thin(range(100_000), values)
    assert len(kept) <= POINTS
    assert {50.0, -50.0} <= {*kept}
    np.testing.assert_array_equal(kept, values[iterations])
    assert np.all(np.diff(iterations) > 0)
    assert thin([1, 2], np.array([3.0, np.nan]))[0].tolist() == [1, 2], "a short curve stays as it is"


def test_many_steps_make_a_small_page(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=20_000).round(4).tolist()
    curves = {"learning_rate": numbers, "seconds_per_step": numbers, "loss": {"total": numbers}}
    long = {"train": {"iteration": list(range(20_000)), **curves}}
    long["validation"] = {"iteration": long["train"]["iteration"], "metrics": {"dice": numbers, "total": numbers}}
    put(tmp_path, record("brats_finetune", 0) | long)
    assert len(page_of(tmp_path)) < 600_000


def test_smooth_is_the_mean_of_the_finite_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=61)
    values[[5, 30]] = np.nan
    expected = [np.nanmean(values[max(0, i - 1) : i + 2]) for i in range(61)]
    np.testing.assert_allclose(smooth(values), expected)
