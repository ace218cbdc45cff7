"""A service that trains: submit a job, follow its events, vote, fetch the result, cancel.

pip install "stepbus[service]"
python examples/service.py

How to talk to it with curl: docs/in_an_async_service.md.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import torch
import uvicorn
from anyio.abc import TaskGroup
from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from torch import nn

from stepbus import Event, EventBus, EventsGoneError, TrainingArguments, TrainingRun, run_async

SSE = "text/event-stream"
Action = Literal["log", "evaluate", "save", "stop"]


class Spec(BaseModel):
    """What a job is to do."""

    steps: int = Field(default=1_000, gt=0)
    pause_s: float = Field(default=0.005, ge=0)
    on_cancel: Literal["stop", "save"] = "save"


class JobEnded(Event):
    """The last event of a job, also of one that failed before its run was open."""

    name: Literal["job_ended"] = "job_ended"
    status: str
    error: str = ""


@dataclass
class Job:
    """A training that was asked for; its id is that of its run too."""

    id: str
    spec: Spec
    folder: Path
    status: str = "running"
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    last: tuple[int, int] | None = None  # of `job_ended`, once somebody has been given it

    def as_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("id", "status", "error", "result")}
        saved = sorted(path.name for path in self.folder.glob("checkpoint-*"))
        return {**fields, "checkpoints": saved}


def train(job: Job, bus: EventBus) -> dict[str, Any]:
    """An ordinary training; it knows neither of the event loop nor of HTTP."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(512, 16, generator=generator)
    batches = [(x, x.sum(1, keepdim=True)) for x in inputs.view(16, 32, 16)]
    model = nn.Linear(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    args = TrainingArguments(
        str(job.folder),
        max_steps=job.spec.steps,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
    )
    with TrainingRun(args, model=model, optimizer=optimizer, bus=bus, run_id=job.id) as run:
        for x, y in run.steps(batches):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            run.end_step(loss=loss)
            time.sleep(job.spec.pause_s)
    assert run.summary is not None
    return {"status": run.summary.status, "step": run.summary.global_step, "loss": loss.item()}


class Attached(StreamingResponse):
    """A stream of events whose job ends with it: a client that goes away cancels its training."""

    job: Job

    async def __call__(self, *asgi: Any) -> None:
        try:
            await super().__call__(*asgi)
        finally:
            self.job.scope.cancel()


def create_app(folder: Path, train: Callable[[Job, EventBus], Any] = train) -> FastAPI:
    """The service, with what it writes under `folder`."""
    jobs: dict[str, Job] = {}
    bus = EventBus(replay=True)
    tasks: list[TaskGroup] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with bus, anyio.create_task_group() as group:
            tasks.append(group)
            yield
            # Every training stops after its present step, before the bus closes.
            group.cancel_scope.cancel()

    app = FastAPI(lifespan=lifespan)

    async def run(job: Job) -> None:
        status = "cancelled"
        try:
            with job.scope:
                job.result = await run_async(train, job, bus, on_cancel=job.spec.on_cancel)
                status = "finished"
        except (Exception, SystemExit) as error:
            status, job.error = "failed", f"{type(error).__name__}: {error}"
        finally:
            job.status = status
            bus.publish(JobEnded(run_id=job.id, status=status, error=job.error))

    def find(job_id: str) -> Job:
        if job_id not in jobs:
            raise HTTPException(404, f"There is no job {job_id!r}.")
        return jobs[job_id]

    async def stream(job: Job, events: Any) -> AsyncIterator[bytes]:
        async with events:
            while True:
                with anyio.move_on_after(15) as silence:
                    event = await anext(events, None)
                if silence.cancelled_caught:
                    yield b": nothing new\n\n"
                    continue
                if event is None:
                    return
                if isinstance(event, JobEnded):
                    job.last = event.attempt, event.seq
                head = f"id: {event.attempt}-{event.seq}\nevent: {event.name}\ndata: "
                yield head.encode() + event.to_json() + b"\n\n"

    @app.post("/jobs", status_code=202)
    async def submit(spec: Spec, attached: bool = False) -> Any:
        job_id = uuid.uuid4().hex[:8]
        job = jobs[job_id] = Job(job_id, spec, folder / job_id)
        events = bus.events(since=0, run_id=job_id, until=JobEnded) if attached else None
        tasks[0].start_soon(run, job)
        if events is None:
            return {"id": job_id}
        response = Attached(stream(job, events), media_type=SSE)
        response.job = job
        return response

    @app.get("/jobs/{job_id}")
    async def show(job_id: str) -> dict[str, Any]:
        return find(job_id).as_json()

    @app.get("/jobs/{job_id}/events")
    async def follow(job_id: str, last_event_id: str = Header(default="")) -> Response:
        job = find(job_id)
        try:
            attempt, _, seq = (last_event_id or "0--1").partition("-")
            since = int(attempt), int(seq) + 1
            if job.last is not None and since > job.last:
                return Response(status_code=204)  # A browser asks no more.
            events = bus.events(since=since, run_id=job_id, until=JobEnded)
        except EventsGoneError as error:
            raise HTTPException(410, str(error)) from error
        except ValueError as error:
            raise HTTPException(400, f"Last-Event-ID {last_event_id!r}: {error}") from error
        return StreamingResponse(stream(job, events), media_type=SSE)

    @app.post("/jobs/{job_id}/votes")
    async def vote(job_id: str, action: Action, reason: str = "") -> dict[str, bool]:
        find(job_id)
        if not bus.vote(action, reason=reason, voter="http", run_id=job_id):
            raise HTTPException(409, "The run is not open: it has not begun, or has ended.")
        return {"cast": True}

    @app.delete("/jobs/{job_id}", status_code=202)
    async def cancel(job_id: str) -> dict[str, str]:
        find(job_id).scope.cancel()
        return {"id": job_id}

    return app


if __name__ == "__main__":
    app = create_app(Path(tempfile.mkdtemp(prefix="service-")))
    # Streams are cut after 5 s; then the trainings are stopped, and saved where asked.
    uvicorn.run(app, port=8000, timeout_graceful_shutdown=5)
