"""Logs: one tree of loggers, ``hakgal_hybrid``, in which nothing that keeps happening drowns the rest.

Every module asks :func:`get_logger` for its logger. What is a warning or worse passes a limit: of the same warning
:data:`BURST` come in :data:`WINDOW_S` seconds, and the next one after that says how many were left out.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

#: How many of the same warning come in so many seconds.
BURST, WINDOW_S = 10, 60.0
#: How many kinds of warnings are told apart; of more, the one that was not seen for longest is forgotten.
MAX_KINDS = 1000


class RateLimit(logging.Filter):
    """Lets through the first few of each kind of warning in a while, and counts the rest.

    Of one kind are records of one logger with the same text before its values are put in; and, if they carry an
    exception, of the same type from the same line.

    :ivar suppressed: how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.suppressed = 0
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may log while its thread is in here
        # Of each kind: when its time began, how many came in it, how many of them were left out.
        self._kinds: OrderedDict[tuple[Any, ...], list[float]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record shall be logged; add to its text how many like it were not."""
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            missing = self._missing(_kind(record))
        if missing:
            record.msg = f"{record.getMessage()} [{missing} more like this were left out]"
            record.args = None
            record.suppressed = missing
        return missing is not None

    def _missing(self, kind: tuple[Any, ...]) -> int | None:
        """Return how many of a kind were left out before this one; nothing if it is to be left out too."""
        now = self._clock()
        known = self._kinds.pop(kind, None)
        if known is None or now - known[0] >= WINDOW_S:
            self._kinds[kind] = [now, 1, 0]
            while len(self._kinds) > MAX_KINDS:
                self._kinds.popitem(last=False)
            return int(known[2]) if known else 0
        self._kinds[kind] = known
        known[1] += 1
        if known[1] <= BURST:
            return 0
        known[2] += 1
        self.suppressed += 1
        return None

    def forget(self) -> None:
        """Begin anew: whatever came before, the next few of each kind are logged."""
        with self._lock:
            self._kinds.clear()


def _kind(record: logging.LogRecord) -> tuple[Any, ...]:
    error = record.exc_info[1] if record.exc_info else None
    where = None if error is None else error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = None if where is None else (where.tb_frame.f_code.co_filename, where.tb_lineno)
    return record.name, record.levelno, str(record.msg), type(error), place


#: The limit of this process.
LIMIT = RateLimit()


def get_logger(name: str) -> logging.Logger:
    """Return a logger of our tree, behind the limit."""
    logger = logging.getLogger(name)
    logger.addFilter(LIMIT)
    return logger


#: What every record has; all else was given by ``extra``.
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``ts`` (seconds since 1970), ``level``, ``logger``, ``message``.

    With ``error``, a traceback, if there was an exception, and every member that was given by ``extra``. For any
    handler: ``handler.setFormatter(JsonFormatter())``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        told: dict[str, Any] = {"ts": round(record.created, 3), "level": record.levelname, "logger": record.name,
                                "message": record.getMessage()}
        told.update((name, value) for name, value in vars(record).items() if name not in _ORDINARY)
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, default=repr, ensure_ascii=False)
#: One ``name=value`` of a query, in whatever text it stands.
_PAIR = re.compile(r"(?P<before>[?&;])(?P<name>[^=&;\s\"']{1,200})=(?P<value>[^&;\s\"']+)")
#: What the name of a secret looks like once it is decoded.
_SECRET = re.compile(r"(?:ticket|token|secret|passwd|password|(?:^|[_.-]|api)key)$", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return ``text`` without the values of query parameters whose names are those of secrets."""
    return _PAIR.sub(_masked, text) if "=" in text else text


def _masked(pair: re.Match[str]) -> str:
    # Decoded, because a server that reads %74icket as "ticket" logs it as it came.
    if not _SECRET.search(unquote_plus(pair["name"])):
        return pair[0]
    return f"{pair['before']}{pair['name']}=***"


class _Redacting(logging.Filter):
    """Redacts what other servers log about requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without secrets."""
        try:
            text = record.getMessage()
        except Exception:  # a record that cannot be printed: logging itself will say so
            return True
        clean = redacted(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


_redacting = _Redacting()


def redact_server_logs() -> None:
    """Have what Werkzeug, gunicorn and waitress log show no secrets. May be called repeatedly."""
    for name in ("werkzeug", "gunicorn.access", "gunicorn.error", "waitress"):
        logging.getLogger(name).addFilter(_redacting)
