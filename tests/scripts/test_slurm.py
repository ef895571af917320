"""scripts/train.sbatch under a real SLURM: two nodes on this machine, from Debian's packages, started by the test."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from scripts.quickstart import ENVIRONMENT
from tests.common.toy import same
from tests.support import ROOT, TINY, execute

SCRIPT = ROOT / "scripts/train.sbatch"
PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "sinfo", "squeue"]
NODES = ["127.0.0.1", "127.0.0.2"]  # names that are addresses, so that they need no name server
CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
FirstJobId={job}
KillWait=20
SchedulerParameters=batch_sched_delay=1,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=127.0.0.[1-2] Port=[{ports[1]}-{ports[2]}] CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=debug Nodes=ALL Default=YES
"""
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"  # which nothing computes on


def wait_until(condition, what, seconds):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, what()
        time.sleep(0.2)
    return result


def free_ports():
    """Three that follow each other, as the nodes' have to, below those of the jobs and those of the system."""
    for first in range(10000 + os.getpid() % 5000, 20000, 3):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for number, listener in enumerate((one, two, three)):
                    listener.bind(("0.0.0.0", first + number))
            except OSError:
                continue
            return [first, first + 1, first + 2]
    raise AssertionError("no free ports")


class Slurm:
    """Two nodes of two CPUs each, in a folder of their own; nothing outside of it is touched."""

    def __init__(self, folder):
        self.folder, self.daemons = folder, []
        self.environment = os.environ | ENVIRONMENT | {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self):
        self.folder.chmod(0o755)  # munged runs as a user of its own
        for name in ("munge", "state", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o755, parents=True)
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        config = CONFIG.format(folder=self.folder, ports=free_ports(), job=1 + os.getpid() % 9000)
        (self.folder / "slurm.conf").write_text(config)
        (self.folder / "gres.conf").write_text(GPUS)
        places = [f"--{name}={munge}/{name.split('-')[0]}" for name in ("socket", "key-file", "pid-file", "log-file")]
        user = {"user": "munge", "group": "munge", "extra_groups": []}
        self.run_daemon("munged", "--foreground", *places, f"--seed-file={munge}/seed", **user)
        wait_until((munge / "socket").exists, self.logs, 30)
        self.run_daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self.run_daemon("slurmd", "-D", "-N", node)
        idle = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
        wait_until(lambda: self.ask(*idle).strip() == str(len(NODES)), self.logs, 60)

    def run_daemon(self, *command, **user):
        with (self.folder / f"{len(self.daemons)}-{command[0]}.log").open("w") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd="/", **user)
        self.daemons.append(process)

    def logs(self):
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    def ask(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def stop(self):
        if len(self.daemons) > 1:
            self.ask("scancel", "--user=root")
            wait_until(lambda: not self.ask("squeue", "--noheader"), self.logs, 60)
        for daemon in reversed(self.daemons):  # by its id
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def job(self, number):
        """What SLURM says of a job, by name."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.ask("scontrol", "show", "job", "--oneliner", number)))

    def wait_for_file(self, number, file, log):
        wait_until(lambda: file.exists() or self.job(number)["JobState"] == "FAILED", self.logs, 200)
        assert file.exists(), log.read_text()

    def wait_for_state(self, number, *states, seconds=200):
        wait_until(
            lambda: self.job(number)["JobState"] in states and "CG" not in self.ask("squeue", "-h", "-o%t"),
            lambda: f"{self.job(number)}\n{self.logs()}",
            seconds,
        )
        return self.job(number)


@pytest.fixture(scope="module")
def slurm():
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid():
        pytest.skip("SLURM's daemons have to be started as root")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a short path: sockets are in it
    slurm = Slurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The repository at a path with a space in it, with the embedded cohort in data/ and ukb.json."""
    folder = tmp_path_factory.mktemp("slurm") / "a repository"
    folder.mkdir()
    for name in ("bundles", "common", "scripts"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("models", "eval"))
    (folder / ".venv").symlink_to(sys.prefix)
    make = ["scripts.phantoms", "make", "--layout=ukb", "--subjects=6", "--spacing=4", "--workers=1"]
    split = ["scripts.datalists", "ukb", f"--root={folder}/data", "--validation=3"]
    for command in ([*make, f"--output={folder}/data"], [*split, f"--output={folder}/ukb.json"]):
        result = execute([sys.executable, "-m", *command])
        assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def submit(slurm, repository):
    """Submits the training of docs/scale.md in other places; all that it writes is below repository/NAME."""
    (command,) = re.findall(r"```bash\n(sbatch .*?)```", (ROOT / "docs/scale.md").read_text(), re.DOTALL)
    at = "--nodes=8 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=6"
    assert at in command

    def submit(name, places, *options):
        output = [f"--output_dir={repository / name}", f"--ckpt_dir={repository / name}/models"]
        result = subprocess.run(
            ["bash", "-c", f'{command.replace(at, places).rstrip()} "$@"', "bash", *output, *TINY, *options],
            cwd=repository,
            env=slurm.environment | {"UKB": f"{repository}/data", "SBATCH_OUTPUT": f"{repository / name}.log"},
            capture_output=True,
            text=True,
            check=True,
        )
        return re.fullmatch(r"Submitted batch job (\d+)\n", result.stdout)[1]

    yield submit
    slurm.ask("scancel", "--user=root")


def state(folder, iteration):
    content = torch.load(folder / "models" / f"iteration-{iteration:07d}.pt", weights_only=True)
    del content["record"]["seconds"], content["record"]["started"]
    return content


LENGTH = ["--iterations=8", "--val_interval=8", "--save_interval=2", "--num_workers=1"]
LONG = ["--iterations=500", "--val_interval=500", "--save_interval=2", "--num_workers=1"]


@pytest.mark.slow
def test_a_job_that_is_told_saves_requeues_itself_and_ends_as_one_that_never_was(slurm, submit, repository):
    """Told on two nodes, against one node of as many processes: it is the same run to the bit."""
    told = submit("told", "--nodes=2 --ntasks-per-node=1 --gpus-per-node=1", *LENGTH)
    log = repository / "told.log"
    slurm.wait_for_file(told, repository / "told/models/iteration-0000002.pt", log)
    slurm.ask("scancel", "--signal=USR1", told)
    slurm.wait_for_state(told, "PENDING", seconds=60)
    assert re.search(r"SIGUSR1: saved .*iteration-\d+\.pt; resume=true continues from it; status 75", log.read_text())
    straight = submit("straight", "--nodes=1 --ntasks-per-node=2 --gpus-per-node=2", *LENGTH)
    for job, restarts in ((straight, "0"), (told, "1")):
        ended = slurm.wait_for_state(job, "COMPLETED", "FAILED")
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("COMPLETED", "0:0", restarts), (
            log.read_text()
        )
    assert re.search(r"resume: .*iteration-000000[2-7]\.pt, iteration [2-7]$", log.read_text(), re.MULTILINE)
    final = state(repository / "told", 8)
    assert len(final["ranks"]) == 2
    assert same(final, state(repository / "straight", 8))


@pytest.mark.slow
def test_a_cancelled_job_saves_and_does_not_come_back(slurm, submit, repository):
    """SLURM sends SIGTERM to every process of the job, those that read data among them."""
    job = submit("cancelled", "", *LONG)  # one task, as nothing is said
    log = repository / "cancelled.log"
    slurm.wait_for_file(job, repository / "cancelled/models/iteration-0000002.pt", log)
    slurm.ask("scancel", job)
    slurm.wait_for_state(job, "CANCELLED", seconds=60)
    assert re.search(r"SIGTERM: saved .*; status 75", log.read_text())
    time.sleep(12)  # more than a requeued job waits
    assert slurm.job(job)["JobState"] == "CANCELLED"
    assert slurm.job(job)["Restarts"] == "0"


@pytest.mark.slow
def test_a_job_that_fails_is_not_requeued(slurm, submit, repository):
    job = submit("failed", "--ntasks=2", "--iteration=3")
    ended = slurm.wait_for_state(job, "FAILED", "COMPLETED", seconds=100)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert "error: --iteration=3: no such option" in (repository / "failed.log").read_text()


@pytest.mark.parametrize(
    ("bundle", "environment", "message"),
    [
        ("ukb_ssl_pretrain", {"SLURM_JOB_ID": ""}, "expected sbatch"),
        ("ukb_ssl_pretrain", {"SLURM_SUBMIT_DIR": "/"}, "/: expected to be submitted from the root of the repository"),
        ("ukb", {}, "'ukb': expected a bundle, one of atlas_finetune atlas_stage2 brats_finetune"),
        ("", {}, "'': expected a bundle"),
        ("ukb_ssl_pretrain", {}, ".venv/bin/python: not there; expected what make install makes"),
        (
            "ukb_ssl_pretrain",
            {"SLURM_GPUS_PER_TASK": "1", "venv": "yes"},
            "--gpus-per-task=1: expected --gpus-per-node",
        ),
        ("ukb_ssl_pretrain", {"SLURM_GPUS_ON_NODE": "4", "venv": "yes"}, "2 tasks on a node of 4 GPUs: expected one"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(tmp_path, bundle, environment, message):
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    if "venv" in environment:
        (tmp_path / ".venv").symlink_to(sys.prefix)
    known = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_TASKS_PER_NODE": "2(x4)"}
    result = execute(["bash", str(SCRIPT), bundle], tmp_path, **known | environment)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
