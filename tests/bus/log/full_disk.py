"""A log whose disk takes nothing for a while; run by test_full_disk.py."""

from __future__ import annotations

import json
import resource
import signal
import sys

from stepbus.bus.log import EventLog


def main() -> None:
    """Fills the disk, empties it, and says what a cursor got."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    log = EventLog(folder, memory_bytes=100_000)
    cursor = log.cursor()
    payload = b'{"name":"step_end","text":"%b"}' % (b"x" * 100)
    written = [log.append(payload) for _ in range(10)]
    assert log.flush(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, most))
    while log.append(payload) is not None:
        pass
    assert not log.flush(0.2)
    failing = log.failing
    kept = log.append(payload, keep=True)
    in_memory = log.num_unwritten
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert log.flush(30)
    after = log.append(payload)
    assert log.flush(30)
    got = []
    while records := cursor.read():
        got += [record.at for record in records]
    cursor.close()
    log.close()
    print(
        json.dumps(
            {
                "failing": failing,
                "failing_at_the_end": log.failing,
                "written": written,
                "in_memory": in_memory,
                "kept": kept,
                "after": after,
                "got": got,
                "missing": cursor.num_missing,
                "dropped": log.num_dropped,
                "waits_at_the_end": log.num_unwritten,
            }
        )
    )


if __name__ == "__main__":
    main()
