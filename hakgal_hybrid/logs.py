"""Logs: one tree of loggers, ``hakgal_hybrid``, in which nothing that keeps happening drowns the rest.

Every module gets its logger from :func:`get_logger`. Warnings and errors pass a limit: of the same one, :data:`BURST`
are logged in :data:`WINDOW_S` seconds, and the next one after that says how many were left out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

#: How many of the same warning are logged in so many seconds.
BURST, WINDOW_S = 10, 60.0


class RateLimit(logging.Filter):
    """Lets through the first :data:`BURST` of each kind of warning in :data:`WINDOW_S` seconds, and counts the rest.

    Records are of one kind if they have the same logger and the same text before its values are put in; and, if they
    carry an exception, the same type of exception from the same line.

    :param clock: monotonic seconds.
    :param max_kinds: how many kinds are remembered; the one that was not seen for longest gives way.
    :ivar suppressed: how many records were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, max_kinds: int = 1000) -> None:
        super().__init__()
        self._max_kinds = max_kinds
        self.suppressed = 0
        self._clock = clock
        self.renew_lock()
        # Of each kind: when its time began, how many came in it, how many of them were left out.
        self._kinds: OrderedDict[tuple[Any, ...], list[float]] = OrderedDict()

    def renew_lock(self) -> None:
        """Begin with a lock that is free: in a child that was forked, a thread that is gone may hold the one before."""
        self._lock = threading.RLock()  # a signal handler may log while its thread is in here

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether a record is logged; add to its text how many like it were left out before.

        What is not printable in its text is escaped: a client may have chosen it.

        :param record: the record.
        :return: true if it is logged.
        """
        if record.levelno < logging.WARNING:
            _escape(record)
            return True
        with self._lock:
            missing = self._missing(_kind(record))
        if missing is not None and record.exc_info and not record.exc_text:
            record.exc_text = _traceback_text(record.exc_info)
        _escape(record)
        if missing:
            record.msg = f"{record.getMessage()} [{missing} more like this were left out]"
            record.args = None
            record.suppressed = missing
        return missing is not None

    def _missing(self, kind: tuple[Any, ...]) -> int | None:
        """Return how many of a kind were left out before this one; ``None`` if this one is left out too."""
        now = self._clock()
        known = self._kinds.pop(kind, None)
        if known is None or now - known[0] >= WINDOW_S:
            self._kinds[kind] = [now, 1, 0]
            while len(self._kinds) > self._max_kinds:
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
        """Begin anew: the next :data:`BURST` records of each kind are logged."""
        with self._lock:
            self._kinds.clear()


def _escape(record: logging.LogRecord) -> None:
    """Have the text of a record stay on one line."""
    with contextlib.suppress(Exception):  # a text that cannot be made: logging itself will say so
        text = record.getMessage()
        if not text.isprintable():
            record.msg, record.args = printable(text), None


def _traceback_text(exc_info: Any) -> str:
    """Return a traceback in which no error can pass for lines of the log: a client may have chosen its text."""
    text = ""
    for piece in traceback.format_exception(*exc_info):
        if piece.startswith((" ", "\n")):  # a line of code, or what connects two errors
            text += piece
        else:
            text += "\n    ".join(printable(line) for line in piece.rstrip("\n").split("\n")) + "\n"
    return text.rstrip("\n")


def _kind(record: logging.LogRecord) -> tuple[Any, ...]:
    error = record.exc_info[1] if record.exc_info else None
    where = None if error is None else error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = None if where is None else (where.tb_frame.f_code.co_filename, where.tb_lineno)
    return record.name, record.levelno, str(record.msg), type(error), place


#: The limit of this process.
LIMIT = RateLimit()
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=LIMIT.renew_lock)


def get_logger(name: str) -> logging.Logger:
    """Return a logger of our tree, behind the limit.

    :param name: its name; a module's ``__name__``.
    :return: the logger.
    """
    logger = logging.getLogger(name)
    logger.addFilter(LIMIT)
    return logger


def log_to_stderr() -> None:
    """Write our tree to standard error, from ``INFO`` on, unless the process sets up logging for itself.

    What the process sets up later counts instead, as does a level that it has given to our tree.
    """
    logger = logging.getLogger("hakgal_hybrid")
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: not logging.getLogger().handlers)
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


#: What every record has; all else was given by ``extra``.
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``ts`` (seconds since 1970), ``level``, ``logger``, ``message``.

    With ``error``, a traceback, if there was an exception, and every member that was given by ``extra``. For any
    handler: ``handler.setFormatter(JsonFormatter())``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record.

        :param record: the record.
        :return: JSON text without line breaks, and with an escape in place of each character that is not printable.
        """
        line: dict[str, Any] = {"ts": round(record.created, 3), "level": record.levelname, "logger": record.name,
                                "message": record.getMessage()}
        line.update((name, value) for name, value in vars(record).items() if name not in _ORDINARY)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=repr, ensure_ascii=False)
        if text.isprintable():
            return text
        return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


#: One ``name=value`` of a query, in whatever text it stands.
_PAIR = re.compile(r"(?P<before>[?&;])(?P<name>[^=&;\s\"']{1,200})=(?P<value>[^&;\s\"']+)")
#: What the name of a secret looks like once it is decoded.
_SECRET = re.compile(r"(?:ticket|token|secret|passwd|password|^sid|(?:^|[_.-]|api)key)$", re.IGNORECASE)


def redacted(text: str) -> str:
    """Hide the values of query parameters whose names are those of secrets.

    :param text: a URL, or a text that holds URLs.
    :return: the text with ``***`` in place of these values.
    """
    return _PAIR.sub(_masked, text) if "=" in text else text


def printable(text: object) -> str:
    """Return a text that stays on one line of a log, and moves no terminal's cursor.

    :param text: what somebody else has written.
    :return: the text with an escape, as Python writes it, in place of each character that is not printable.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _masked(pair: re.Match[str]) -> str:
    # Decoded, because a server that reads %74icket as "ticket" logs it as it came.
    if not _SECRET.search(unquote_plus(pair["name"])):
        return pair[0]
    return f"{pair['before']}{pair['name']}=***"


class _Redacting(logging.Filter):
    """Redacts what other servers log about requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, without secrets.

        :param record: the record; it is changed.
        :return: always true.
        """
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
    """Hide secrets in what Werkzeug, gunicorn and waitress log. May be called repeatedly."""
    for name in ("werkzeug", "gunicorn.access", "gunicorn.error", "waitress"):
        logging.getLogger(name).addFilter(_redacting)
