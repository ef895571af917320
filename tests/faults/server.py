"""A process that has imported what is slow to import, and forks to run command lines.

`python -m tests.faults.server` reads requests as lines of JSON and answers each with the exit status of its command. A
child becomes the command: its folder, arguments and streams are those of `python -m MODULE ARGUMENT ...`, the module is
the last thing that it runs, and an uncaught exception ends the interpreter as it ends any other. `common` and `scripts`
are imported by the child.
"""

import gc
import json
import os
import resource
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

SLOW = (
    *("torch", "monai.bundle", "ignite.engine", "torch.utils.tensorboard", "matplotlib.pyplot", "nibabel", "fire"),
    *("scipy.ndimage", "jsonschema", "einops", "cc3d"),
)


def requested() -> dict[str, Any]:
    """Serve requests in children; returns in each child, with its request."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return request
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def become(request: dict[str, Any]) -> None:
    """Take over the folder, arguments, streams and limits of a request."""
    for name, stream in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["place"])
    sys.path[0] = request["place"]
    sys.argv[1:] = request["arguments"]
    signal.alarm(request["seconds"])
    if request["memory"] is not None:  # bytes more than the process has
        page = resource.getpagesize()
        most = int(Path("/proc/self/statm").read_text().split()[0]) * page + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if request["disk"] is not None:  # bytes of each file, as if the disk were full after them
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["disk"], request["disk"]))


if __name__ == "__main__":
    for module in SLOW:
        __import__(module)
    gc.freeze()  # a child would otherwise copy all these objects when it collects garbage at its end
    print("ready", flush=True)
    accepted = requested()
    become(accepted)
    runpy.run_module(accepted["module"], run_name="__main__", alter_sys=True)
