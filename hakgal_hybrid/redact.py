"""Redact: secrets out of what is logged. Tickets travel in URLs, hosts' keys sometimes too, and servers log URLs."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

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
