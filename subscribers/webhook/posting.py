"""One request to a web hook, which takes no longer than it may."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from typing import Any

from ...schemas.errors import DeliveryError
from ..uploads.interruption import LOOK_S, Interruption, InThread, within
from .address import HookAddress

RESOLVE_WITHIN_S = 12.0
NO_ANSWER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""
LONGEST_ANSWER = 200
"""Characters of an answer that are shown."""
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


class Posting:
    """Posts to one address.

    Args:
        address: which one.
        timeout_s: how long a request may take, connecting and answering, s.
        interruption: ends the waiting.
    """

    def __init__(self, address: HookAddress, timeout_s: float, interruption: Interruption) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._interruption = interruption
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

    def post(self, body: bytes) -> None:
        """Posts one body of JSON.

        Raises:
            NoAnswer: it may be tried again.
            Refused: it is not to be tried again.
            InterruptedUpload: the time is over.
        """
        call = InThread(lambda: self._send(body), "stepbus-webhook")
        over_s = time.monotonic() + self._timeout_s
        while not call.done.wait(LOOK_S):
            self._interruption.check()
            if time.monotonic() > over_s:
                raise self._unanswered(TimeoutError())
        call.result()

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
            return NoAnswer(f"no answer within {self._timeout_s:g} s")
        told = reason if isinstance(reason, str) else one_line(reason)
        return NoAnswer(self._address.masked(told))

    def _answered(self, error: urllib.error.HTTPError) -> Exception:
        try:
            answer = error.read(4 * LONGEST_ANSWER).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            answer = ""
        answer = " ".join(answer.split())[:LONGEST_ANSWER]
        text = f"{error.code} {error.reason}".strip() + (f": {answer}" if answer else "")
        text = self._address.masked(text)
        if error.code in NO_ANSWER:
            asked = error.headers.get("Retry-After", "")
            pause_s = min(LONGEST_PAUSE_S, float(asked)) if asked.isdecimal() else 0.0
            return NoAnswer(text, pause_s)
        if 300 <= error.code < 400:
            text += " (it sends elsewhere, which is not followed: give that address)"
        return Refused(text)


def one_line(error: BaseException) -> str:
    """An error as one line of text."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
