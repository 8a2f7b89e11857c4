"""Recovery: clients of Socket.IO that come back as who they were, with the events that they have missed.

A client that may come back is given a *pid* when it connects, and with each event its id, the *offset*. When it
connects anew it sends both. The pid proves by itself whose it is; nothing is kept for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from ..broker.client import Client, Session
from ..broker.replay import Replay, bring_back, replay_from
from ..settings import Settings
from .node import Node

_PID = re.compile(r"([\w-]{20,40})\.([\w-]{43})", re.ASCII)


class Claim(NamedTuple):
    """What a client says of who it was.

    :ivar sid: its ``sid``.
    :ivar token: proves that.
    :ivar last: the id of the last event that it has; ``None`` if it has none.
    """

    sid: str
    token: str
    last: str | None


def claim_of(auth: Any) -> tuple[Claim | None, Any]:
    """Take what a client says of who it was out of what its ``connect`` handler gets.

    :param auth: what the client has sent along.
    :return: the claim, or ``None``; and what is left, ``None`` if that is nothing.
    """
    pid = auth.get("pid") if isinstance(auth, dict) else None
    found = _PID.fullmatch(pid) if isinstance(pid, str) else None
    if found is None:
        return None, auth
    last = auth.get("offset")
    rest = {name: value for name, value in auth.items() if name not in ("pid", "offset")}
    return Claim(found[1], found[2], None if last is None else str(last)), rest or None


def pid_of(client: Client) -> str:
    """Return what a client proves by that it is itself; a secret.

    :param client: the client.
    """
    return f"{client.sid}.{client.token}"


def may_recover(settings: Settings, environ: Mapping[str, Any]) -> bool:
    """Say whether the clients of a session may come back. They get one argument more with each event then.

    :param settings: the settings.
    :param environ: the WSGI environment of the request that opens the session. ``recovery=1`` or ``recovery=0`` in its
        query counts more than the setting.
    :return: true if they may.
    """
    if not settings.resume_s:
        return False
    asked = parse_qs(str(environ.get("QUERY_STRING", ""))).get("recovery", [""])[0]
    if asked in ("0", "1"):
        return asked == "1"
    return settings.socketio_recovery == "on" or (settings.socketio_recovery == "auto" and _knows_recovery(environ))


def _knows_recovery(environ: Mapping[str, Any]) -> bool:
    """Return true for a page in a browser, and for socket.io-client in Node.js, if it begins with polling."""
    # Origin says nothing: python-socketio's WebSocket sends it, too.
    agent = str(environ.get("HTTP_USER_AGENT", ""))
    return (any(environ.get(name) for name in ("HTTP_SEC_FETCH_SITE", "HTTP_SEC_FETCH_MODE"))
            or agent.startswith(("Mozilla/", "node-XMLHttpRequest")))


def admitted(node: Node, session: Session, environ: dict[str, Any], namespace: str, auth: Any,
             claim: Claim | None) -> tuple[Client, Replay | None]:
    """Let a client in, as who it was if that is possible. Then no handler runs.

    :param node: the log and the clients.
    :param session: the session by which it connects.
    :param environ: the WSGI environment of the request that has opened the session.
    :param namespace: the namespace that it connects to.
    :param auth: what it sends along.
    :param claim: what it says of who it was; ``None`` if it cannot come back.
    :return: the client, and what it has missed.
    :raises HybridError: if it is refused, also if the application does not allow it any more.
    """
    if claim is None:
        return node.lifecycle.open_client(environ, namespace, auth, session=session, with_stream=True), None
    replay = _brought_back(node, session, namespace, auth, claim)
    if replay is not None:
        node.engine_counters.recovery("recovered")
        return replay.client, replay
    client = node.lifecycle.open_client(environ, namespace, auth, session=session, with_stream=True)
    replay = None if claim.last is None else replay_from(node.hub, client, claim.last, node.acks.unanswered)
    node.engine_counters.recovery("failed" if replay is None else "replayed")
    return client, replay


def _brought_back(node: Node, session: Session, namespace: str, auth: Any, claim: Claim) -> Replay | None:
    """Return what a client has missed that is who it was; ``None`` if it has to be somebody new."""
    client = node.hub.client(claim.sid)
    if client is None or client.namespace != namespace or not client.proves(claim.token):
        return None
    node.authorizer.check(node.app, "connect", namespace, data=auth)
    replay = bring_back(node.hub, client, session, claim.last, node.acks.unanswered)
    if replay is None:
        old = client.session
        node.lifecycle.end_client(client, "transport close", wait=True)
        if old is not None and not old.living and old.on_deserted is not None:
            old.on_deserted()  # its connection is gone, though nobody has noticed
    return replay
