"""The address of a web hook, most of which is a secret, and the headers that go with it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...schemas.errors import ArgumentError

MASK = "***"
LEAST = 4
"""Characters: what is shorter hides nothing, and stands in many a word."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HookAddress:
    """Where messages are posted, and what of it may be shown.

    A name and a password before the host become a header `Authorization`.

    Args:
        url: an address that begins with https:// or http://.
        headers: more headers of each request.

    Raises:
        ArgumentError: either makes no sense; the message has nothing of what is secret.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts, self.host, self.port = _parts(url)
        self.scheme = parts.scheme.lower()
        location = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(netloc=location, fragment="").geturl()
        """What is asked for."""
        bare = parts.path in ("", "/") and not parts.query
        self.shown = f"{self.scheme}://{location}" + ("" if bare else f"/{MASK}")
        """What may be shown of it."""
        self.headers = _checked_headers(headers)
        if parts.username is not None and "authorization" not in map(str.lower, self.headers):
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._secrets = _secrets(url, parts, self.headers)

    def masked(self, text: str) -> str:
        """A text without anything secret."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def _parts(url: object) -> tuple[SplitResult, str, int]:
    text = url if isinstance(url, str) else ""
    give = "give one such as 'https://hooks.example.com/services/...'"
    if not text:
        raise ArgumentError(f"url is {'empty' if url == '' else type(url).__name__}: {give}.")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme not in ("http", "https"):
        told = f"has the scheme {scheme!r}" if scheme.isalnum() else "has no scheme"
        raise ArgumentError(f"url {told}, and a web hook has https or http: {give}.")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ArgumentError(f"url has spaces or characters that no address has: {give}.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ArgumentError(f"url has a host or a port that cannot be read: {give}.") from None
    if not re.fullmatch(r"[0-9a-z._:-]+", host) or ".." in host:
        raise ArgumentError(f"url has no host, or one that cannot be read: {give}.")
    return parts, host, port or (443 if scheme == "https" else 80)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = {}
    for name, value in dict(headers).items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ArgumentError(f"headers has the name {name!r}: give one such as 'X-Token'.")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ArgumentError(
                f"headers has a value for {name!r} that is no line of plain text: give it as "
                "printable ASCII."
            )
        checked[name] = value
    return checked


def _secrets(url: str, parts: SplitResult, headers: Mapping[str, str]) -> list[str]:
    """What may be shown nowhere, the longest first."""
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    found = [url, path.strip("/"), parts.query, parts.fragment, *parts.path.split("/")]
    found += [value for _, value in parse_qsl(parts.query)]
    found += [parts.netloc.rpartition("@")[0], parts.username or "", parts.password or ""]
    for value in headers.values():
        found += [value, *value.split()]
    found += [unquote(each) for each in found]
    return sorted({each for each in found if len(each) >= LEAST}, key=len, reverse=True)
