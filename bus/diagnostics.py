"""stepbus's own messages: structlog on top of the standard logger "stepbus".

The library configures no logging. Where the program does not either, warnings and errors reach
the standard error stream through Python's handler of last resort.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, cast

import structlog


def _one_line(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    event = str(fields.pop("event"))
    exc_info = fields.pop("exc_info", None)
    extra = " ".join(f"{key}={value!r}" for key, value in fields.items())
    return (f"stepbus: {event}" + (f" [{extra}]" if extra else ""),), {"exc_info": exc_info}


def get_logger() -> structlog.stdlib.BoundLogger:
    """The logger that all of stepbus writes its diagnostics to."""
    return cast(
        structlog.stdlib.BoundLogger,
        structlog.wrap_logger(
            logging.getLogger("stepbus"),
            processors=[structlog.stdlib.filter_by_level, _one_line],
            wrapper_class=structlog.stdlib.BoundLogger,
        ),
    )
