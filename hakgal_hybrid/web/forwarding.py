"""Requests of clients that another process has: passed on to it, and answered for others."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.test import EnvironBuilder, run_wsgi_app

from ..broker.broker import process_of
from ..broker.engineio.held import Answer as HeldBody
from ..broker.environ import HANDOFF
from ..commands.backplane.requests import Answer, ForwardedRequest
from ..errors import HybridError, RequestError, problem_response
from ..logs import get_logger
from .bodies import token_of_request
from .services import Services

logger = get_logger(__name__)

PROBLEM = "application/problem+json"


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
            status, _, body = problem_response(error)
            return HeldBody(status, PROBLEM, body)
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
    requests, here = node.requests, node.hub.broker.process
    if requests is None or node.hub.client(sid) is not None:
        return None
    there = process_of(sid)
    if there in ("", here):
        return None
    path = request.path.removeprefix(node.settings.prefix)
    ask = partial(requests.ask, here, there, path, token_of_request(), json.dumps(message), node.settings.queue_s)
    if HANDOFF in request.environ:
        request.environ[HANDOFF].append(HeldForward(ask()))
        return Response(status=200, headers={"Cache-Control": "no-store"})
    with requests.thread():
        answer = ask().wait()
    return Response(answer.text, answer.status, content_type=_type_of(answer), headers={"Cache-Control": "no-store"})


def _status_line(status: int) -> str:
    return f"{status} {HTTP_STATUS_CODES.get(status, 'Unknown')}"


def _type_of(answer: Answer) -> str:
    return "application/json" if answer.status < 400 else PROBLEM


def server_of(app: Flask, prefix: str) -> Callable[[str, str, str], Answer]:
    """Return what answers requests that other processes pass on, whose rules have admitted them.

    :param app: has the views.
    :param prefix: what our URLs begin with.
    """

    def serve(path: str, token: str, body: str) -> Answer:
        builder = EnvironBuilder(prefix + path, method="POST", data=body, content_type="application/json",
                                 headers=[("X-Hybrid-Token", token)])
        try:
            chunks, status, _ = run_wsgi_app(app.wsgi_app, builder.get_environ(), buffered=True)
            return Answer(int(status[:3]), b"".join(chunks).decode())
        except HybridError as error:
            problem = error
        except HTTPException as error:
            problem = RequestError(str(error.description), status=error.code or 500)
        except Exception:
            logger.exception("answering a request of another process failed")
            problem = HybridError("an internal error, which the log has")
        return Answer(problem.status, problem_response(problem)[2].decode())

    return serve
