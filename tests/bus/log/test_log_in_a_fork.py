"""A log in a forked child: inert, and the parent does not notice."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from stepbus.bus.log import EventLog
from stepbus.schemas import BusClosedError

log = EventLog()
cursor = log.cursor()
log.append(b'{"name":"a"}')
assert log.flush(10)
log.append(b'{"name":"b"}')
held = threading.Event(); release = threading.Event()

def hold_the_lock():
    with log._lock:
        held.set()
        release.wait(30)

holder = threading.Thread(target=hold_the_lock)
holder.start()
held.wait(30)
pid = os.fork()
if pid == 0:
    try:
        log.append(b'{"name":"c"}')
        sys.exit(1)
    except BusClosedError as error:
        assert "was forked from the one that trains" in str(error), error
    assert [t.name for t in threading.enumerate()] == ["MainThread"]
    cursor.commit()
    cursor.close()
    log.close()
    sys.exit(7)  # Not os._exit: what runs at the end of a program runs too.
release.set()
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert log.folder.exists()
log.append(b'{"name":"d"}')
assert log.flush(10)
seen = []
while records := cursor.read():
    seen += [record.payload for record in records]
assert seen == [b'{"name":"a"}', b'{"name":"b"}', b'{"name":"d"}'], seen
folder = log.folder
# Without close(): the folder goes with the program.
print(folder)
"""


def test_in_a_forked_child_it_is_inert_and_the_folder_goes_with_the_parent(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
