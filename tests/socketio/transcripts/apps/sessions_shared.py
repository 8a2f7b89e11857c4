"""The same with sessions that the server keeps, which sockets and HTTP share."""

from __future__ import annotations

from typing import Any

from flask import Flask

from transcripts.apps import sessions


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    return sessions.create(module, kept=True, manage_session=False)
