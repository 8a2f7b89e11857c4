"""Requests of clients that another process has: passed on to it, and answered for others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.test import EnvironBuilder, run_wsgi_app

from ..broker.broker import process_of
from ..broker.engineio.held import Answer as HeldBody
from ..broker.environ import ADDRESS, HANDOFF
from ..commands.backplane.requests import Answer, ForwardedRequest, Request, RequestForwarding
from ..errors import HybridError, RequestError
from ..logs import get_logger
from .bodies import token_of_request
from .services import Services
from .tickets import process_of_ticket
from .urls import DISCONNECT

logger = get_logger(__name__)

PROBLEM = "application/problem+json"
#: How long a client that comes back waits for the process that had it, in seconds. Then it is a new one, here.
RETURN_S = 1.0
#: What handlers of another process see of a request, besides its headers.
_SEEN = (ADDRESS, "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_USER", "QUERY_STRING", "SCRIPT_NAME", "SERVER_NAME",
         "SERVER_PORT", "SERVER_PROTOCOL", "wsgi.url_scheme")


class HeldForward:
    """The answer of another process, for a server that waits for it without a thread.

    :param asked: the request.
    """

    def __init__(self, asked: ForwardedRequest) -> None:
        self._asked = asked

    @property
    def on_wake(self) -> Callable[[], object]:
        """Called, from any thread, when :meth:`take` is to be called."""
        return self._asked.on_wake

    @on_wake.setter
    def on_wake(self, wake: Callable[[], object]) -> None:
        self._asked.on_wake = wake

    @property
    def wait_s(self) -> float:
        """How long :meth:`take` need not be called, if nobody wakes it, in seconds."""
        return self._asked.wait_s

    def take(self) -> HeldBody | None:
        """Return the answer; ``None`` while there is none."""
        try:
            answer = self._asked.take()
        except HybridError as error:
            answer = Answer.of(error)
        return None if answer is None else HeldBody(_status_line(answer.status), _type_of(answer),
                                                    answer.text.encode())

    def abandon(self) -> None:
        """Note that the client is gone, or did not get the answer."""
        self._asked.abandon()


def forwarded(services: Services, message: dict[str, Any]) -> Response | None:
    """Have the process answer the request that has its client. Under our own server, no thread waits for it.

    :param services: knows the clients, and the other processes.
    :param message: the body of the request.
    :return: the answer; ``None`` if the client is not one of another process.
    :raises Overloaded: if too many requests wait for other processes already.
    :raises HybridError: 410 if that process is gone, 504 if it does not answer.
    """
    node, sid = services.node, message.get("sid")
    if node.requests is None or node.hub.client(sid) is not None:
        return None
    there = process_of(sid)
    if there in ("", node.hub.broker.process):
        return None
    return _passed_on(node.requests, there, _request(services, message, token_of_request()))


def passed_to_a_host(services: Services, message: dict[str, Any]) -> Response | None:
    """Have a host answer a request that is no client's, if this process is an edge.

    :param services: knows the hosts.
    :param message: the body of the request.
    :return: the answer; ``None`` if this process has the handlers.
    :raises Overloaded: if no host is there, or too many requests wait for other processes already.
    :raises HybridError: 504 if the host does not answer.
    """
    node = services.node
    if node.neighbours is None or node.neighbours.hosts is None:
        return None
    there = node.neighbours.hosts.any()
    return _passed_on(node.neighbours.requests, there, _request(services, message, "", _seen()))


def connected_elsewhere(services: Services, message: dict[str, Any]) -> Response | None:
    """Have a client connect at the process that has its stream, or that had it before, if that is alive.

    :param services: knows the other processes.
    :param message: the body of the request.
    :return: the answer; ``None`` if the client is to connect here.
    :raises HybridError: as :func:`forwarded` does, if another process has the stream.
    """
    backplane, requests = services.node.backplane, services.node.requests
    if backplane is None or requests is None:
        return None
    passed = _request(services, message, "", _seen())
    stream, living = process_of_ticket(message.get("stream")), backplane.living()
    if stream == backplane.process:
        return None
    if stream in living:
        return _passed_on(requests, stream, passed)
    there = process_of(message.get("sid"))
    if there not in living or there == backplane.process:
        return None
    try:
        return _waited_for(requests, there, passed._replace(seconds=min(RETURN_S, passed.seconds)))
    except HybridError as error:
        if error.code != "forwarding":
            living.doubt(there)
        return None


def leave_behind(services: Services, message: dict[str, Any]) -> None:
    """End the client that a new one was before, at another process.

    :param services: knows the other processes.
    :param message: the body of the request, with the former ``sid`` and ``token``.
    """
    requests, sid, token = services.node.requests, message.get("sid"), message.get("token")
    here, there = services.node.hub.broker.process, process_of(sid)
    if requests is not None and there not in ("", here) and isinstance(token, str):
        requests.tell(there, Request(here, DISCONNECT, token, json.dumps({"sid": sid}), RETURN_S, {}))


def is_elsewhere(services: Services, ticket: str) -> bool:
    """Return true if a ticket names no session of this process, but perhaps one of another that is alive.

    A ticket of this process that names none (any more) is one for clients that are still to connect, wherever.

    :param services: knows the sessions, and the other processes.
    :param ticket: the ticket.
    """
    node, there = services.node, process_of_ticket(ticket)
    return (node.backplane is not None and there != "" and node.hub.sessions.find(ticket) is None
            and (there == node.backplane.process or there in node.backplane.living()))


def _seen() -> dict[str, str]:
    """Return what another process sees of the request that is being answered."""
    return {name: value for name, value in request.environ.items()
            if isinstance(value, str) and (name in _SEEN or name.startswith("HTTP_"))}


def _request(services: Services, message: dict[str, Any], token: str, environ: dict[str, str] | None = None) -> Request:
    """Return the request that is being answered, for another process."""
    node = services.node
    return Request(node.hub.broker.process, request.path.removeprefix(node.settings.prefix), token,
                   json.dumps(message), node.settings.queue_s, environ or {})


def _passed_on(requests: RequestForwarding, there: str, passed: Request) -> Response:
    """Return the answer of another process. Under our own server, no thread waits for it."""
    if HANDOFF not in request.environ:
        return _waited_for(requests, there, passed)
    request.environ[HANDOFF].append(HeldForward(requests.ask(there, passed)))
    return Response(status=200, headers={"Cache-Control": "no-store"})


def _waited_for(requests: RequestForwarding, there: str, passed: Request) -> Response:
    with requests.thread():
        answer = requests.ask(there, passed).wait()
    return Response(answer.text, answer.status, content_type=_type_of(answer), headers={"Cache-Control": "no-store"})


def _status_line(status: int) -> str:
    return f"{status} {HTTP_STATUS_CODES.get(status, 'Unknown')}"


def _type_of(answer: Answer) -> str:
    return "application/json" if answer.status < 400 else PROBLEM


def server_of(app: Flask, prefix: str) -> Callable[[Request], Answer]:
    """Return what answers requests that other processes pass on, whose rules have admitted them.

    :param app: has the views.
    :param prefix: what our URLs begin with.
    """

    def serve(passed: Request) -> Answer:
        builder = EnvironBuilder(prefix + passed.path, method="POST", data=passed.body,
                                 content_type="application/json", headers=[("X-Hybrid-Token", passed.token)])
        try:
            environ = {**builder.get_environ(), **passed.environ}
            chunks, status, _ = run_wsgi_app(app.wsgi_app, environ, buffered=True)
            return Answer(int(status[:3]), b"".join(chunks).decode())
        except HybridError as error:
            problem = error
        except HTTPException as error:
            problem = RequestError(str(error.description), status=error.code or 500)
        except Exception:
            logger.exception("answering a request of another process failed")
            problem = HybridError("an internal error, which the log has")
        return Answer.of(problem)

    return serve
