"""What tests of Flask-SocketIO's shape share."""

from __future__ import annotations

import pytest
from flask import Flask

from hakgal_hybrid.socketio import SocketIO


@pytest.fixture
def site() -> Flask:
    """A plain app. (Were this named ``app``, pytest-flask would push a request context around every test.)"""
    return Flask("site")


@pytest.fixture
def socketio(site: Flask) -> SocketIO:
    """The facade of that app."""
    return SocketIO(site)
