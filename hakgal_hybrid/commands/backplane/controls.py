"""What one process has others do with their clients: each does it at the place of the request in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...broker.backplane.payloads import Control
from ...broker.client import Client
from ...broker.hub import Hub
from ...logs import get_logger
from ..lifecycle import ClientLifecycle
from .desk import Desk

logger = get_logger(__name__)

#: By which hosts and edges find each other. Those of the past may be gone; those that live speak again, when a host
#: begins (``host``) and when an edge does (``find_hosts``).
OF_THE_LIVING = frozenset({"host", "find_hosts"})


class Controls:
    """Carries out what other processes ask for. It runs in the reader's thread, and calls no handler there.

    :param hub: the clients of this process.
    :param lifecycle: ends clients.
    :param max_rooms: in how many rooms a client may be.
    :param desk: has commands for the governor carried out; ``None`` where each process has its own.
    :ivar actions: by name, what does it; each is called with the data of the request.
    :ivar of_guests: the same for clients of edges whose handlers run here.
    """

    def __init__(self, hub: Hub, lifecycle: ClientLifecycle, max_rooms: int, desk: Desk | None) -> None:
        self._hub, self._lifecycle, self._max_rooms = hub, lifecycle, max_rooms
        self.actions: dict[str, Callable[[dict[str, Any]], object]] = {
            "enter_room": self._enter_room, "leave_room": self._leave_room, "close_room": self._close_room,
            "disconnect": self._disconnect}
        self.of_guests: dict[str, Callable[[dict[str, Any]], object]] = {}
        if desk is not None:
            self.actions.update(command=desk.carry_out, outcome=desk.outcome)

    def carry_out(self, control: Control, *, past: bool) -> None:
        """Do what is asked for, as far as it concerns clients of this process.

        :param control: what is asked for; what is not known is left to newer versions of this package.
        :param past: true if it was asked for before this process began.
        """
        if past and control.action in OF_THE_LIVING:
            return
        for actions in (self.actions, self.of_guests):
            if control.action in actions:
                actions[control.action](control.data)

    def _client(self, data: dict[str, Any]) -> Client | None:
        client = self._hub.client(data["sid"])
        return client if client is not None and client.namespace == data["namespace"] else None

    def _enter_room(self, data: dict[str, Any]) -> None:
        client = self._client(data)
        if client is None:
            return
        if len(client.rooms()) >= self._max_rooms:
            logger.warning("client %s is not put into room %r: a client may be in %d rooms (HYBRID_MAX_ROOMS)",
                           client.sid, data["room"], self._max_rooms)
        else:
            self._hub.enter_room(client.sid, data["room"])

    def _leave_room(self, data: dict[str, Any]) -> None:
        client = self._client(data)
        if client is not None:
            self._hub.leave_room(client.sid, data["room"])

    def _close_room(self, data: dict[str, Any]) -> None:
        self._hub.close_room(data["room"], data["namespace"])

    def _disconnect(self, data: dict[str, Any]) -> None:
        client = self._client(data)
        if client is not None:
            self._lifecycle.end_client(client, "server disconnect")
