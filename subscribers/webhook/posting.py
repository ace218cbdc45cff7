"""Requests to a web hook, each in a thread of its own, none of which takes longer than it may."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from ...schemas.errors import DeliveryError
from ..uploads.interruption import InThread, within
from .address import HookAddress

RESOLVE_WITHIN_S = 12.0
NO_ANSWER = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may succeed later, as after those from 500 on."""
LONGEST_ANSWER = 200
"""Characters of an answer that are shown."""
READ_BYTES = 1 << 16
LONGEST_PAUSE_S = 60.0
"""What a server may ask for at most."""


class NoAnswer(Exception):
    """It was not taken now; `pause_s` is how long the server wants to be left alone, s."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class Refused(Exception):
    """It was not taken and never will be."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A message is for the address that was given, and so are its headers."""

    def redirect_request(self, *_args: Any, **_keywords: Any) -> None:
        """None: the answer is taken as it is."""
        return


class Request:
    """A request under way; who gives it up lets go of it.

    Args:
        send: makes it, and raises what came of it.
        timeout_s: how long it may take, s.
    """

    def __init__(self, send: Callable[[], None], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._over_s = time.monotonic() + timeout_s
        self._call = InThread(send, "stepbus-webhook")

    def wait(self, seconds: float) -> bool:
        """Waits for its end, or that of its time; whether one of them has come."""
        return self._call.done.wait(seconds) or time.monotonic() > self._over_s

    def result(self) -> None:
        """Says what came of it.

        Raises:
            NoAnswer: it may be made again.
            Refused: it is not to be made again.
        """
        if not self._call.done.is_set():
            raise no_answer(self._timeout_s)
        self._call.result()


def no_answer(timeout_s: float) -> NoAnswer:
    """What there is to say of a request whose time is over."""
    return NoAnswer(f"no answer within {timeout_s:g} s")


class Posting:
    """Posts to one address.

    Args:
        address: which one.
        timeout_s: how long a request may take, connecting and answering, s.
    """

    def __init__(self, address: HookAddress, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects)

    def look_up(self) -> None:
        """Finds the host, unless a proxy is to find it.

        Raises:
            DeliveryError: there is no such host, or nobody can tell.
        """
        address = self._address
        proxies = urllib.request.getproxies()
        if address.scheme in proxies and not urllib.request.proxy_bypass(address.host):
            return
        try:
            within(
                RESOLVE_WITHIN_S,
                lambda: socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM),
                "stepbus-resolve",
            )
        except (OSError, ValueError) as error:
            raise DeliveryError(
                f"The host of {address.shown} cannot be found ({error}): look at the address and "
                "the network."
            ) from None

    def start(self, body: bytes) -> Request:
        """Begins to post a body of JSON."""
        return Request(lambda: self._send(body), self._timeout_s)

    def _send(self, body: bytes) -> None:
        address = self._address
        headers = {"Content-Type": "application/json", "User-Agent": "stepbus", **address.headers}
        request = urllib.request.Request(address.url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                return
        except urllib.error.HTTPError as error:
            with error:
                failure = self._answered(error)
        except urllib.error.URLError as error:
            failure = self._unanswered(error.reason)
        except (OSError, http.client.HTTPException) as error:
            failure = self._unanswered(error)
        except ValueError as error:
            failure = Refused(address.masked(one_line(error)))
        raise failure  # Outside, so that it does not carry what it was made of.

    def _unanswered(self, reason: BaseException | str) -> NoAnswer:
        if isinstance(reason, TimeoutError):
            return no_answer(self._timeout_s)
        told = reason if isinstance(reason, str) else one_line(reason)
        return NoAnswer(self._address.masked(told))

    def _answered(self, error: urllib.error.HTTPError) -> Exception:
        try:
            answer = error.read(READ_BYTES).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            answer = ""
        # Masked before it is cut: half a secret would not be found.
        answer = " ".join(self._address.masked(answer).split())[:LONGEST_ANSWER]
        text = f"{error.code} {error.reason}".strip() + (f": {answer}" if answer else "")
        text = self._address.masked(text)
        if error.code in NO_ANSWER or error.code >= 500:
            asked = error.headers.get("Retry-After", "")
            pause_s = min(LONGEST_PAUSE_S, float(asked)) if asked.isdecimal() else 0.0
            return NoAnswer(text, pause_s)
        if 300 <= error.code < 400:
            text += " (it sends elsewhere, which is not followed: give that address)"
        return Refused(text)


def one_line(error: BaseException) -> str:
    """An error as one line of text."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
