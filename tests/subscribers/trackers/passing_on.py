"""HTTP on loopback that passes requests on to a server behind it, under another path."""

from __future__ import annotations

import http.client
import http.server
import ssl
import threading
from typing import Any


class PassingOn:
    """Passes requests on.

    Args:
        port: of the server behind it.
        without: what is taken off the front of each path.
        context: for TLS.
    """

    def __init__(
        self, port: int, *, without: str = "", context: ssl.SSLContext | None = None
    ) -> None:
        class Handler(PassingOnHandler):
            behind = port

            def answer(self) -> None:
                if not self.path.startswith(without):
                    self.say(404, b"{}")
                    return
                self.pass_on(self.read(), self.path.removeprefix(without))

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class PassingOnHandler(http.server.BaseHTTPRequestHandler):
    """Passes a request on, and its answer back."""

    behind: int
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def read(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def pass_on(self, body: bytes, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=30)
        headers = {"content-type": self.headers.get("content-type") or "application/json"}
        connection.request(self.command, path, body or None, headers)
        answer = connection.getresponse()
        self.say(answer.status, answer.read(), answer.headers.get("content-type"))
        connection.close()

    def say(self, status: int, data: bytes, kind: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind or "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
