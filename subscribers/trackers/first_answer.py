"""Whether a tracker's server answers, asked before its client begins to try for minutes."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

ANSWER_S = 5.0
"""For the server to answer; the clients of trackers would try for minutes."""


def why_no_answer(address: str, path: str) -> str:
    """Why a server cannot be reached; empty where it answers at `path`, whatever it says.

    A certificate that this process does not trust is left to the client, which may.
    """
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/{path}", timeout=ANSWER_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        return f"{address} answers {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return ""
        return f"{address} does not answer: {reason}"
    return ""
