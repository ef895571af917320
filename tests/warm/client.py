"""Takes the place of Python: `-m MODULE ARGUMENT ...` runs in a child of the server, anything else in Python itself.

`client.py SOCKET PYTHON ARGUMENT ...`; it hands signals on to the child, and ends as the child ends.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(place: str, python: str, *arguments: str) -> None:
    module = arguments[1:] if arguments[:1] == ("-u",) else arguments
    if module[:1] != ("-m",):
        os.execv(python, [python, *arguments])
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        request = {"arguments": module[1:], "place": str(Path.cwd()), "environment": dict(os.environ)}
        text = json.dumps(request).encode()
        socket.send_fds(server, [b"%8d" % len(text)], [0, 1, 2])
        server.sendall(text)
        child = int(server.recv(20, socket.MSG_WAITALL))
        for number in SIGNALS:
            signal.signal(number, lambda number, _: os.kill(child, number))
        status = int(server.recv(20, socket.MSG_WAITALL))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


main(*sys.argv[1:])
