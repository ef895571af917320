"""The trial with Orthanc: send, fetch, segment, store, find. A stand-in takes the place of the segmentation."""

import sys

from deploy import pacs
from tests.deploy.checks import WITH_ORTHANC, documented_options
from tests.deploy.dicom_study import Study, write_brats
from tests.support import ROOT, execute

pytestmark = WITH_ORTHANC


def test_the_results_of_a_study_in_a_pacs_are_found_there(tmp_path, monkeypatch, capsys):
    write_brats(tmp_path / "study", None, Study())
    called = []

    def segment(study, bundle, output, **options):
        called.append((bundle, options))
        command = [sys.executable, str(ROOT / "tests/deploy/stand_in_segmenter.py")]
        result = execute([*command, f"--input={study}", f"--output={output}"], RUNS=str(tmp_path / "runs"))
        assert result.returncode == 0, result.stderr

    monkeypatch.setattr(pacs, "segment", segment)
    for name in ("restrict_output", "exit_cleanly_on_signals"):
        monkeypatch.setattr(pacs, name, lambda: None)
    values = {"input": str(tmp_path / "study"), "bundle": "a bundle"}
    documented = {name: values[name] for name in documented_options("deploy.pacs")}
    pacs.trial(**documented, checkpoint="a file", bundle_options="--a=1", force=True)

    assert called == [("a bundle", {"checkpoint": "a file", "bundle_options": "--a=1", "force": True})]
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    count = len(list((tmp_path / "study").rglob("*.dcm")))
    assert lines[:3] == ["C-STORE: study sent", f"WADO-RS: {count} images fetched", "STOW-RS: results stored"]
    assert lines[3].startswith("QIDO-RS and C-FIND: structured report found, series 1.2.826.0.1.")
    assert lines[4].startswith("QIDO-RS and C-FIND: segmentation found, series 1.2.826.0.1.")
    assert "SENTINEL" not in printed
