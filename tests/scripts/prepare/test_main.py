"""Options that cannot be: one line, status 2, nothing written."""

import signal

import pytest

from common.data.layouts.listing import list_images
from common.errors import InputError
from scripts.prepare.__main__ import prepare
from scripts.prepare.steps import accepted_of
from tests.support import one_line, refused


@pytest.fixture
def minimal(tmp_path):
    """The required options, and a subject with an empty file."""
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/a_T1.nii.gz").write_bytes(b"")
    return {"root": str(tmp_path / "raw"), "output": str(tmp_path / "out"), "like": "atlas"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"like": "moon"}, "--like=moon: expected one of atlas, brats, "),
        ({"modalities": "../T1"}, "modalities ['../T1']: expected different names of letters"),
        ({"modalities": 5}, "raw --modalities=5: no file of 5"),
        ({"like": "brats", "modalities": None}, "raw: no file of FLAIR"),
        ({"brain": "bet"}, "--brain=bet: expected one of deepbet, none, a pattern such as *_brain.nii.gz"),
        ({"spacing": 0.5}, "--spacing=0.5: expected a number from 1 to 4"),
        ({"accept": "a,b"}, "--accept=a,b: no such subject: b; expected some of a"),
        (
            {"accept": "a:size"},
            "--accept=a:size: no such figure: a:size; expected some of T1.coverage, T1.information, agr",
        ),
        ({"patterns": {"T2": "*"}}, "T2 is not one of the modalities T1"),
        (
            {"modalities": "T1,T2", "patterns": {"T1": "a.nii.gz", "T2": "A"}},
            "--patterns={'T1': 'a.nii.gz', 'T2': 'A'}: the same words or pattern for T1 and T2; expected distinct ones",
        ),
        (
            {"patterns": {"T1": "*_t1w.nii.gz"}},
            "--patterns={'T1': '*_t1w.nii.gz'}: no file of T1 (*_t1w.nii.gz); expected",
        ),
        ({"device": "cuda"}, "--device=cuda: available GPUs: 0; expected cpu"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, minimal, monkeypatch, options, message):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError) as error:
        prepare(**minimal | options)
    assert message in f"--{one_line(error).removeprefix('--')}"
    assert not (tmp_path / "out").exists()


def test_names_that_look_like_numbers_can_be_accepted(minimal, run_prepare):
    """Those of UK Biobank: Python reads 1234567_20252_2_0 as a number."""
    options = [f"--{name}={value}" for name, value in minimal.items()]
    result = run_prepare(*options, "--accept=1234567_20252_2_0")
    assert "error: --accept=1234567_20252_2_0: no such subject: 1234567_20252_2_0; expected some of a" in result.stderr


def test_figures_are_accepted_by_subject():
    figures = {"overlap", "volume", "scale", "agreement", "T1.coverage", "T1.information"}
    for accept, expected in {
        "a:b,c:volume,c:T1.coverage": {
            "a:b": ("a:b", figures),
            **{f"c:{n}": ("c", {n}) for n in ("volume", "T1.coverage")},
        },
        "d,e": {"d,e": ("d,e", figures)},
        "d,e:scale": {"d,e:scale": ("d,e", {"scale"})},
    }.items():
        assert accepted_of(accept, ["a:b", "c", "d,e"], ["T1"]) == expected, accept


def test_places_that_cannot_be_are_refused(tmp_path, minimal):
    with refused("--root=nowhere", text="no such folder; expected a folder of raw scans"):
        prepare(**minimal | {"root": "nowhere"})
    with pytest.raises(InputError, match="lies in"):
        prepare(**minimal | {"root": str(tmp_path)})


def test_a_page_of_another_origin_is_not_replaced(tmp_path, minimal):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/overview.html").write_text("mine")
    with pytest.raises(
        InputError, match=r"overview\.html: not written by scripts\.prepare \(no made\.json\); expected"
    ):
        prepare(**minimal)
    assert (tmp_path / "out/overview.html").read_text() == "mine"


def test_readers_are_told_of_a_preparation_that_was_interrupted(tmp_path, minimal, monkeypatch, capsys):
    out = tmp_path / "out"
    for interrupted in (True, False):
        with monkeypatch.context() as patch:
            if interrupted:
                patch.setattr("scripts.prepare.cohort.run_in_processes", lambda *_: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt if interrupted else SystemExit):
                prepare(**minimal)
        assert (out / "overview.html").exists()
        capsys.readouterr()
        list_images(out)
        warning = f"warning: {out}: incomplete: its command has not finished: python "
        assert capsys.readouterr().err.startswith(warning) == interrupted
    (out / "made.json").write_text("of another program")
    list_images(out)
    assert capsys.readouterr().err == ""
