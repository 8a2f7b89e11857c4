"""The clients: where they come from and how far behind they are, without their secrets."""

from __future__ import annotations

import heapq
import time
from typing import Any

from ..broker.broker import process_of
from ..broker.client import Client
from ..broker.hub import Hub
from ..broker.states import SessionState
from .backlog import BacklogMonitor, StreamBacklog

#: How much of a ``sid`` is shown, after the name of its process if it has one: enough to find it in the host's log, too
#: little to be taken for it.
SHOWN = 8
#: How many clients are listed at most, and by default.
MAX_CLIENTS, DEFAULT_CLIENTS = 1000, 100

#: What the list calls the state of a client without a stream.
_STATES = {SessionState.STANDALONE: "caller", SessionState.WAITING: "connecting"}


def list_clients(hub: Hub, observer: BacklogMonitor, limit: int = DEFAULT_CLIENTS) -> dict[str, Any]:
    """Return the clients that are most behind, at most ``limit`` of them, the furthest first, those that are away last.

    :param hub: whose clients are listed.
    :param observer: knows how far each stream is.
    :param limit: how many are returned at most.
    :return: ``total``, the number of all clients, and ``clients``, a list of objects as ``docs/http_status.md`` has
        them.
    """
    _, _, found = observer.sample(each=True)
    clients = hub.clients()
    now, newest = time.time(), hub.log.newest

    def behind(client: Client) -> tuple[float, int, float]:
        item = _open(client, found)
        if item is None:  # the newest of them first: the others will not come back so soon
            return (-2.0 if _state(client) == "away" else -1.0), 0, client.opened_at
        return item.age_s, newest - item.sent, now - client.opened_at

    chosen = heapq.nlargest(limit, clients, key=behind)
    return {"total": len(clients), "clients": [_row(client, _open(client, found), now, newest) for client in chosen]}


def _open(client: Client, found: dict[int, StreamBacklog]) -> StreamBacklog | None:
    return None if client.session is None else found.get(id(client.session.carrier))


def _state(client: Client) -> str:
    """Return what the list calls the state of a client without a stream."""
    return "caller" if client.session is None else _STATES.get(client.session.state, "away")


def _row(client: Client, item: StreamBacklog | None, now: float, newest: int) -> dict[str, Any]:
    session = client.session
    row = {"sid": client.sid[:len(process_of(client.sid)) + SHOWN] + "…", "namespace": client.namespace,
           "address": client.address,
           "age_s": round(now - client.opened_at, 1),
           "riders": 0 if session is None else len(session.living)}
    if item is None:
        return {**row, "state": _state(client), "transport": None, "filter": None, "delivered": None,
                "lag_events": None, "lag_s": None}
    stream = item.stream
    return {**row, "state": "open", "transport": stream.medium, "filter": list(stream.request.events),
            "delivered": stream.delivered, "lag_events": newest - item.sent, "lag_s": round(item.age_s, 3)}
