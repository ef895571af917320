"""A process that has imported what is slow to import, and forks to run `python -m MODULE`.

`server.py SOCKET PYTHON` serves the clients of `client.py`, which take the place of Python; PYTHON is the command that
starts one. A forked child becomes the command: it has the client's folder, arguments, environment and streams, the
module is the last thing that it runs, and an uncaught exception ends the interpreter as it ends any other.
`sys.executable` is PYTHON, so that its own children are forked as well. The child imports `common` and `scripts`.
When a client is killed, so is its child. What Python and PyTorch read of the environment at their start, such as
OMP_NUM_THREADS and MALLOC_*, is the server's: a test of these starts its command cold.
"""

import gc
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SLOW = (
    *("torch", "monai.bundle", "monai.engines", "monai.handlers", "monai.networks.nets", "ignite.engine"),
    *("torch.utils.tensorboard", "torch.distributed.launcher.api", "matplotlib.pyplot", "nibabel", "fire"),
    *("scipy.ndimage", "scipy.stats", "jsonschema", "einops", "cc3d", "jinja2", "yaml"),
)


def receive(client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The request of a client, and its standard streams; None if it was killed before it had sent them."""
    head, streams, _, _ = socket.recv_fds(client, 8, 3, socket.MSG_WAITALL)
    size = int(head or b"0")
    with client.makefile("rb") as file:
        text = file.read(size)
    if size and len(text) == size:
        return json.loads(text), streams
    for stream in streams:
        os.close(stream)
    return None


def serve(listener: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Serve requests in children; returns in each child, with its request and streams."""
    wake, wakened = os.pipe()
    os.set_blocking(wakened, False)
    signal.set_wakeup_fd(wakened)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)  # ends with the process of the tests, however that ends
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                if (received := receive(client)) is None:
                    client.close()
                    continue
                request, streams = received
                if (child := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    selector.close()
                    for inherited in (listener, client, *running.values()):
                        inherited.close()
                    os.close(wake)
                    os.close(wakened)
                    return request, streams
                for stream in streams:
                    os.close(stream)
                running[child] = client
                with suppress(OSError):  # killed since; the selector finds that it has gone
                    client.sendall(b"%20d" % child)
                selector.register(client, selectors.EVENT_READ, child)
            elif key.fileobj is sys.stdin:
                os._exit(0)
            elif key.fileobj == wake:
                os.read(wake, 1024)
            elif key.data in running:  # the client has gone
                os.kill(key.data, signal.SIGKILL)
                selector.unregister(key.fileobj)
        while running:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            client = running.pop(child)
            with suppress(KeyError):
                selector.unregister(client)
            with suppress(OSError), client:
                client.sendall(b"%20d" % os.waitstatus_to_exitcode(status))


def become(request: dict[str, Any], streams: list[int], python: str) -> None:
    """Take over the folder, arguments, environment, streams and limits of a request."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(request["place"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:1] = [request["place"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.executable = python
    sys.argv[1:] = request["arguments"][1:]
    if "WARM_MEMORY" in os.environ:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(os.environ["WARM_MEMORY"])
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if "WARM_DISK" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (int(os.environ["WARM_DISK"]),))


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(f"{sys.argv[1]}.new")
        opened.listen(64)
        Path(f"{sys.argv[1]}.new").rename(sys.argv[1])  # clients may connect from now on
        for name in SLOW:
            __import__(name)
        gc.freeze()  # a child would otherwise copy all these objects when it collects garbage at its end
        accepted = serve(opened)
    become(*accepted, sys.argv[2])
    runpy.run_module(accepted[0]["arguments"][0], run_name="__main__", alter_sys=True)
