"""Pack: whoever keeps up gets what a stream of its own would give, whatever happens while a pass is under way."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.hubs import carried, make_hub

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.broker.event import Event, Target, glob_matcher
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.live import BroadcastPlan, LiveGroup
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sse import Decoder
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest

EPOCH = 1755412806000


@dataclass(eq=False)
class Member:
    """A stream's writer: what it was given, and whether its socket takes anything."""

    stream: SubscriberStream
    data: bytearray = field(default_factory=bytearray)
    stuck: bool = False

    def messages(self) -> list[dict[str, Any]]:
        """Return what the client makes of it: envelopes, the plain ones made like them."""
        found = []
        for message in Decoder().feed(bytes(self.data)):
            body = json.loads(message.data)
            if self.stream.request.format is not Format.ENVELOPE:
                body = {"event": message.event, "data": body, "id": message.id}
            found.append(body)
        return found

    def numbers(self) -> list[int]:
        """Return the numbers of the events it was given."""
        return [int(body["id"].rpartition("-")[2]) for body in self.messages()
                if not body["event"].startswith("hybrid_")]


class InterruptedLog(EventLog):
    """A log during whose reading other threads do something.

    :ivar meanwhile: what they do after the next read.
    """

    def __init__(self, **bounds: Any) -> None:
        super().__init__(**bounds)
        self.meanwhile: list[Callable[[], object]] = []

    def since(self, position: int, upto: int | None = None) -> Any:
        found = super().since(position, upto)
        while self.meanwhile:
            self.meanwhile.pop()()
        return found


class InterruptedHub:
    """What a group sees of a hub: other threads do something just before, or just after, it is asked for whom."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self.before: Callable[[int], object] = lambda seq: None
        self.after: Callable[[list[Client]], object] = lambda found: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)

    def audience(self, seq: int, target: Target) -> list[Client]:
        self.before(seq)
        found: list[Client] = self._hub.audience(seq, target)
        self.after(found)
        return found

    def audible(self, sid: object) -> Client | None:
        self.before(0)
        found: Client | None = self._hub.audible(sid)
        if found is not None:
            self.after([found])
        return found


class Writer:
    """Does with a pack what the fan-out does, but for the sockets; a pass can be interrupted anywhere."""

    def __init__(self, **log: Any) -> None:
        self.now = 0.0
        bounds = {"max_events": 1000, "max_bytes": 1 << 20, "max_event_bytes": 1 << 16, **log}
        self.log = InterruptedLog(epoch=EPOCH, clock=lambda: self.now, wall_ms=lambda: 0, encode=encode_entry,
                                  conflates=glob_matcher(["load*"]), **bounds)
        self.hub = make_hub(self.log)
        self.interrupted = InterruptedHub(self.hub)
        self.pack = LiveGroup(self.interrupted, 60)
        self.alone: dict[Member, None] = {}
        self.under_way: Iterator[None] | None = None
        #: Those whose heartbeat is due: they get it at the end of a pass.
        self.quiet: set[Member] = set()
        #: What other threads do in the next step, after it has read the log.
        self.meanwhile = self.log.meanwhile

    def emit(self, name: str, *args: Any, **target: Any) -> None:
        self.hub.broker.publish(Event.create(name, args, Target.create(**target)))

    def open(self, namespace: str = "/", **wish: Any) -> Member:
        session = self.hub.new_session({})
        self.hub.admit(session, {}, namespace)
        member = Member(carried(SubscriberStream(session, self.hub, StreamOptions(), StreamRequest(namespace=namespace,
                                                                                              **wish))))
        self.pack.adopt(member)
        member.stream.opening()
        self.alone[member] = None
        return member

    def run(self) -> None:
        """Make passes until there is nothing left to do."""
        while self.begin() or self.pack.position < self.log.newest:
            self.finish()
        self.finish()

    def begin(self) -> bool:
        """Begin a pass, if none is under way; true if there was something to do."""
        before = self.pack.position, len(self.alone)
        if self.under_way is None:
            self.under_way = self._pass()
        next(self.under_way, None)
        return before != (self.pack.position, len(self.alone))

    def finish(self) -> None:
        """Finish the pass that is under way."""
        for _ in self.under_way or ():
            pass
        self.under_way = None

    def _pass(self) -> Iterator[None]:
        newest, again = self.log.newest, True
        while again:
            step = self.pack.step()
            self.alone.update(dict.fromkeys(step.to_catch_up))
            for share in step.deliveries:
                for member in share.members:
                    yield  # the loop is let poll: anything may happen
                    if member.stuck:
                        self.pack.leave(member, step.upto)
                        self.alone[member] = None
                    member.data += share.data
            yield
            self.pack.arrive(step)
            again = self.pack.position < newest
        self._catch_up()
        for member in self.quiet:
            if not member.stuck:
                member.data += member.stream.heartbeat()
        self.quiet.clear()

    def _catch_up(self) -> None:
        shared: Any = {}
        for member in list(self.alone):
            if member.stuck:
                continue
            if member.stream.finished:
                del self.alone[member]
                continue
            member.data += member.stream.take(shared, self.pack.position)
            if self.pack.join(member):
                del self.alone[member]


# -- one thing at a time -------------------------------------------------------------------------------------------


def test_who_keeps_up_shares_the_same_bytes() -> None:
    """Streams that asked for the same get one share; others of their own kind another."""
    writer = Writer()
    members = [writer.open() for _ in range(5)]
    filtered = [writer.open(events=("a",)) for _ in range(2)]
    writer.run()
    assert len(writer.pack) == 7
    writer.emit("a", 1)
    writer.emit("b", 2)
    step = writer.pack.step()
    assert sorted((share.delivered, len(share.members)) for share in step.deliveries) == [(1, 2), (2, 5)]
    assert {member for share in step.deliveries for member in share.members} == {*members, *filtered}


def test_an_event_looks_at_nobody_it_is_not_for() -> None:
    """An event for one room makes a share for those in it; members of no other room are asked anything."""
    writer = Writer()
    members = [writer.open() for _ in range(20)]
    writer.run()
    for member in members[:3]:
        writer.hub.enter_room(member.stream.session.clients[0].sid, "room")
    asked: list[object] = []
    for member in members:
        client = member.stream.session.clients[0]
        client.__class__ = type("Watched", (type(client),), {
            "__getattribute__": lambda self, name: asked.append(self) or object.__getattribute__(self, name),
            "__slots__": ()})
    writer.emit("secret", to="room")
    (share,) = writer.pack.step().deliveries
    assert set(share.members) == set(members[:3])
    assert {id(client) for client in asked} == {id(member.stream.session.clients[0]) for member in members[:3]}


def test_an_event_nobody_wants_makes_no_share() -> None:
    """A name that no filter lets through, a room with nobody in it, a namespace with nobody connected."""
    writer = Writer()
    writer.open(events=("a", "x*"))
    writer.run()
    writer.emit("b")
    writer.emit("a", to="empty")
    writer.emit("a", namespace="/elsewhere")
    assert steps_of(writer) == [[], [], []]


def steps_of(writer: Writer) -> list[list[tuple[int, int]]]:
    """Make all steps that there are; return of each how many events how many members get."""
    found = []
    while writer.pack.position < writer.log.newest:
        step = writer.pack.step()
        found.append(sorted((share.delivered, len(share.members)) for share in step.deliveries))
        for share in step.deliveries:
            for member in share.members:
                member.data += share.data
        writer.pack.arrive(step)
    return found


def test_members_of_a_room_share_too() -> None:
    """An event for a room goes to those in it when its turn comes, in the same bytes; what is for all is joined."""
    writer = Writer()
    members = [writer.open() for _ in range(6)]
    writer.run()
    for member in members[:4]:
        writer.hub.enter_room(member.stream.session.clients[0].sid, "room")
    writer.emit("one")
    writer.emit("two", to="room")
    writer.emit("three")
    writer.emit("four")
    assert steps_of(writer) == [[(1, 6)], [(1, 4)], [(2, 6)]]
    assert [member.numbers() for member in members] == [[1, 2, 3, 4]] * 4 + [[1, 3, 4]] * 2


def test_rooms_that_change_within_a_step() -> None:
    """Who comes and goes between the events of one step gets what was emitted while it was there."""
    writer = Writer()
    members = [writer.open(format=(Format.JSON, Format.ENVELOPE)[n % 2], events=("fact",) if n == 5 else ())
               for n in range(6)]
    sids = [member.stream.session.clients[0].sid for member in members]
    writer.run()
    for sid in sids[:4]:
        writer.hub.enter_room(sid, "red")
    writer.emit("fact", to="red")  # 1: for 0 to 3
    writer.hub.leave_room(sids[0], "red")
    writer.hub.enter_room(sids[4], "red")
    writer.hub.enter_room(sids[5], "red")
    writer.emit("noise", to="red", skip=sids[1])  # 2: for 2, 3, 4; 5 does not want it
    writer.emit("fact")  # 3
    writer.hub.enter_room(sids[0], "red")
    writer.hub.enter_room(sids[0], "blue")
    writer.hub.leave_room(sids[4], "red")
    writer.emit("fact", to=["red", "blue", sids[1], sids[0]])  # 4: for all but 4, once
    writer.emit("fact", skip=sids[2])  # 5
    writer.emit("fact", to=sids[3])  # 6
    writer.run()
    assert [member.numbers() for member in members] == [
        [1, 3, 4, 5], [1, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [2, 3, 5], [3, 4, 5]]
    assert len(writer.pack) == 6


def test_events_for_rooms_go_out_in_their_order() -> None:
    """However many events for rooms there are: each is one share for those in its room."""
    writer = Writer()
    members = [writer.open() for _ in range(30)]
    writer.run()
    for number, member in enumerate(members):
        for room in ("all", f"third {number % 3}"):
            writer.hub.enter_room(member.stream.session.clients[0].sid, room)
    for room in ("all", "third 0", "all", "third 1", "third 0", "all"):
        writer.emit("fact", to=room)
    assert steps_of(writer) == [[(1, 30)], [(1, 10)], [(1, 30)], [(1, 10)], [(1, 10)], [(1, 30)]]
    assert [len(member.numbers()) for member in members[:3]] == [5, 4, 3]


def test_rooms_are_joined_and_left_by_threads_while_steps_are_made() -> None:
    """A member gets exactly what was emitted while it was in the room, however its coming falls between the steps."""
    writer = Writer()
    member, staying, riders = writer.open(), writer.open(), writer.open(format=Format.ENVELOPE)
    other = writer.hub.admit(riders.stream.session, {}, "/")
    writer.run()
    writer.hub.enter_room(staying.stream.session.clients[0].sid, "room")
    moving = [member.stream.session.clients[0].sid, other.sid]
    wanted: list[int] = []

    def host() -> None:
        for _ in range(200):
            for act, name in ((writer.hub.enter_room, "in"), (writer.hub.leave_room, "out")):
                for sid in moving:
                    act(sid, "room")
                writer.emit(name, to="room")
                if name == "in":
                    wanted.append(writer.log.newest)

    thread = threading.Thread(target=host)
    thread.start()
    while thread.is_alive():
        writer.run()
    thread.join()
    writer.run()
    assert member.numbers() == riders.numbers() == wanted
    assert staying.numbers() == list(range(1, 401))


def test_who_is_skipped() -> None:
    """An event that leaves somebody out goes to the others in one share."""
    writer = Writer()
    members = [writer.open() for _ in range(3)]
    writer.run()
    writer.emit("one", skip=members[0].stream.session.clients[0].sid)
    writer.emit("two")
    writer.run()
    assert [member.numbers() for member in members] == [[2], [1, 2], [1, 2]]


def test_a_client_that_ends_during_a_step() -> None:
    """Who ends after a step has read the log still gets what was for it before, and not what left it out."""
    writer = Writer()
    member, other = writer.open(), writer.open()
    writer.run()
    client = member.stream.session.clients[0]
    writer.emit("private", to=client.sid)
    writer.emit("others", skip=client.sid)
    writer.meanwhile.append(partial(writer.hub.end, client, "server disconnect"))
    writer.run()
    assert [body["event"] for body in member.messages()] == ["private", "hybrid_disconnect"]
    assert other.numbers() == [2]
    assert writer.hub.audible(client.sid) is None


def test_a_rider_that_comes_while_a_step_is_planned() -> None:
    """A stream that gets a second client between two events of a step is given each once, and told for whom it is."""
    writer = Writer()
    member, other = writer.open(format=Format.ENVELOPE), writer.open(format=Format.ENVELOPE)
    writer.run()
    client = member.stream.session.clients[0]
    for sid in (client.sid, other.stream.session.clients[0].sid):
        writer.hub.enter_room(sid, "room")
    writer.emit("one", to="room")
    writer.emit("two", to="room")

    def come(seq: int) -> None:
        if seq == 2 and len(member.stream.session.clients) == 1:
            writer.hub.admit(member.stream.session, {}, "/")

    writer.interrupted.before = come
    writer.run()
    writer.emit("three", to="room")
    writer.run()
    assert member.numbers() == other.numbers() == [1, 2, 3]
    assert [body.get("to") for body in member.messages()] == [None, None, [client.sid]]


def test_a_rider_that_goes_while_a_step_is_planned() -> None:
    """A stream of two clients in a room, one of whom is forgotten just now, is given the event once."""
    writer = Writer()
    member = writer.open(format=Format.ENVELOPE)
    session = member.stream.session
    writer.hub.admit(session, {}, "/")
    writer.run()
    first, second = session.clients
    for client in (first, second):
        writer.hub.enter_room(client.sid, "room")
    writer.emit("one", to="room")
    writer.interrupted.after = lambda found: writer.hub.forget(second)
    writer.emit("two", to="room")
    writer.run()
    assert member.numbers() == [1, 2]


@pytest.mark.parametrize("target", ["skip", "to"])
def test_what_is_for_a_rider_that_goes_is_not_taken_for_the_others(target: str) -> None:
    """One who is refused just now was concerned by an event, the one that stays was not: it gets what was for it."""
    writer = Writer()
    member = writer.open(format=Format.ENVELOPE)
    session = member.stream.session
    writer.hub.admit(session, {}, "/")
    writer.run()
    second = session.clients[1]
    writer.interrupted.after = lambda found: writer.hub.forget(second) if second in found else None
    writer.emit("one", **{target: second.sid})
    writer.emit("two")
    writer.run()
    assert len(session.clients) == 1
    assert member.numbers() == ([1, 2] if target == "skip" else [2])


def test_who_is_not_found_any_more_is_not_taken_for_everybody() -> None:
    """Of a stream's two clients the one that an event leaves out is gone when it is looked for: nobody gets it."""
    writer = Writer()
    member, other = writer.open(format=Format.ENVELOPE), writer.open(format=Format.ENVELOPE)
    second, third = (writer.hub.admit(each.stream.session, {}, "/chat") for each in (member, other))
    writer.run()
    writer.interrupted.before = lambda seq: writer.hub.forget(second)
    writer.emit("secret", namespace="/chat", skip=second.sid)
    writer.run()
    assert member.numbers() == []
    assert (other.numbers(), third.namespace) == ([1], "/chat")


@pytest.mark.parametrize("envelope", [False, True])
def test_conflation_in_a_step(envelope: bool) -> None:
    """Of several events of a conflated kind in one step only the last is sent, and counted for whom it is sent to."""
    writer = Writer()
    members = [writer.open(format=Format.ENVELOPE if envelope else Format.JSON) for _ in range(2)]
    writer.run()
    for value in range(3):
        writer.emit("load", value)
        writer.emit("fact", value)
    step = writer.pack.step()
    (share,) = step.deliveries
    assert (share.delivered, share.conflated) == (4, 2)
    writer.run()
    assert [member.numbers() for member in members] == [[2, 4, 5, 6]] * 2
    if envelope:
        assert [body.get("conflated") for body in members[0].messages()] == [None, None, 2, None]


def test_everybody_is_told_when_the_pack_itself_was_too_slow() -> None:
    """If the log drops what the pack has not sent, every member gets its own gap and then the rest."""
    writer = Writer(max_events=3)
    members = [writer.open(format=Format.ENVELOPE) for _ in range(2)]
    writer.run()
    for value in range(5):
        writer.emit("fact", value)
    writer.run()
    for member in members:
        gap, *events = member.messages()
        assert (gap["event"], gap["data"]["missed"], gap["data"]["reason"]) == ("hybrid_gap", 2, "evicted")
        assert [body["data"] for body in events] == [2, 3, 4]
    assert len(writer.pack) == 2


def test_what_is_too_old_becomes_a_gap() -> None:
    """What the pack could not send in time is not sent late."""
    writer = Writer()
    member = writer.open()
    writer.run()
    writer.emit("old")
    writer.now += 61
    writer.emit("new")
    writer.run()
    assert [body["event"] for body in member.messages()] == ["hybrid_gap", "new"]


def test_a_failed_step_can_be_survived() -> None:
    """After scattering, everybody goes on alone from where it was, and comes together again."""
    writer = Writer()
    members = [writer.open() for _ in range(3)]
    writer.run()
    writer.emit("one")
    step: BroadcastPlan = writer.pack.scatter()
    assert (len(writer.pack), set(step.to_catch_up)) == (0, set(members))
    writer.alone.update(dict.fromkeys(step.to_catch_up))
    writer.pack.arrive(step)
    writer.run()
    assert [member.numbers() for member in members] == [[1]] * 3
    assert len(writer.pack) == 3


def test_a_heartbeat_carries_the_newest_id() -> None:
    """Whether a member was concerned by what happened or not, its heartbeat says how far the pack has come."""
    writer = Writer()
    concerned, other = writer.open(events=("a",)), writer.open(events=("b",))
    writer.run()
    writer.emit("a")
    writer.run()
    heartbeat = f"id: {EPOCH}-1\nevent: hybrid_heartbeat\ndata: {{}}\n\n".encode()
    assert concerned.stream.heartbeat() == other.stream.heartbeat() == heartbeat


def test_what_is_counted_for_who_is_left_out() -> None:
    """What its cohort is given in its place counts as no event of a member that has nothing in a step."""
    writer = Writer()
    left, other = writer.open(), writer.open()
    writer.run()
    sid = left.stream.session.clients[0].sid

    def step(name: str, **target: Any) -> list[int]:
        writer.emit(name, **target)
        writer.run()
        return [stream.delivered for stream in (left.stream, other.stream)]

    assert step("one") == [1, 1]
    assert step("two", skip=sid) == [1, 2]
    assert step("three", skip=sid) == [1, 3]
    assert step("four", to=sid) == [2, 3]
    assert step("five") == [3, 4]
    assert left.numbers() == [1, 4, 5]


def test_a_step_that_fails_loses_nobody() -> None:
    """Those who had stepped out of the pack when it failed go on alone, like all the others."""
    writer = Writer()
    members = [writer.open() for _ in range(3)]
    writer.run()
    writer.hub.admit(members[0].stream.session, {}, "/")
    writer.emit("one", to="room")
    writer.interrupted.before = lambda seq: 1 / 0
    with pytest.raises(ZeroDivisionError):
        writer.pack.step()
    assert set(writer.pack.scatter().to_catch_up) == set(members)


# -- everything at once --------------------------------------------------------------------------------------------

ROOMS = ("red", "blue")
NAMESPACES = ("/", "/chat")


class PackMachine(RuleBasedStateMachine):
    """Streams with one or several clients, in a pack that is interrupted anywhere; against who was there when."""

    @initialize(events=st.sampled_from([4, 12, 1000]))
    def begin(self, events: int) -> None:
        self.writer = Writer(max_events=events)
        self.bounded = events < 1000
        self.members: list[Member] = []
        #: For each stream, by event number, for which of its clients it was.
        self.due: dict[Member, dict[int, set[str]]] = {}
        #: And which of them were there, in its namespace.
        self.there: dict[Member, dict[int, set[str]]] = {}
        self.sent: list[str] = []

    @precondition(lambda self: len(self.members) < 6)
    @rule(namespace=st.sampled_from(NAMESPACES), events=st.sampled_from([(), (), ("fact", "load*")]),
          envelope=st.booleans())
    def connect(self, namespace: str, events: tuple[str, ...], envelope: bool) -> None:
        member = self.writer.open(namespace, events=events, format=Format.ENVELOPE if envelope else Format.JSON)
        self.members.append(member)
        self.due[member], self.there[member] = {}, {}

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 5), namespace=st.sampled_from(NAMESPACES))
    def ride(self, which: int, namespace: str) -> None:
        member = self.members[which % len(self.members)]
        if member.stream.request.format is Format.ENVELOPE and 0 < len(member.stream.session.living) < 3:
            self.writer.hub.admit(member.stream.session, {}, namespace)

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 20))
    def end(self, which: int) -> None:
        clients = self.writer.hub.clients()
        if clients:
            self.writer.hub.end(clients[which % len(clients)], "server disconnect")

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 20), room=st.sampled_from(ROOMS), into=st.booleans())
    def move(self, which: int, room: str, into: bool) -> None:
        clients = self.writer.hub.clients()
        if clients:
            act = self.writer.hub.enter_room if into else self.writer.hub.leave_room
            act(clients[which % len(clients)].sid, room)

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 20), room=st.sampled_from(ROOMS),
          act=st.sampled_from(["end", "ride", "come", "go", "emit"]))
    def meanwhile(self, which: int, room: str, act: str) -> None:
        """Have that happen while the next step is made, after it has read the log."""
        self.writer.meanwhile.append({
            "end": partial(self.end, which), "ride": partial(self.ride, which, "/"),
            "come": partial(self.move, which, room, True), "go": partial(self.move, which, room, False),
            "emit": partial(self.emit, "fact", "/", room, False, which),
        }[act])

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 5))
    def be_quiet(self, which: int) -> None:
        """Have somebody's heartbeat be due."""
        self.writer.quiet.add(self.members[which % len(self.members)])

    @rule(name=st.sampled_from(["fact", "load", "noise"]), namespace=st.sampled_from(("/", "/", "/chat")),
          aim=st.sampled_from(["all", "all", "red", "blue", "both", "one"]), skip=st.booleans(),
          which=st.integers(0, 20))
    def emit(self, name: str, namespace: str, aim: str, skip: bool, which: int) -> None:
        clients = self.writer.hub.clients()
        one = clients[which % len(clients)].sid if clients else "nobody"
        other = clients[(which + 1) % len(clients)].sid if clients else "nobody"
        to = {"all": None, "red": "red", "blue": "blue", "both": ["red", "blue"], "one": one}[aim]
        self.writer.emit(name, len(self.sent), namespace=namespace, to=to, skip=other if skip else None)
        self.sent.append(name)
        rooms = None if to is None else set(to) if isinstance(to, list) else {to}
        for member in self.members:
            accepts = not member.stream.request.events or name in ("fact", "load")
            meant = {client.sid for client in member.stream.session.living if client.namespace == namespace
                     and (rooms is None or not rooms.isdisjoint(client.rooms()))
                     and not (skip and client.sid == other)}
            if meant and accepts:
                self.due[member][len(self.sent)] = meant
                self.there[member][len(self.sent)] = {client.sid for client in member.stream.session.living
                                                      if client.namespace == namespace}

    @rule(steps=st.integers(1, 4))
    def pass_on(self, steps: int) -> None:
        """Go on with a pass, and stop somewhere."""
        for _ in range(steps):
            self.writer.begin()

    @rule()
    def whole_pass(self) -> None:
        self.writer.finish()
        self.writer.begin()
        self.writer.finish()

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 5))
    def stick(self, which: int) -> None:
        member = self.members[which % len(self.members)]
        member.stuck = not member.stuck

    @rule()
    def settle(self) -> None:
        """Let everybody catch up: whoever is still there has got all, or been told what it has not."""
        for member in self.members:
            member.stuck = False
        for _ in range(4):
            self.writer.finish()
            self.writer.begin()
            self.writer.finish()
        assert self.writer.pack.position == self.writer.log.newest
        for member in list(self.members):
            self.compare(member)
            if member.stream.finished:
                self.members.remove(member)
            else:
                assert member.stream.group is not None

    def compare(self, member: Member) -> None:
        due, given = self.due[member], member.numbers()
        assert given == sorted(set(given))
        assert set(given) <= set(due)
        covered = self.covered(member)
        for seq in set(due) - set(given):
            later = [number for number in given if number > seq and self.sent[number - 1] == "load"]
            assert seq <= covered or (self.sent[seq - 1] == "load" and later)
        if member.stream.request.format is Format.ENVELOPE:
            gone = set()
            for body in member.messages():
                if body["event"] == "hybrid_disconnect":
                    gone.add(body["data"]["sid"])
                elif not body["event"].startswith("hybrid_"):
                    seq = int(body["id"].rpartition("-")[2])
                    assert set(body["to"]) == due[seq] if "to" in body else self.there[member][seq] - gone <= due[seq]

    def covered(self, member: Member) -> int:
        """Return the last number that a gap has told to be missing."""
        gaps = [body["data"] for body in member.messages() if body["event"] == "hybrid_gap"]
        assert self.bounded or not gaps
        return max([int(gap["resume_from"].rpartition("-")[2]) for gap in gaps], default=0)

    @invariant()
    def once(self) -> None:
        for member in getattr(self, "members", []):
            given = member.numbers()
            assert given == sorted(set(given))
            ids = [int(number) for number in re.findall(rb"^id: \d+-(\d+)$", member.data, re.MULTILINE)]
            assert ids == sorted(ids)


TestPackModel = pytest.mark.timeout(400)(PackMachine.TestCase)
TestPackModel.settings = settings(max_examples=300, stateful_step_count=50, deadline=None, database=None,
                                  derandomize=True, report_multiple_bugs=False)
