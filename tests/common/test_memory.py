"""Memory and open files: limits, refused crops, and messages when memory runs out."""

import torch

from common.memory import (
    device_memory,
    explain_out_of_memory,
    free_in_cgroups,
    free_memory,
)

TRAINING = {
    **{"modalities": ["T1", "FLAIR"], "patch_size": [96, 96, 96], "batch_size": 2, "device": "cuda:0"},
    **{"activation_checkpointing": False, "num_workers": 4, "cache_rate": 0.0, "ckpt_dir": "models"},
}
# What is refused


# What is explained


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")
FEWER, SHARED = "or fewer workers, or make it larger, as by docker run --shm-size=8g", "RuntimeError: "


def test_the_global_batch_to_keep_counts_all_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "--global_batch_size=6," in explain_out_of_memory(FULL, TRAINING)


def test_free_memory_is_a_part_of_the_machines():
    assert 2**20 < free_memory() < device_memory("cpu")


def test_the_limits_of_a_slurm_job_and_of_its_parents_count(tmp_path):
    membership, job = tmp_path / "cgroup", tmp_path / "root/slurmstepd.scope/job_7"
    (job / "step_0").mkdir(parents=True)
    membership.write_text("4:memory:/other\n0::/slurmstepd.scope/job_7/step_0\n")
    for folder, limit, cache in ((job, "5000", 300), (job / "step_0", "max", 0), (tmp_path, "1", 0)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("4000\n")
        (folder / "memory.stat").write_text(f"anon 9\ninactive_file {cache}\n")
    assert free_in_cgroups(membership, tmp_path / "root") == [1300]
