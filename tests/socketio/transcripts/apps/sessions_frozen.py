"""The same with Flask's own cookies, and no copies: what is in the cookie when a client connects stays as it is."""

from __future__ import annotations

from typing import Any

from flask import Flask

from transcripts.apps import sessions


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    return sessions.create(module, manage_session=False)
