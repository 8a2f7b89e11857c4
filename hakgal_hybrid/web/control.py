"""Commands over HTTP: the governor's control, and events from clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Blueprint, Response, request

from ..broker.client import Client
from ..broker.environ import HANDOFF
from ..broker.event import Event, Target, checked_name
from ..broker.hub import latest_for
from ..broker.payload import payload_text, restore_binary
from ..commands.invocation import calling_first
from ..errors import EventError, HybridError, RequestError
from ..logs import get_logger
from .bodies import answer, answer_text, arguments_of, client_of, namespace_of, read_object, text_of
from .forwarding import forwarded, passed_to_a_host
from .services import Services
from .urls import CONTROL, EMIT, OUTCOME, PUBLISH

logger = get_logger(__name__)

T = TypeVar("T")


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that takes commands.

    :param services: the parts that the views use.
    """
    views = Blueprint("control", __name__)

    @views.post(CONTROL)
    def control() -> Response:
        key = request.headers.get("Idempotency-Key")
        body, status, repeated = command_governor(services, read_object(services), key)
        response = answer(body, status)
        if status == 202:
            response.headers["Location"] = f"{quote(request.script_root + request.path)}/{body['id']}"
        if repeated:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    @views.get(OUTCOME)
    def outcome(id: str) -> Response:
        return answer(services.node.governor_queue.store.find(id).report())

    @views.post(EMIT)
    def emit() -> Response:
        message = read_object(services)
        if message.get("sid") is None:
            services.check_operator(request.environ)  # no connect handler has let the caller in
            return passed_to_a_host(services, message) or _emit_without_stream(services, message)
        elsewhere = forwarded(services, message)
        if elsewhere is not None:
            return elsewhere
        early = services.node.early if HANDOFF in request.environ else services.node.early_elsewhere
        return answer_text(emit_as(services, client_of(services, message), message, early))

    @views.post(PUBLISH)
    def publish() -> Response:
        return answer({"id": _publish(services, read_object(services))})

    return views


def command_governor(services: Services, order: dict[str, Any], key: str | None) -> tuple[dict[str, Any], int, bool]:
    """Have the governor carry out an order.

    :param services: has the queue of the governor.
    :param order: the ``action``, and what belongs to it.
    :param key: the ``Idempotency-Key`` of the order, or ``None``.
    :return: the body of the answer, its status, and whether the order repeats an earlier one.
    :raises HybridError: if the order makes no sense or cannot be taken, or the governor failed.
    """
    node, action = services.node, order.get("action")
    node.authorizer.check(node.app, "command", event=action if isinstance(action, str) else None, data=order)
    command, repeated = node.governor_queue.take(action, order, key)
    report = command.report()
    if report["status"] == "failed":
        raise HybridError(f"the governor failed: {report['error']}", code="governor_failed", id=command.id)
    if report["status"] == "unknown":
        raise HybridError("no process has said in time what became of the command; it is not known whether it was "
                          "carried out, and it will not be again", code="unknown", status=504, id=command.id)
    done = report["status"] == "done"
    return {**report, "status": "done" if done else "accepted"}, 200 if done else 202, repeated


def emit_as(services: Services, client: Client, message: dict[str, Any],
            early: threading.Semaphore | None = None) -> str:
    """Run the handler of an event that a client sends, after those of the client's events before it.

    :param services: has the handlers.
    :param client: the client that sends the event.
    :param message: the event: its name, its arguments, and its ``number`` where the client numbers its events.
    :param early: has a unit for each event that may wait for those before it, in threads that all clients share; by
        default the calling thread is this client's own.
    :return: the body of the answer, as JSON text.
    :raises HybridError: if there is no such handler, the handler failed, or the message makes no sense.
    """

    def handle() -> str:
        name, args = _event_of(message)  # here: the number of an event that makes no sense is used up, too
        before = services.node.log.newest
        ack = services.node.lifecycle.dispatch(client, name, args)
        body = f'"ack":{_returned(services, name, _acknowledgement(ack))}'
        if "number" in message:  # sent by a socket, which calls back only after what the handler has emitted
            services.node.hub.broker.settled()
            after = text_of(latest_for(services.node.log, client, before))
            body += f',"args":{_returned(services, name, _arguments(ack))},"after":{after}'
        return f"{{{body}}}"

    return _in_turn(message, client, handle, early)


def _publish(services: Services, message: dict[str, Any]) -> str | None:
    """Send an event to the clients that a message names; return the event's id, if it has one by now."""
    node, (name, args), namespace = services.node, _event_of(message), namespace_of(message)
    target = Target.create(namespace, _rooms_of(message, "to"), _rooms_of(message, "skip"))
    node.authorizer.check(node.app, "publish", namespace, event=name, data=list(args))
    entry = node.publisher.send(name, args, target)
    return None if entry is None else node.log.id_of(entry.seq)


def _rooms_of(message: dict[str, Any], member: str) -> list[str] | None:
    """Return the rooms or ``sid`` values of a member: one text, or an array of texts; ``None`` if there is none."""
    rooms = message.get(member)
    if isinstance(rooms, str):
        rooms = [rooms]
    if rooms is not None and not (isinstance(rooms, list) and all(isinstance(room, str) for room in rooms)):
        raise RequestError(f"{member!r} must be a room, or an array of rooms, each a text", code="bad_room")
    if rooms is not None and not rooms:
        raise RequestError(f"{member!r} names no room; leave it out for everybody", code="bad_room")
    return rooms


def _event_of(message: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return name and arguments: ``args`` as they are, or ``data`` as the only one (none if it is null or absent)."""
    name = checked_name(message.get("event"))
    if "args" in message:
        return name, tuple(arguments_of(message))
    data = message.get("data")
    return name, () if data is None else (restore_binary(data),)


def _in_turn(message: dict[str, Any], client: Client, call: Callable[[], str],
             early: threading.Semaphore | None) -> str:
    """Call at once, or, if the client numbers its events, when it is this one's turn."""
    number = message.get("number")
    if number is None:
        return call()
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise RequestError(f"'number' must be a whole number from 1 on, not {number!r:.80}", code="bad_number")

    def run(begin: Callable[[], None]) -> str:
        with calling_first(begin):  # the turn ends as the host's function begins
            return call()

    return client.sequencer.run(number, run, early)


def _emit_without_stream(services: Services, message: dict[str, Any]) -> Response:
    """Run a handler for a caller that has no stream; what the handler emits to the caller is in the answer."""
    name, args = _event_of(message)
    client = Client(dict(request.environ), namespace_of(message))
    gathered: BoundedList[Event] = BoundedList(lambda event: len(event.data) + len(event.args_text),
                                       services.node.settings.max_answer_bytes)
    with services.node.publisher.capture(client.sid, gathered):
        ack = services.node.lifecycle.dispatch(client, name, args)
    events = ",".join(_text_of_event(event) for event in list(gathered))
    dropped = ""
    if gathered.dropped:
        services.node.refusals.count("answer_too_large")
        dropped = f',"dropped":{gathered.dropped}'
    return answer_text(f'{{"ack":{_returned(services, name, _acknowledgement(ack))},"events":[{events}]{dropped}}}')


def _text_of_event(event: Event) -> str:
    return f'{{"event":{payload_text("event", (event.name,))},"data":{event.data},"args":{event.args_text}}}'


def _returned(services: Services, name: str, value: Any) -> str:
    """Return what the handler of an event returned as JSON text, by the codec that events have."""
    try:
        return services.node.encode(name, (value,))
    except EventError as error:
        if error.__cause__ is None:  # a lone surrogate, which a client may have sent: JSON knows it, UTF-8 does not
            return text_of(value)
        logger.error("the handler of %r returned what cannot be sent as JSON: %s", name, error.__cause__)
        raise HybridError(f"the handler of {name!r} ran, and returned what cannot be sent as JSON: {error.__cause__}",
                          code="handler_failed") from error


def _acknowledgement(value: Any) -> Any:
    """Return what a handler returned as Socket.IO acknowledges it: a tuple stands for several values."""
    return list(value) if isinstance(value, tuple) else value


def _arguments(value: Any) -> list[Any]:
    """Return what a handler returned as the arguments of the client's callback: none for ``None``."""
    return [] if value is None else list(value) if isinstance(value, tuple) else [value]


class BoundedList(list[T]):
    """A list that takes only so much.

    :param size: returns how large an item is.
    :param limit: how large all items may be together, in the same unit.
    :ivar dropped: how many items were not taken.
    """

    def __init__(self, size: Callable[[T], int], limit: int) -> None:
        super().__init__()
        self.dropped = 0
        self._size, self._room = size, limit
        self._lock = threading.RLock()  # a finalizer may emit to the same list while its thread is in here

    def append(self, item: T) -> None:
        """Take an item if there is room for it. After one that was not taken no other is: what is kept has no holes.

        :param item: the item.
        """
        size = self._size(item)
        with self._lock:
            self._room -= size
            if self._room < 0 or self.dropped:
                self.dropped += 1
            else:
                super().append(item)
