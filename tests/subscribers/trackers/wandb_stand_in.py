"""What stands in for a server of Weights & Biases on loopback: its answers to a run that is online,
and what that run has sent."""

from __future__ import annotations

import gzip
import http.server
import json
import re
import threading
from typing import Any


class Sent:
    """What a run has sent: lines by their place, so that one that comes again is one."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.lines: dict[str, dict[int, str]] = {}
        self.exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        found = self.lines.get("wandb-history.jsonl", {})
        return [json.loads(found[at]) for at in sorted(found)]

    @property
    def summary(self) -> dict[str, Any]:
        found = self.lines.get("wandb-summary.json", {})
        return json.loads(found[max(found)]) if found else {}

    def all_points(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each point, by metric."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.history:
            for name, value in row.items():
                if not name.startswith("_") and name != "train/global_step":
                    found.setdefault(name, []).append((row["train/global_step"], value))
        return found


class WandbStandIn:
    """Takes runs, and goes on with those that it has."""

    def __init__(self) -> None:
        self.runs: dict[str, Sent] = {}
        stand_in = self

        class Handler(_Handler):
            server_of_wandb = stand_in

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question."""
        if operation == "Viewer":
            teams: dict[str, Any] = {"edges": []}
            who = {"id": "u", "entity": "team", "username": "me", "flags": "{}", "teams": teams}
            return {"viewer": who}
        if operation == "RunResumeStatus":
            return {"model": {**_project(values["project"]), "bucket": self._known(values["name"])}}
        if operation == "UpsertBucket":
            sent = self.runs.setdefault(values["name"], Sent())
            sent.config = json.loads(values.get("config") or "{}") or sent.config
            names = {"name": values["name"], "displayName": values.get("displayName")}
            project = _project(values.get("project"))
            more = {"description": "", "config": "{}", "sweepName": None, "historyLineCount": None}
            bucket = {"id": "b", **names, **more, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": n, "uploadUrl": f"{self.address}/file"} for n in values["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def streamed(self, run_id: str, body: dict[str, Any]) -> None:
        """Lines of files."""
        sent = self.runs.setdefault(run_id, Sent())
        for file, part in (body.get("files") or {}).items():
            lines = sent.lines.setdefault(file, {})
            for at, line in enumerate(part["content"], part["offset"]):
                lines[at] = line
        if body.get("complete"):
            sent.exit_code = body["exitcode"]

    def _known(self, name: str) -> dict[str, Any] | None:
        sent = self.runs.get(name)
        if sent is None:
            return None
        history = sent.lines.get("wandb-history.jsonl", {})
        events = sent.lines.get("wandb-events.jsonl", {})
        return {
            "id": "b",
            "name": name,
            "displayName": name,
            "summaryMetrics": json.dumps(sent.summary),
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "historyTail": json.dumps([history[max(history)]] if history else []),
            "eventsTail": json.dumps([events[max(events)]] if events else []),
            "config": json.dumps(sent.config),
            "tags": [],
            "notes": None,
            "wandbConfig": '{"t": 1}',  # Without it wandb takes a run for one that never began.
        }


def _project(name: Any) -> dict[str, Any]:
    return {"id": "p", "name": name, "entity": {"id": "e", "name": "team"}}


class _Handler(http.server.BaseHTTPRequestHandler):
    server_of_wandb: WandbStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        found: dict[str, Any] = {}
        stream = re.search(r"/([^/]+)/file_stream", self.path)
        if stream is not None:
            self.server_of_wandb.streamed(stream[1], json.loads(body))
        elif self.path.endswith("/graphql"):
            asked = json.loads(body)
            named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            operation = named[1] if named is not None else ""
            found["data"] = self.server_of_wandb.asked(operation, asked.get("variables") or {})
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815
