"""The first lines of a sidecar, run by path: `python start.py FEED BACK NICE`.

Imports nothing of stepbus before it is out of the training's way and knows where to look for it.
"""

import json
import os
import signal
import sys


def main() -> None:
    """Steps back, reads where things are, and serves."""
    os.nice(int(sys.argv[3]))
    # The trainer decides when this process ends; a terminal that stops writers must not stop it.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGTTOU", "SIGTTIN"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    feed, back = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (feed, back):
        os.set_inheritable(descriptor, False)
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(feed, 1)
        if not piece:
            return
        line += piece
    start = json.loads(line)
    sys.path[:] = start["path"]
    sys.argv[:] = [start["program"]]
    from stepbus.bus.sidecar.host import serve

    serve(feed, back, start["trainer"])


if __name__ == "__main__":
    main()
