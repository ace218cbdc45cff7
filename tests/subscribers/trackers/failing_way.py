"""A way to a server on loopback that a test can block."""

from __future__ import annotations

import contextlib
import socket
import threading


class FailingWay:
    """Passes connections on to a port, and stops doing so when it is told.

    Args:
        port: of the server behind it; None for one that never answers.
    """

    def __init__(self, port: int | None) -> None:
        self._behind = port
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.port = 0
        self.connections = 0
        self._silent = threading.Event()
        self.accept()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Takes connections, on the port that it had before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuses connections, and breaks those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes the thread that accepts, which a close alone does not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def fall_silent(self) -> None:
        """Takes connections and what comes through them, and passes nothing on any more."""
        self._silent.set()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(near)
            if self._behind is None or self._silent.is_set():
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._behind), timeout=10)
            except OSError:
                near.close()
                continue
            self._open.append(far)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not self._silent.is_set():
                    target.sendall(data)
        if not self._silent.is_set():
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)
