"""A web hook on loopback, that keeps what it took and can be told to answer otherwise."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a request is answered with."""

    status: int = 200
    """0: it is not, until the server is stopped."""
    text: str = "ok"
    headers: tuple[tuple[str, str], ...] = ()


class Post(NamedTuple):
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    taken: bool
    """Whether it was answered with 200."""


class HookServer:
    """Answers with `answers` one after the other, then with 200."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[Answer] = []
        self._stopped = threading.Event()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = owner.answers.pop(0) if owner.answers else Answer()
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.posts.append(Post(self.path, headers, body, answer.status == 200))
                if not answer.status:
                    owner._stopped.wait()
                    return
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.text.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                """Not here."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="hook", daemon=True).start()

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The bodies that were answered with 200."""
        return [post.body for post in self.posts if post.taken]

    @property
    def kinds(self) -> list[str]:
        """Of those."""
        return [body["kind"] for body in self.taken]

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
