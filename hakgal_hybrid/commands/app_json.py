"""What the standard library's JSON encoder refuses, as an app's own JSON provider writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Flask, has_app_context
from flask.json.provider import DefaultJSONProvider


def default_of(app: Flask) -> Callable[[Any], Any]:
    """Return what makes a JSON value of a ``date``, a ``UUID`` and whatever else ``jsonify`` takes.

    :param app: the app. Its provider, ``app.json``, is asked anew for each value, in a context of the app.
    :return: a function of one value, which raises ``TypeError`` for one that the provider cannot write either.
    """

    def default(value: Any) -> Any:
        try:
            if has_app_context():
                return _converted(app, value)
            with app.app_context():
                return _converted(app, value)
        except (TypeError, ValueError, RecursionError):
            raise
        except Exception as error:  # a provider, or a value's own method that it calls, may raise anything
            raise TypeError(f"{type(value).__name__}: {error}") from error

    return default


def _converted(app: Flask, value: Any) -> Any:
    provider = app.json
    if isinstance(provider, DefaultJSONProvider) and type(provider).dumps is DefaultJSONProvider.dumps:
        return provider.default(value)
    return json.loads(provider.dumps(value))
