"""What stands in for DagsHub on loopback: its API for uploads, before a real server of MLflow."""

from __future__ import annotations

import base64
import http.server
import json
import re
import threading
from typing import Any
from urllib.parse import unquote

from tests.subscribers.trackers.passing_on import PassingOnHandler

OWNER, NAME, TOKEN = "ada", "engine", "t0ken"
USER = {"id": 1, "login": OWNER, "username": OWNER, "full_name": "Ada", "avatar_url": None}
TIMES = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
COUNTS = dict.fromkeys("stars_count forks_count watchers_count open_issues_count".split(), 0)


class DagsHubStandIn:
    """Answers as DagsHub does those who have the token; keeps what is committed.

    Args:
        mlflow_port: of the server of MLflow behind `/<owner>/<name>.mlflow`.
    """

    def __init__(self, mlflow_port: int) -> None:
        self.files: dict[str, bytes] = {}
        """Bytes by path in the repository."""
        self.commits: list[tuple[str, str]] = []
        """Branch and message of each."""
        self.failures_to_come = 0
        """Uploads that are answered with an error on DagsHub's side."""
        stand_in = self

        class Handler(_Handler):
            hub = stand_in
            behind = mlflow_port

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(PassingOnHandler):
    hub: DagsHubStandIn

    def answer(self) -> None:
        body = self.read()
        tracking, api = f"/{OWNER}/{NAME}.mlflow", f"/api/v1/repos/{OWNER}/{NAME}"
        basic = "Basic " + base64.b64encode(f"{TOKEN}:{TOKEN}".encode()).decode()
        path = self.path.split("?")[0]
        if self.headers.get("authorization") not in (f"Bearer {TOKEN}", basic):
            self.say_json(401, {"message": "unauthorized"})
        elif path.startswith(f"{tracking}/"):
            self.pass_on(body, self.path.removeprefix(tracking))
        elif path == "/api/v1/user":
            self.say_json(200, USER)
        elif path == api:
            self.say_json(200, self.repository())
        elif path == f"{api}/branches/main":
            commit = {"id": f"c{len(self.hub.commits)}", "message": "", "url": ""}
            self.say_json(200, {"name": "main", "commit": {**commit, "timestamp": ""}})
        elif self.command == "PUT" and path.startswith(f"{api}/content/"):
            branch, _, folder = path.removeprefix(f"{api}/content/").partition("/")
            self.commit(body, branch, unquote(folder))
        else:
            self.say_json(404, {"message": f"no {path}"})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

    def repository(self) -> dict[str, Any]:
        flags = {"private": False, "fork": False, "empty": False, "mirror": False}
        texts = {"description": "", "html_url": "", "ssh_url": None, "clone_url": ""}
        names = {"name": NAME, "full_name": f"{OWNER}/{NAME}", "default_branch": "main"}
        more = {"id": 1, "owner": USER, "parent": None, "size": 0, "website": None}
        return {**flags, **texts, **names, **more, **TIMES, **COUNTS}

    def commit(self, body: bytes, branch: str, folder: str) -> None:
        if self.hub.failures_to_come:
            self.hub.failures_to_come -= 1
            self.say_json(500, {"error": "server error", "details": "on purpose"})
            return
        boundary = self.headers["content-type"].partition("boundary=")[2].encode()
        texts: dict[str, str] = {}
        for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
            head, _, data = part.partition(b"\r\n\r\n")
            names = dict(re.findall(r'(\bname|filename)="([^"]*)"', head.decode()))
            if "filename" in names:
                self.hub.files[f"{folder}/{names['filename']}"] = data
            else:
                texts[names["name"]] = data.decode()
        self.hub.commits.append((branch, texts["commit_summary"]))
        self.say_json(200, {})

    def say_json(self, status: int, found: Any) -> None:
        self.say(status, json.dumps(found).encode())
