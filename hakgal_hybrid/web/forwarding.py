"""Requests of clients that another process has: passed on to it, and answered for others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder, run_wsgi_app

from ..broker.broker import process_of
from ..commands.backplane.requests import Answer
from ..errors import HybridError, RequestError, problem_response
from ..logs import get_logger
from .bodies import token_of_request
from .services import Services

logger = get_logger(__name__)


def forwarded(services: Services, message: dict[str, Any]) -> Response | None:
    """Have the process answer the request that has its client.

    :param services: knows the clients, and the other processes.
    :param message: the body of the request.
    :return: the answer; ``None`` if the client is not one of another process.
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
    answer = requests.ask(here, there, path, token_of_request(), json.dumps(message), node.settings.queue_s)
    kind = "application/json" if answer.status < 400 else "application/problem+json"
    return Response(answer.text, answer.status, content_type=kind, headers={"Cache-Control": "no-store"})


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
