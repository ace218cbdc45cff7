"""An S3 server on loopback: moto's own, that notes what it is asked, and can be slow or die."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import werkzeug.serving
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

REFUSAL = b"<Error><Code>AccessDenied</Code><Message>not here</Message></Error>"
KEYS = {"key": "testing", "secret": "testing"}


class Request(NamedTuple):
    method: str
    path: str
    """Bucket and key."""
    query: str
    """What stands behind the question mark."""


class Silent(werkzeug.serving.WSGIRequestHandler):
    """Logs nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Not here."""


class S3Server:
    """Its buckets outlive `stop`, after which it may be started again at the same port."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        """In the order in which they came."""
        self.before: Callable[[Request], None] = lambda request: None
        """Called before a request is answered: with 403 if it raises `PermissionError`; if it
        raises another `OSError` the connection is cut."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: werkzeug.serving.BaseWSGIServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """`storage_options` that reach it."""
        return {**KEYS, "endpoint_url": self.url}

    def start(self) -> None:
        server = werkzeug.serving.make_server(
            "127.0.0.1", self.port, self._serve, threaded=True, request_handler=Silent
        )
        self.port = server.server_port
        self._server = server
        threading.Thread(target=server.serve_forever, name="s3", daemon=True).start()

    def stop(self) -> None:
        """Takes no more connections."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def of(self, method: str, bucket: str = "") -> list[str]:
        """The paths of the requests of one method to a bucket, without its name."""
        start = f"/{bucket}/" if bucket else "/"
        return [
            request.path.removeprefix(start)
            for request in list(self.requests)
            if request.method == method and request.path.startswith(start)
        ]

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        self.requests.append(request)
        try:
            self.before(request)
        except PermissionError:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [REFUSAL]
        except OSError:
            cut(environ["werkzeug.socket"])
            return []
        found: Iterable[bytes] = self._app(environ, start_response)
        return found


def cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
