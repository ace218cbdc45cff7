"""`examples/service.py` over real HTTP: jobs at once, clients that stall, leave, cancel, vote."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from stepbus import EventBus

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 60
ENDLESS = 10_000_000

pytestmark = pytest.mark.slow


def example(name: str) -> Any:
    """A module of the examples."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    # Where its annotations are looked up.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


service = example("service")


@contextlib.contextmanager
def served(folder: Path, train: Any = service.train) -> Iterator[httpx.Client]:
    """A client of the service, which runs in a thread of this process, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            service.create_app(folder, train), log_level="error", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False) as client:
                wait_for(lambda: server.started)
                yield client
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "the service did not shut down"
    left = [t.name for t in threading.enumerate() if t.name.startswith("stepbus")]
    assert left == []


def wait_for(condition: Callable[[], Any]) -> Any:
    """What a condition gives, once it gives anything."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail("it did not happen in time")


def submit(client: httpx.Client, **spec: Any) -> str:
    answer = client.post("/jobs", json={"pause_s": 0.0, **spec})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def job_of(client: httpx.Client, job: str) -> Any:
    return client.get(f"/jobs/{job}").json()


def ended(client: httpx.Client, job: str) -> Any:
    return wait_for(lambda: (shown := job_of(client, job))["status"] != "running" and shown)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str, Any]]:
    """Server-sent events: id, kind, and what was in it."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}


def all_events(client: httpx.Client, job: str, last: str = "") -> list[tuple[str, str, Any]]:
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", f"/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        return list(events_of(answer.iter_lines()))


def test_jobs_at_once_each_with_its_own_events_and_result(tmp_path: Path) -> None:
    with served(tmp_path) as client:
        jobs = [submit(client, steps=40 + 10 * n) for n in range(3)]
        for n, job in enumerate(jobs):
            seen = all_events(client, job)
            kinds = [kind for _, kind, _ in seen]
            assert kinds[0] in ("init_end", "train_begin")
            assert kinds[-2:] == ["train_end", "job_ended"]
            logged = [event["step"] for _, kind, event in seen if kind == "log"]
            assert logged == [*range(10, 41 + 10 * n, 10), 40 + 10 * n]
            assert {event["run_id"] for _, _, event in seen} == {job}
            result = ended(client, job)
            assert (result["status"], result["result"]["step"]) == ("finished", 40 + 10 * n)
        assert client.get("/jobs/none").status_code == 404
        assert client.post("/jobs", json={"steps": 0}).status_code == 422


def test_a_client_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    with served(tmp_path) as client:
        job = submit(client, steps=100)
        whole = all_events(client, job)
        for at in (0, len(whole) // 2, len(whole) - 2):
            assert all_events(client, job, last=whole[at][0]) == whole[at + 1 :]
        headers = {"Last-Event-ID": whole[-1][0]}
        assert client.get(f"/jobs/{job}/events", headers=headers).status_code == 204
        headers = {"Last-Event-ID": "yesterday"}
        assert client.get(f"/jobs/{job}/events", headers=headers).status_code == 400


def test_a_client_that_leaves_in_mid_stream_is_forgotten_and_its_job_goes_on(
    tmp_path: Path,
) -> None:
    with served(tmp_path) as client:
        job = submit(client, steps=ENDLESS)
        for _ in range(3):
            with client.stream("GET", f"/jobs/{job}/events") as answer:
                events = events_of(answer.iter_lines())
                assert next(event for _, kind, event in events if kind == "log")
        assert job_of(client, job)["status"] == "running"
        answer = client.post(f"/jobs/{job}/votes", params={"action": "stop", "reason": "enough"})
        assert answer.json() == {"cast": True}
        seen = all_events(client, job)
        (verdict,) = [event for _, kind, event in seen if kind == "verdict"]
        assert [(vote["voter"], vote["reason"]) for vote in verdict["votes"]] == [
            ("http", "enough")
        ]
        result = ended(client, job)
        assert (result["status"], result["result"]["status"]) == ("finished", "stopped")
        answer = client.post(f"/jobs/{job}/votes", params={"action": "stop"})
        assert answer.status_code == 409
        answer = client.post(f"/jobs/{job}/votes", params={"action": "dance"})
        assert answer.status_code == 422


def test_clients_that_never_read_hold_up_nobody(tmp_path: Path) -> None:
    with served(tmp_path) as client, contextlib.ExitStack() as stack:
        job = submit(client, steps=20_000)
        for _ in range(10):
            stalled = stack.enter_context(
                socket.create_connection((client.base_url.host, client.base_url.port or 80))
            )
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.sendall(f"GET /jobs/{job}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        seen = all_events(client, job)
        assert [event["step"] for _, kind, event in seen if kind == "log"] == [
            *range(10, 20_001, 10),
            20_000,
        ]
        assert ended(client, job)["status"] == "finished"


@pytest.mark.parametrize(("on_cancel", "saves"), [("save", True), ("stop", False)])
def test_a_cancelled_job_stops_with_a_checkpoint_where_asked(
    tmp_path: Path, on_cancel: str, saves: bool
) -> None:
    with served(tmp_path) as client:
        job, other = submit(client, steps=ENDLESS, on_cancel=on_cancel), submit(client, steps=50)
        with client.stream("GET", f"/jobs/{job}/events") as answer:
            events = events_of(answer.iter_lines())
            next(event for _, kind, event in events if kind == "log")
            assert client.delete(f"/jobs/{job}").status_code == 202
            rest = list(events)
        verdicts = {e["action"]: e for _, kind, e in rest if kind == "verdict"}
        assert verdicts["stop"]["votes"][0]["voter"] == "the host"
        (end,) = [event for _, kind, event in rest if kind == "train_end"]
        assert (end["status"], end["step"]) == ("stopped", verdicts["stop"]["acted_at"])
        assert rest[-1][2]["status"] == "cancelled"
        shown = ended(client, job)
        assert shown["checkpoints"] == ([f"checkpoint-{end['step']}"] if saves else [])
        assert ended(client, other)["status"] == "finished"


def test_a_request_that_is_broken_off_stops_its_training_at_that_step(tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()
    scopes: list[Any] = []

    def held(job: Any, bus: EventBus) -> dict[str, Any]:
        scopes.append(job.scope)

        @bus.subscribe("step_end", delivery="gate", run_id=job.id)
        def hold(event: Any) -> None:
            if event.step == 20:
                reached.set()
                go_on.wait(DEADLINE_S)

        return dict(service.train(job, bus))

    with served(tmp_path, held) as client:
        spec = {"steps": ENDLESS, "pause_s": 0.0, "on_cancel": "save"}
        path = "/jobs?attached=true"
        with client.stream("POST", path, json=spec) as answer:
            events = events_of(answer.iter_lines())
            job = next(events)[2]["run_id"]
            assert reached.wait(DEADLINE_S)
        wait_for(lambda: scopes[0].cancel_called)
        go_on.set()
        shown = ended(client, job)
        assert (shown["status"], shown["checkpoints"]) == ("cancelled", ["checkpoint-20"])
        assert ended(client, submit(client, steps=10))["status"] == "finished"


def test_a_crash_of_one_training_leaves_the_others_alone(tmp_path: Path) -> None:
    def crash(job: Any, bus: EventBus) -> dict[str, Any]:
        if job.spec.steps == 13:
            raise SystemExit("a script that leaves")
        if job.spec.steps == 26:
            job.spec.pause_s = -1.0  # time.sleep raises in the first step
        return dict(service.train(job, bus))

    with served(tmp_path, crash) as client:
        jobs = [submit(client, steps=steps) for steps in (30, 13, 26, 60)]
        shown = [ended(client, job) for job in jobs]
        assert [each["status"] for each in shown] == ["finished", "failed", "failed", "finished"]
        assert shown[1]["error"] == "SystemExit: a script that leaves"
        assert shown[2]["error"].startswith("ValueError")
        kinds = [kind for _, kind, _ in all_events(client, jobs[2])]
        assert kinds[-2:] == ["run_failed", "job_ended"]
        assert [kind for _, kind, _ in all_events(client, jobs[1])] == ["job_ended"]


def test_the_program_shuts_down_in_good_order_and_saves(tmp_path: Path) -> None:
    """As people start it, in a process of its own, with a job and a stalled client."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "import sys, uvicorn; from pathlib import Path; from service import create_app; "
        f"uvicorn.run(create_app(Path({str(tmp_path)!r})), port={port}, log_level='warning', "
        "timeout_graceful_shutdown=1)"
    )
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "examples")])
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=DEADLINE_S, trust_env=False) as client:

            def is_up() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return client.get("/jobs/x").status_code == 404
                return False

            wait_for(is_up)
            job = submit(client, steps=ENDLESS)
            with client.stream("GET", f"/jobs/{job}/events") as answer:
                next(e for _, kind, e in events_of(answer.iter_lines()) if kind == "log")
                process.send_signal(signal.SIGTERM)
                printed, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait(10)
    # uvicorn ends by the signal that it was sent, once all is shut down.
    assert process.returncode in (0, -signal.SIGTERM), printed
    assert [path.name for path in (tmp_path / job).glob("checkpoint-*")], printed
    assert "not stopped" not in printed
