"""Commands that come up a WebSocket, carried out as if they had been posted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ...broker.client import Client, Session
from ...errors import AccessDenied, HybridError, RequestError
from ...logs import get_logger
from ..bodies import loads, text_of
from ..clients import acknowledge_as
from ..control import command_governor, emit_as
from ..services import Services

logger = get_logger(__name__)


class Orders:
    """Carries out the messages of a WebSocket, each for one of the clients that it carries.

    :param services: the parts that carry it out.
    :param session: the session whose stream the WebSocket carries.
    :param refusal: the error with which commands are refused, if the request may not command: everything but
        ``disconnect``, with ``HYBRID_ACCESS=app`` only ``control``.
    """

    def __init__(self, services: Services, session: Session, refusal: AccessDenied | None) -> None:
        self._services, self._session, self._refusal = services, session, refusal
        self._known: dict[str, Callable[[dict[str, Any]], tuple[dict[str, Any] | str, int]]] = {
            "emit": self._emit, "ack": self._acknowledge, "control": self._control,
                       "disconnect": self._disconnect}

    def answer(self, text: str) -> str:
        """Carry out one message.

        :param text: the message, as it came.
        :return: the frame that answers it.
        """
        reference = "null"
        try:
            message, reference = self._parsed(text)
            body, status = self._carry_out(message)
            reply = body if isinstance(body, str) else text_of(body)
            if len(reply.encode()) > self._services.node.settings.max_event_bytes:
                raise HybridError("it was carried out, but the answer is larger than HYBRID_MAX_EVENT_BYTES",
                                  code="answer_too_large")
        except HybridError as error:
            self._services.node.refusals.count(error.code)
            reply, status = json.dumps(error.problem()), error.status
        except Exception:
            logger.exception("a command over a WebSocket failed")
            reply, status = json.dumps(HybridError("the application failed").problem()), 500
        return f'{{"reply":{reference},"status":{status},"body":{reply}}}'

    def _parsed(self, text: str) -> tuple[dict[str, Any], str]:
        """Return the message, and its ``ref`` as text."""
        try:
            message = loads(self._services, text)
            reference = json.dumps(message.get("ref"), default=repr) if isinstance(message, dict) else ""
        except Exception as error:  # whatever the host's own module raises; or it is nested too deeply
            raise RequestError("the message is not valid JSON", status=400, code="bad_json") from error
        if not isinstance(message, dict):
            raise RequestError("the message must be a JSON object", status=400, code="bad_json")
        return message, reference

    def _carry_out(self, message: dict[str, Any]) -> tuple[dict[str, Any] | str, int]:
        do = message.get("do")
        if not isinstance(do, str) or do not in self._known:
            raise RequestError(f"'do' must be one of {', '.join(self._known)}, not {do!r:.80}", code="unknown_command",
                               accepted=list(self._known))
        open_to_clients = self._services.node.settings.access == "app" and do != "control"
        if self._refusal is not None and do != "disconnect" and not open_to_clients:
            self._services.node.refusals.count(self._refusal.code)
            return self._refusal.problem(), self._refusal.status
        self._services.rate.take(self._session.address)
        if do in ("emit", "control") and not self._services.node.settings.enable_control_http:
            raise RequestError(f"{do!r} is not served here (ENABLE_CONTROL_HTTP)", status=404, code="not_served")
        return self._known[do](message)

    def _emit(self, message: dict[str, Any]) -> tuple[str, int]:
        return emit_as(self._services, self._client_of(message), message), 200

    def _acknowledge(self, message: dict[str, Any]) -> tuple[dict[str, Any], int]:
        acknowledge_as(self._services, self._client_of(message), message)
        return {}, 200

    def _control(self, message: dict[str, Any]) -> tuple[dict[str, Any], int]:
        body, status, _ = command_governor(self._services, message, None)
        return body, status

    def _disconnect(self, message: dict[str, Any]) -> tuple[dict[str, Any], int]:
        self._services.node.lifecycle.end_client(self._client_of(message), "client disconnect")
        return {}, 200

    def _client_of(self, message: dict[str, Any]) -> Client:
        """Return the client that a message is sent for. It needs no token, because the connection is its own."""
        living, sid = self._session.living, message.get("sid")
        if sid is None and len(living) > 1:
            raise RequestError("this connection carries several clients; say which one by 'sid'", code="sid_required")
        client = next((client for client in living if sid is None or client.sid == sid), None)
        if client is None:
            raise AccessDenied("'sid' is no client on this connection", code="bad_token")
        if message.get("namespace", client.namespace) != client.namespace:
            raise RequestError(f"this client is in namespace {client.namespace!r}", code="bad_namespace")
        return client
