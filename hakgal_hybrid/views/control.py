"""Commands over HTTP: the governor's control, and events from clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from ..errors import AccessDenied, HybridError, RequestError
from ..event import Event, json_safe, payload_text, restore_binary
from ..hub import Client
from .gate import CONTROL, EMIT, behind_the_gate, problem

if TYPE_CHECKING:
    from ..extension import HybridTransport


def blueprint(transport: HybridTransport) -> Blueprint:
    """Return the blueprint that takes commands for ``transport``."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_control", __name__))

    @views.post(CONTROL, provide_automatic_options=False, strict_slashes=True)
    def control() -> Response:
        order = _body()
        command, repeated = transport.governor_desk.take(
            order.get("action"), order, request.headers.get("Idempotency-Key"))
        report = command.report()
        if report["status"] == "failed":
            raise HybridError(f"the governor failed: {report['error']}", code="governor_failed", id=command.id)
        status = 200 if report["status"] == "done" else 202
        response = _answer({**report, "status": "done" if status == 200 else "accepted"}, status)
        if status == 202:
            response.headers["Location"] = f"{CONTROL}/{command.id}"
        if repeated:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    @views.get(f"{CONTROL}/<command_id>", provide_automatic_options=False, strict_slashes=True)
    def outcome(command_id: str) -> Response:
        return _answer(transport.governor_desk.ledger.find(command_id).report())

    @views.post(EMIT, provide_automatic_options=False, strict_slashes=True)
    def emit() -> Response:
        message = _body()
        name, args = _event_of(message)
        client = _speaker(transport, message)
        if client is not None:
            return _answer({"ack": _acknowledgement(_in_turn(message, client, lambda begin: transport.dispatch(
                client, name, args, begin)))})
        return _emit_without_stream(transport, message, name, args)

    @views.errorhandler(HybridError)
    def refuse(error: HybridError) -> Response:
        return problem(error)

    return views


def _body() -> dict[str, Any]:
    try:
        body = request.get_json()
    except RecursionError:
        body = None
    except Exception as error:
        raise RequestError("the body is not valid JSON", status=400, code="bad_json") from error
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object", code="bad_json", status=400)
    return body


def _event_of(message: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return name and arguments: ``args`` as they are, or ``data`` as the only one (none if it is null or absent)."""
    name = message.get("event")
    if not isinstance(name, str) or not name:
        raise RequestError(f"'event' must be the name of an event, not {name!r:.80}", code="bad_event_name")
    if "args" in message:
        if not isinstance(message["args"], list):
            raise RequestError("'args' must be an array", code="bad_arguments")
        return name, tuple(restore_binary(message["args"]))
    data = message.get("data")
    return name, () if data is None else (restore_binary(data),)


def _speaker(transport: HybridTransport, message: dict[str, Any]) -> Client | None:
    """Return the client in whose name the request speaks, if it proves that it may."""
    sid = message.get("sid")
    if sid is None:
        return None
    client = transport.hub.client(sid)
    if client is None or not client.proves(request.headers.get("X-Hybrid-Token", "")):
        # One answer for both, so that nobody can find out which sids exist.
        raise AccessDenied("'sid' is no open client, or X-Hybrid-Token is not its token", code="bad_token")
    if message.get("namespace", client.namespace) != client.namespace:
        raise RequestError(f"this client is in namespace {client.namespace!r}", code="bad_namespace")
    return client


def _in_turn(message: dict[str, Any], client: Client, call: Callable[[Callable[[], None]], Any]) -> Any:
    """Call at once, or, if the client numbers its events, when it is this one's turn."""
    number = message.get("number")
    if number is None:
        return call(lambda: None)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise RequestError(f"'number' must be a whole number from 1 on, not {number!r:.80}", code="bad_number")
    return client.turns.run(number, call)


def _emit_without_stream(transport: HybridTransport, message: dict[str, Any], name: str,
                         args: tuple[Any, ...]) -> Response:
    """Run a handler for a caller that has no stream; what it emits to the caller comes back in the response."""
    namespace = message.get("namespace", "/")
    if not isinstance(namespace, str) or not namespace.startswith("/"):
        raise RequestError("'namespace' must begin with '/'", code="bad_namespace")
    client = Client(dict(request.environ), namespace, transport.hub.log.newest)
    gathered = transport.hub.collect(client.sid)
    try:
        ack = transport.dispatch(client, name, args)
    finally:
        transport.hub.collected(client.sid)
    events = ",".join(_told(event) for event in list(gathered))
    return Response(f'{{"ack":{_text(_acknowledgement(ack))},"events":[{events}]}}',
                    content_type="application/json", headers={"Cache-Control": "no-store"})


def _told(event: Event) -> str:
    return f'{{"event":{payload_text("event", (event.name,))},"data":{event.data},"args":{event.args_text}}}'


def _acknowledgement(value: Any) -> Any:
    """Return what a handler returned as Socket.IO acknowledges it: a tuple stands for several values."""
    return list(value) if isinstance(value, tuple) else value


def _answer(value: dict[str, Any], status: int = 200) -> Response:
    return Response(_text(value), status, content_type="application/json", headers={"Cache-Control": "no-store"})


def _text(value: Any) -> str:
    try:
        return payload_text("response", (value,))
    except HybridError:
        # The handler ran; an odd return value must not look like a failure of it.
        return payload_text("response", (json_safe(value),))
