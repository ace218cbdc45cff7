"""The log: events on disk, append-only, read from cursors."""

from .cursor import Cursor
from .encoding import encode
from .event_log import EventLog
from .line import LogRecord
from .log_reader import Damage, LogReader

__all__ = ["Cursor", "Damage", "EventLog", "LogReader", "LogRecord", "encode"]
