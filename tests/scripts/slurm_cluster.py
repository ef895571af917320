"""A real SLURM: two nodes on this machine, from Debian's packages, in a folder of their own."""

import os
import re
import shutil
import socket
import subprocess

from scripts.quickstart import ENVIRONMENT
from tests.support import wait_until

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
