"""Commands over HTTP: the governor's control, and events from clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from ..client import Client
from ..errors import HybridError, RequestError
from ..event import Event, payload_text, restore_binary
from .bodies import answer, arguments_of, namespace_of, read_object, speaker, text_of
from .gate import CONTROL, EMIT, behind_the_gate, problem

if TYPE_CHECKING:
    from ..extension import HybridTransport


def blueprint(transport: HybridTransport) -> Blueprint:
    """Return the blueprint that takes commands for ``transport``."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_control", __name__))

    @views.post(CONTROL, provide_automatic_options=False, strict_slashes=True)
    def control() -> Response:
        order = read_object(transport)
        command, repeated = transport.governor_desk.take(
            order.get("action"), order, request.headers.get("Idempotency-Key"))
        report = command.report()
        if report["status"] == "failed":
            raise HybridError(f"the governor failed: {report['error']}", code="governor_failed", id=command.id)
        status = 200 if report["status"] == "done" else 202
        response = answer({**report, "status": "done" if status == 200 else "accepted"}, status)
        if status == 202:
            response.headers["Location"] = f"{CONTROL}/{command.id}"
        if repeated:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    @views.get(f"{CONTROL}/<command_id>", provide_automatic_options=False, strict_slashes=True)
    def outcome(command_id: str) -> Response:
        return answer(transport.governor_desk.ledger.find(command_id).report())

    @views.post(EMIT, provide_automatic_options=False, strict_slashes=True)
    def emit() -> Response:
        message = read_object(transport)
        if message.get("sid") is None:
            return _emit_without_stream(transport, message)
        client = speaker(transport, message)

        def handle(begin: Callable[[], None]) -> Any:
            name, args = _event_of(message)  # here, so that an event which makes no sense has had its turn
            return transport.dispatch(client, name, args, begin)

        ack = _in_turn(message, client, handle)
        told = {"ack": _acknowledgement(ack)}
        if "number" in message:  # who numbers its events acts for a socket, whose callbacks take arguments
            told["args"] = _arguments(ack)
        return answer(told)

    @views.errorhandler(HybridError)
    def refuse(error: HybridError) -> Response:
        return problem(error)

    return views


def _event_of(message: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return name and arguments: ``args`` as they are, or ``data`` as the only one (none if it is null or absent)."""
    name = message.get("event")
    if not isinstance(name, str) or not name:
        raise RequestError(f"'event' must be the name of an event, not {name!r:.80}", code="bad_event_name")
    if "args" in message:
        return name, tuple(arguments_of(message))
    data = message.get("data")
    return name, () if data is None else (restore_binary(data),)


def _in_turn(message: dict[str, Any], client: Client, call: Callable[[Callable[[], None]], Any]) -> Any:
    """Call at once, or, if the client numbers its events, when it is this one's turn."""
    number = message.get("number")
    if number is None:
        return call(lambda: None)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise RequestError(f"'number' must be a whole number from 1 on, not {number!r:.80}", code="bad_number")
    return client.turns.run(number, call)


def _emit_without_stream(transport: HybridTransport, message: dict[str, Any]) -> Response:
    """Run a handler for a caller that has no stream; what it emits to the caller comes back in the response."""
    name, args = _event_of(message)
    client = Client(dict(request.environ), namespace_of(message), transport.hub.log.newest)
    gathered = transport.hub.collect(client.sid)
    try:
        ack = transport.dispatch(client, name, args)
    finally:
        transport.hub.collected(client.sid)
    events = ",".join(_told(event) for event in list(gathered))
    return Response(f'{{"ack":{text_of(_acknowledgement(ack))},"events":[{events}]}}',
                    content_type="application/json", headers={"Cache-Control": "no-store"})


def _told(event: Event) -> str:
    return f'{{"event":{payload_text("event", (event.name,))},"data":{event.data},"args":{event.args_text}}}'


def _acknowledgement(value: Any) -> Any:
    """Return what a handler returned as Socket.IO acknowledges it: a tuple stands for several values."""
    return list(value) if isinstance(value, tuple) else value


def _arguments(value: Any) -> list[Any]:
    """Return what a handler returned as the arguments of the client's callback: none for ``None``."""
    return [] if value is None else list(value) if isinstance(value, tuple) else [value]
