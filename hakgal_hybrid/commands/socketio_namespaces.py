"""KnownNamespaces: the namespaces that one client of Socket.IO has asked for, and who it is in each."""

from __future__ import annotations

from ..broker.client import Client


class KnownNamespaces(tuple["Client | str", ...]):
    """The client of each namespace, or the namespace alone where the host has refused.

    It is a tuple, as there are many sessions, and most of them have one namespace.
    """

    __slots__ = ()

    def knows(self, namespace: str) -> bool:
        """Return whether a namespace was asked for, and the host has decided.

        :param namespace: the namespace.
        """
        return any(_namespace_of(one) == namespace for one in self)

    def find(self, namespace: str) -> Client | None:
        """Return the client of a namespace, which may have ended; ``None`` if there is none.

        :param namespace: the namespace.
        """
        return next((client for client in self.clients() if client.namespace == namespace), None)

    def clients(self) -> list[Client]:
        """Return all clients, those that have ended included."""
        return [one for one in self if not isinstance(one, str)]

    def with_one(self, namespace: str, client: Client | None) -> KnownNamespaces:
        """Return these and one more, or another client for a namespace that is among them.

        :param namespace: the namespace.
        :param client: its client; ``None`` if the host has refused.
        """
        others = (one for one in self if _namespace_of(one) != namespace)
        return KnownNamespaces((*others, namespace if client is None else client))


def _namespace_of(known: Client | str) -> str:
    return known if isinstance(known, str) else known.namespace


#: Those of a client that has asked for none.
NO_NAMESPACES = KnownNamespaces()
