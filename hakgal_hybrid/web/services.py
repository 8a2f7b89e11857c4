"""Services: what the views of one transport work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..commands.node import Node
from ..monitoring.backlog import BacklogMonitor
from ..monitoring.samples import SampleHistory
from ..monitoring.statistics import Statistics
from . import access
from .origins import Origins
from .ratelimit import RateLimiter
from .tickets import Tickets


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that views use, each made once for an app.

    :ivar node: the log, the hub, and what takes commands.
    :ivar tickets: signs tickets for streams and redeems them.
    :ivar origins: whose pages may use our URLs.
    :ivar rate: how fast one address may command.
    :ivar backlog: what streams still have to be sent.
    :ivar samples: the last ten minutes in figures.
    :ivar statistics: returns a snapshot of everything that is counted.
    """

    node: Node
    tickets: Tickets
    origins: Origins
    rate: RateLimiter
    backlog: BacklogMonitor
    samples: SampleHistory
    statistics: Callable[[], Statistics]

    def known_as(self) -> str:
        """Return the name that the operator gave this server (``SERVER_NAME``), or nothing."""
        return self.node.app.config["SERVER_NAME"] or ""

    def check_operator(self, environ: Mapping[str, Any]) -> None:
        """Refuse a request that may not command, whatever ``HYBRID_ACCESS`` opens to clients.

        :param environ: the WSGI environment of the request.
        :raises AccessDenied: as :meth:`.Origins.check` and :func:`.access.check` do.
        """
        self.origins.check(environ, client=False)
        access.check(environ, self.node.settings, commands=True, known_as=self.known_as())
