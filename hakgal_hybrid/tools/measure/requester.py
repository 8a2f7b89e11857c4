"""The requests of a run: timed, numbered, and counted where they store facts."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import Any

from .hosts import Host
from .load import ENDPOINTS, FACT, Options
from .record import Run
from .timing import Endpoint, Samples, Timing, timed

HEALTH = Endpoint("GET", "/health")


class Requester:
    """What makes the requests of one run.

    :param host: whom they go to.
    :param options: their headers, and whether facts may be stored.
    :param run: the record in which stored facts are counted.
    :param tag: what marks the facts of this run.
    """

    def __init__(self, host: Host, options: Options, run: Run, tag: str) -> None:
        self._host, self._options, self._run, self._tag = host, options, run, tag
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.write = options.write if options.write is not None else host.private

    def call(self, method: str, path: str, body: Any = None) -> Timing:
        """Make a request with a JSON body.

        :param method: the HTTP method.
        :param path: the path with its query.
        :param body: a JSON value; ``None`` sends no body.
        :raises OSError: if it is not answered.
        """
        return timed(self._host.base, method, path, body, self._options.headers)

    def timed(self, endpoint: Endpoint) -> Timing:
        """Make a request of an endpoint.

        :param endpoint: what is requested.
        :raises OSError: if it is not answered.
        """
        return self.call(endpoint.method, endpoint.path, endpoint.filled(self._tag, next(self._numbers)))

    def cause(self) -> bool:
        """Make the host emit: by storing a fact where that is allowed, else by ``/health``.

        :return: whether it was answered as it should be.
        """
        endpoint = FACT if self.write else HEALTH
        good = Samples().take(lambda: self.timed(endpoint))
        self.count(endpoint, good)
        return good

    def count(self, endpoint: Endpoint, good: bool) -> None:
        """Count a fact if an endpoint stored one.

        :param endpoint: what was requested.
        :param good: whether it was answered as it should be.
        """
        with self._lock:
            self._run.facts_written += good and endpoint == FACT

    def endpoints(self) -> list[Endpoint]:
        """Return what is requested: what was asked for, or of the usual ones those that the host has."""
        if self._options.endpoints:
            return list(self._options.endpoints)
        found = []
        for endpoint in ENDPOINTS:
            with contextlib.suppress(OSError):
                if self.timed(endpoint).status in (404, 405, 501):
                    self._run.trouble[endpoint.label] = "the host does not have it"
                    continue
            found.append(endpoint)
        return [*found, FACT] if self.write else found
