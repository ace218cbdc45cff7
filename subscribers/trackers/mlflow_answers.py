"""Whether MLflow has answered: what it has not is asked again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...schemas.errors import UnreachableError


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """A block that asks a server or a database.

    Raises:
        UnreachableError: it did not answer, and may do so later.
    """
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise UnreachableError(f"MLflow does not answer: {short(error)}") from error
        raise


def is_outage(error: BaseException) -> bool:
    """Whether the same request may succeed later: no connection, no answer in time, an error on
    the server's side, a database that is locked."""
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, RestException):
        rest: Any = error
        return bool(rest.get_http_status_code() >= 500 or rest.get_http_status_code() == 429)
    if isinstance(error, MlflowException):
        inner = error.__cause__ or error.__context__
        asked = str(error.message).startswith("API request to")
        return asked or (inner is not None and is_outage(inner))
    return isinstance(error, OSError) or type(error).__name__ == "OperationalError"


def short(error: BaseException) -> str:
    """What an error says, on one line and not for pages."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]} ..."
