"""`python -m scripts.datalists check --slurm` on a real SLURM."""

import pytest

from scripts.datalists import __main__ as datalists
from scripts.phantoms.cohort import make
from tests.support import ROOT

SETTINGS = {"timeout_min": 5, "cpus_per_task": 1, "mem_gb": 1}


@pytest.mark.slow
def test_slurm_jobs_find_what_this_machine_finds_and_are_not_needed_again(slurm, tmp_path, monkeypatch, capsys):
    for name in ("SLURM_CONF", "PYTHONPATH"):
        if name in slurm.environment:
            monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.chdir(ROOT)
    make("atlas", 5, str(tmp_path / "root"), spacing=4, faults="nan", workers=1)
    datalists.atlas(str(tmp_path / "root"), str(tmp_path / "list.json"))

    def check(output, **options):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            datalists.check(str(tmp_path / "list.json"), str(tmp_path / "root"), str(tmp_path / output), **options)
        assert end.value.code == 1
        printed = capsys.readouterr()
        return printed.out[printed.out.index("list.json: ") :], printed.err  # after warnings of submitit

    found, told = check("out", slurm=SETTINGS, workers=2)
    assert "2 parts; they go on if this command ends" in told, slurm.logs()
    assert "not_finite" in check("here", workers=1)[0]
    for name in ("findings.csv", "findings.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    again, told = check("out", slurm=SETTINGS, workers=2)
    assert again == found
    assert "SLURM job" not in told
    assert "5 of 5 subjects were read before" in told
    assert len(list((tmp_path / "out/records").rglob("*.json"))) == 5
