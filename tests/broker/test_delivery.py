"""Delivery, all parts together: log, hub, links, cursors, the pack and the journal, in any order of what can happen.

Clients come, read, stall, lose their connection in the middle of a block, come back as who they were or as somebody
else, join and leave rooms, are ended; the log drops; the process is stopped or killed and begins again. A simple model
knows for whom each event was. At the end every client's bytes must agree with it (:mod:`support.accounting`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.accounting import Account, Got, Manifest, Sent, account, blocks, digest
from support.hubs import make_hub

from hakgal_hybrid.broker import live as pack_module
from hakgal_hybrid.broker import reading as reading_module
from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import Client, Session
from hakgal_hybrid.broker.entry import Gap
from hakgal_hybrid.broker.event import Event, Target, glob_matcher
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.journal import Journal
from hakgal_hybrid.broker.live import LiveGroup
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.markup import Html
from hakgal_hybrid.broker.replay import bring_back
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest
from hakgal_hybrid.broker.timers import TimerHandle

EPOCH = 1755412806000
NAMES = ("a", "b", "c", "cc")
CONFLATE = ("c*",)


class NoDeadlines:
    """Nobody lapses by the clock here, but when the model says so."""

    def call_later(self, seconds: float, call: Any) -> TimerHandle:
        return TimerHandle(float("inf"), call)


class Piece(NamedTuple):
    """Some bytes of a connection, and the gaps and the beginning that no byte of it tells of."""

    raw: bytes
    notes: list[Got]


class Person:
    """A client as it is out there: what it has received, and what the model says is for it.

    Packets of Socket.IO tell neither of gaps nor where a stream begins, and need not have ids. So these are noted when
    they happen, and an id is found by the payload, which no other event has.

    :ivar got: what came over earlier connections; ``pieces``: what came over this one; ``notes``: what is noted for the
        next piece.
    """

    def __init__(self, namespace: str, events: str, form: Format, manifest: Manifest, ids: dict[int, str]) -> None:
        self.namespace, self.events, self.form = namespace, events, form
        self._manifest, self._ids = manifest, ids
        self.got: list[Got] = []
        self.pieces: list[Piece] = []
        self.notes: list[Got] = []
        self.mine: set[str] = set()
        self.rooms: set[Hashable] = set()
        self.session: Session | None = None
        self.client: Client | None = None
        self.stream: Any = None
        self.stalled = False
        self.over_at: str | None = None

    def accepts(self, name: str) -> bool:
        return not self.events or name in self.events.split(",")

    def wants(self, event: Event) -> bool:
        """True if an event that is emitted now is for it."""
        target = event.target
        return (self.client is not None and self.over_at is None and target.namespace == self.namespace
                and self.client.sid not in target.skip and self.accepts(event.name)
                and (target.rooms is None or bool(target.rooms & {*self.rooms, self.client.sid})))

    def receive(self, raw: bytes) -> None:
        self.pieces.append(Piece(raw, self.notes))
        self.notes = []

    def note(self, event: str, event_id: str, data: Any = None) -> None:
        if self.form.framing is not None:
            self.notes.append(Got(event_id, event, data, 0))

    @property
    def all(self) -> list[Got]:
        return self.got + self._received()

    def _received(self) -> list[Got]:
        """What came over this connection, notes before what comes after them."""
        found = blocks(b"".join(piece.raw for piece in self.pieces), self.form)
        if self.form.framing is None:
            return found
        found = [got if got.id is not None or got.event == "hybrid_disconnect" else
                 got._replace(id=self._ids[got.digest]) for got in found]
        at = 0
        for note in [note for piece in self.pieces for note in piece.notes]:
            at = max(at, next((index for index, got in enumerate(found)
                               if got.id is not None and self._place(got) > self._place(note)), len(found)))
            found.insert(at, note)
            at += 1
        return found

    def _place(self, got: Got) -> tuple[int, int]:
        place = self._manifest.place(str(got.id))
        assert place is not None
        return place

    @property
    def last(self) -> str | None:
        """The id that it would send."""
        return next((got.id for got in reversed(self.all) if got.id is not None), None)

    def hang_up(self, lost: int) -> None:
        """The connection is gone, and the last bytes with it; what is left of a block is worth nothing."""
        while lost and self.pieces:
            raw, notes = self.pieces.pop()
            if lost < len(raw) and not notes:
                self.pieces.append(Piece(raw[:-lost], notes))
            lost = max(0, lost - len(raw))
        self.got += self._received()
        self.pieces, self.notes, self.stream = [], [], None


class DeliveryMachine(RuleBasedStateMachine):
    """A transport's insides, without threads: each rule is something that can happen between two others."""

    MAX_EVENTS, MAX_BYTES = 8, 900

    @initialize(forms=st.tuples(st.sampled_from(Format), st.sampled_from(Format)))
    def begin(self, forms: tuple[Format, Format] = (Format.JSON, Format.JSON)) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1000.0
        self.manifest = Manifest(CONFLATE)
        self.events: dict[str, Event] = {}
        self.ids: dict[int, str] = {}
        self.written: set[str] = set()
        self.persons: list[Person] = []
        self.takes = reading_module.MAX_TAKE, pack_module.MAX_TAKE
        self.live(EPOCH)
        for form in forms:
            self.arrive("/", "", form)
        self.enter(0, "r")

    def live(self, epoch: int) -> None:
        """Begin a life of the process."""
        self.journal = Journal(str(Path(self.folder.name) / "journal"), flush_s=1, max_bytes=1 << 20, max_age_s=3600,
                               degraded=lambda: None, wall_ms=lambda: int(time.time() * 1000))
        epoch, past, records = self.journal.begin(epoch, max_events=self.MAX_EVENTS, max_bytes=self.MAX_BYTES)
        self.log = EventLog(epoch=epoch, clock=lambda: self.now, wall_ms=lambda: 1, encode=encode_entry,
                            max_events=self.MAX_EVENTS, max_bytes=self.MAX_BYTES, max_event_bytes=300,
                            conflates=glob_matcher(CONFLATE))
        self.log.inherit(past, records)
        self.journal.follow(self.log)
        self.hub = make_hub(self.log)
        self.hub.sessions._deadlines = NoDeadlines()  # type: ignore[assignment]
        self.pack = LiveGroup(self.hub, 60)
        self.alone: list[Person] = []
        self.flushed = self.log.newest
        self.manifest.begin(epoch)

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            self.settle()
        finally:
            reading_module.MAX_TAKE, pack_module.MAX_TAKE = self.takes
            self.abandon()
            self.folder.cleanup()

    def abandon(self) -> None:
        """The process is gone, as by a kill."""
        self.journal.stop()

    # -- what is emitted

    names = st.sampled_from(NAMES)
    namespaces = st.sampled_from(["/", "/", "/", "/n"])
    which = st.integers(0, 3)
    lost = st.sampled_from([0, 0, 1, 30, 200, 10_000])

    @rule(name=names, pad=st.integers(0, 80), namespace=namespaces, which=which,
          aim=st.sampled_from(["all", "all", "all", "room", "rooms", "sid", "skip"]), html=st.booleans())
    def publish(self, name: str, pad: int, namespace: str, which: int, aim: str, html: bool = False) -> None:
        person = self.persons[which % len(self.persons)] if self.persons else None
        sid = person.client.sid if person is not None and person.client is not None else "nobody"
        target: dict[str, Any] = {"all": {}, "room": {"to": "r"}, "rooms": {"to": ["r", "s"]}, "sid": {"to": sid},
                                  "skip": {"skip": sid}}[aim]
        serial = len(self.events)
        payload = Html(f"{serial}" + "<p>\n" * (pad // 4)) if html else f"{serial}" + "x" * pad
        event = Event.create(name, (payload,), Target.create(namespace, **target))
        wanted = [one for one in self.persons if one.wants(event)]
        entry = self.hub.broker.publish(event)
        assert entry is not None
        event_id = self.log.id_of(entry.seq)
        self.manifest.add(event_id, event)
        self.events[event_id] = event
        self.ids[digest(event.data)] = event_id
        for one in wanted:
            one.mine.add(event_id)

    @rule(several=st.lists(names, min_size=1, max_size=9))
    def publish_several(self, several: list[str]) -> None:
        for name in several:
            self.publish(name, 0, "/", 0, "all")

    # -- clients come, go, and come back

    @precondition(lambda self: len(self.persons) < 4)
    @rule(namespace=namespaces, events=st.sampled_from(["", "", "", "a,c"]), form=st.sampled_from(Format))
    def arrive(self, namespace: str, events: str, form: Format) -> None:
        person = Person(namespace, events, form, self.manifest, self.ids)
        self.persons.append(person)
        self.connect(person, None)

    def connect(self, person: Person, last: str | None) -> None:
        """Be somebody new."""
        person.session = self.hub.new_session({})
        person.client = self.hub.admit(person.session, {}, person.namespace)
        person.rooms = set()
        self.open(person, last)

    def open(self, person: Person, last: str | None) -> None:
        assert person.session is not None
        events = tuple(person.events.split(",")) if person.events else ()
        request = StreamRequest(person.namespace, events, format=person.form, last_event_id=last)
        person.stream = SubscriberStream(person.session, self.hub, StreamOptions(), request,
                                         lambda client, gap: self.gap(person, gap))
        self.pack.adopt(person)
        self.hub.sessions.attach(person.session, person.stream)
        person.note("hybrid_open", last or self.log.id_of(person.stream.position))
        person.receive(person.stream.opening())
        self.alone.append(person)

    def gap(self, person: Person, gap: Gap) -> None:
        upto = self.log.id_of(gap.upto)
        person.note("hybrid_gap", upto, {"missed": gap.missed, "reason": gap.reason, "resume_from": upto})

    @precondition(lambda self: self.persons)
    @rule(which=which, lost=lost)
    def lose_connection(self, which: int, lost: int) -> None:
        person = self.persons[which % len(self.persons)]
        stream = person.stream
        if stream is None:
            return
        self.pack.leave(person, stream.position)
        if person in self.alone:
            self.alone.remove(person)
        person.hang_up(lost)
        assert person.session is not None
        self.hub.sessions.detach(person.session, stream)
        if person.over_at is not None:  # there is nobody to come back as
            self.persons.remove(person)

    @precondition(lambda self: any(self.may_recover(person) for person in self.persons))
    @rule(which=which)
    def recover(self, which: int) -> None:
        """By its pid, with the id of its last event: over another session, which has what is new."""
        able = [person for person in self.persons if self.may_recover(person)]
        self.bring_back(able[which % len(able)])

    @precondition(lambda self: any(person.form.offsets and person.stream is not None for person in self.persons))
    @rule(which=which, lost=lost, several=st.lists(names, max_size=3))
    def blink(self, which: int, lost: int, several: list[str]) -> None:
        """Lose the connection, miss little, and be back."""
        able = [person for person in self.persons if person.form.offsets and person.stream is not None]
        person = able[which % len(able)]
        self.lose_connection(self.persons.index(person), lost)
        for name in several:
            self.publish(name, 0, person.namespace, 0, "all")
        if self.may_recover(person):
            self.bring_back(person)

    def bring_back(self, person: Person) -> None:
        last, client = person.last, person.client
        assert client is not None
        person.session = self.hub.new_session({})
        self.open(person, None)
        replay = bring_back(self.hub, client, person.session, last, lambda entry, client: True)
        if replay is None:  # the log has not everything any more: it is somebody new, without a past
            self.hub.end(client, "transport close")
            account(person.got, self.manifest, namespace=person.namespace, events=person.events,
                    mine=lambda sent: sent.id in person.mine)
            person.got, person.mine, person.rooms = [], set(), set()
            person.client = self.hub.admit(person.session, {}, person.namespace)
            return
        person.pieces[-1].notes[:] = [Got(last, "hybrid_open", None, 0)]
        while not replay.done:
            person.receive(replay.take(person.form, 3)[0])
        assert replay.gap is None

    def may_recover(self, person: Person) -> bool:
        """True if it has lost its connection. Those of Socket.IO have no filter, and are ended by a gap."""
        return (person.stream is None and person.form.offsets and person.over_at is None and not person.events
                and person.session is not None and bool(person.got)
                and all(got.event != "hybrid_gap" for got in person.got))

    @precondition(lambda self: any(person.stream is None for person in self.persons))
    @rule(which=which, same=st.booleans())
    def come_back(self, which: int, same: bool) -> None:
        """By its ticket, if there still is somebody to be; or by its last id alone."""
        away = [person for person in self.persons if person.stream is None]
        person = away[which % len(away)]
        if person.over_at is not None:
            return
        last = person.last
        if same and person.session is not None:
            if self.may_recover(person) and person.client is not None and person.client.replayed_upto:
                self.bring_back(person)  # its stream leaves to a replay what another one has given it
            else:
                self.open(person, last)
            return
        if person.session is not None:
            self.hub.sessions.lapse(person.session)
        place = None if last is None else self.manifest.place(last)
        person.mine = {event_id for event_id in person.mine if place and self.place(event_id) <= place}
        person.mine |= {event_id for event_id, event in self.events.items()
                        if place and self.place(event_id) > place and event.target.rooms is None
                        and event.target.namespace == person.namespace and person.accepts(event.name)}
        self.connect(person, last)

    def place(self, event_id: str) -> tuple[int, int]:
        place = self.manifest.place(event_id)
        assert place is not None
        return place

    @precondition(lambda self: self.persons)
    @rule(which=which, room=st.sampled_from(["r", "s"]))
    def enter(self, which: int, room: str) -> None:
        person = self.persons[which % len(self.persons)]
        if person.client is not None and person.over_at is None:
            self.hub.enter_room(person.client.sid, room)
            person.rooms.add(room)

    @precondition(lambda self: self.persons)
    @rule(which=which, room=st.sampled_from(["r", "s"]))
    def leave(self, which: int, room: str) -> None:
        person = self.persons[which % len(self.persons)]
        if person.client is not None and person.over_at is None:
            self.hub.leave_room(person.client.sid, room)
            person.rooms.discard(room)

    @precondition(lambda self: len(self.persons) > 2)
    @rule(which=which)
    def end(self, which: int) -> None:
        """The host disconnects a client: what was emitted before still reaches it."""
        person = self.persons[which % len(self.persons)]
        if person.stream is not None and person.over_at is None:
            assert person.client is not None
            person.over_at = self.log.id_of(self.log.newest)
            self.hub.end(person.client, "server disconnect")

    # -- streams are written

    @rule(most=st.sampled_from([1, 150, 1 << 30]))
    def write(self, most: int) -> None:
        """One pass of the writer."""
        reading_module.MAX_TAKE = pack_module.MAX_TAKE = most  # type: ignore[attr-defined]
        again = True
        while again:
            step = self.pack.step()
            self.alone += step.to_catch_up
            for share in step.deliveries:
                for person in share.members:
                    person.receive(share.data)  # what its socket does not take is pending, and comes later
                    if person.stalled:
                        self.pack.leave(person, step.upto)
                        self.alone.append(person)
            self.pack.arrive(step)
            again = most == 1 << 30 and self.pack.position < self.log.newest
        shared: dict[Any, Any] = {}
        for person in [person for person in self.alone if not person.stalled]:
            self.catch_up(person, shared)

    def catch_up(self, person: Person, shared: dict[Any, Any]) -> None:
        stream = person.stream
        if not stream.finished:
            person.receive(stream.take(shared, self.pack.position))
            if self.pack.join(person):
                self.alone.remove(person)
        if stream.finished:
            self.alone.remove(person)
            assert person.over_at is not None
            self.judge(person, person.over_at)
            self.persons.remove(person)

    @precondition(lambda self: self.persons)
    @rule(which=which)
    def stall(self, which: int) -> None:
        self.persons[which % len(self.persons)].stalled ^= True

    @precondition(lambda self: self.persons)
    @rule(which=which)
    def beat(self, which: int) -> None:
        person = self.persons[which % len(self.persons)]
        if person.stream is not None and not person.stalled and not person.stream.finished:
            person.receive(person.stream.heartbeat())

    @rule(seconds=st.sampled_from([20, 50]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    # -- the process

    @rule()
    def flush(self) -> None:
        """The journal's turn has come."""
        lost = max(self.flushed, self.log.oldest - 1)
        assert self.journal.flush()
        self.written |= {self.log.id_of(seq) for seq in range(lost + 1, self.log.newest + 1)}
        self.flushed = self.log.newest

    @rule(killed=st.booleans(), lost=lost, back=st.integers(-5, 5))
    def restart(self, killed: bool, lost: int, back: int) -> None:
        if killed:
            self.abandon()
        else:
            self.flush()
            self.journal.close()
        for person in self.persons:
            if person.stream is not None:
                person.hang_up(lost)
            person.session = person.client = None
            person.rooms = set()
        self.persons = [person for person in self.persons if person.over_at is None]
        self.live(EPOCH + back)

    # -- what must hold

    @rule()
    def settle(self) -> None:
        """Let everybody get everything there is; then all must be accounted for."""
        for person in list(self.persons):
            person.stalled = False
            if person.stream is None:
                self.come_back(self.away().index(person), True)
        for _ in range(1000):
            self.write(1 << 30)
            if not self.alone:
                break
        assert not self.alone, "some never catch up"
        for person in self.persons:
            self.judge(person, self.log.id_of(self.log.newest))

    def away(self) -> list[Person]:
        return [person for person in self.persons if person.stream is None]

    def judge(self, person: Person, upto: str) -> Account:
        def mine(sent: Sent) -> bool:
            return sent.id in person.mine

        told = account(person.all, self.manifest, namespace=person.namespace, events=person.events, mine=mine,
                       exact=person.over_at is None)
        place = self.place(upto)
        assert told.place is not None
        for event_id in person.mine:
            # What comes after its last id was left out, or is for nobody: nothing of it may be its own.
            assert not told.place < self.place(event_id) <= place, f"{event_id} did not come, and no gap says so"
        for sent, reason in told.covered:
            # A gap between an event and the later one of its kind that it was left out for covers it as well.
            assert reason != "restarted" or sent.id not in self.written or self.stood_in(person, sent, place), (
                f"{sent} was written, and is lost")
        return told

    def stood_in(self, person: Person, sent: Sent, upto: tuple[int, int]) -> bool:
        """True if a later event of its kind could come in the place of one."""
        return self.manifest.conflates(sent.name) and any(
            self.kind(later, upto) == self.kind(sent, upto) and sent.place < later.place <= upto
            and later.id in person.mine for later in self.manifest.sent)

    def kind(self, sent: Sent, upto: tuple[int, int]) -> tuple[str, Target]:
        """Name and target. No ``sid`` outlives its process, so the journal keeps none that is skipped."""
        target = self.events[sent.id].target
        return sent.name, target if sent.place[0] == upto[0] else target._replace(skip=frozenset())


TestDelivery = pytest.mark.timeout(400)(DeliveryMachine.TestCase)  # only finding the smallest failure takes long
TestDelivery.settings = settings(max_examples=300, stateful_step_count=50, deadline=None, database=None,
                                 derandomize=True, report_multiple_bugs=False)


def test_a_restored_event_skips_nobody() -> None:
    """So one to everybody, of the next life, may stand for it."""
    machine = DeliveryMachine()
    machine.begin()
    machine.restart(killed=True, lost=0, back=0)
    machine.publish(aim="skip", name="c", namespace="/", pad=0, which=0)
    machine.flush()
    machine.restart(killed=True, lost=0, back=0)
    machine.publish(aim="all", name="c", namespace="/", pad=0, which=0)
    machine.teardown()


def test_a_tear_between_an_event_and_its_successor() -> None:
    """What was left out for a later event of its kind is not lost, though the gap of a kill stands between both."""
    machine = DeliveryMachine()
    machine.begin()
    machine.restart(killed=True, lost=0, back=0)
    machine.arrive(form=Format.ENVELOPE, events="", namespace="/")
    machine.publish_several(several=["c"])
    machine.flush()
    machine.restart(killed=True, lost=0, back=0)
    machine.publish_several(several=["c"])
    machine.teardown()


def test_a_gap_behind_a_filter_that_can_be_counted() -> None:
    """Of events that are too old but still there the names are known: so a stream with a filter is told how many."""
    machine = DeliveryMachine()
    machine.begin()
    machine.arrive(form=Format.JSON, events="a,c", namespace="/n")
    machine.publish(aim="all", name="a", namespace="/n", pad=0, which=0)
    machine.wait(seconds=20)
    machine.wait(seconds=50)
    machine.settle()
    (gap,) = [got for got in machine.persons[-1].all if got.event == "hybrid_gap"]
    assert gap.data["missed"] == 1
    machine.teardown()


def test_what_a_loss_covers_is_counted_once() -> None:
    """An event that was left out before the gap of a kill is not counted again by a gap after it."""
    machine = DeliveryMachine()
    machine.begin()
    machine.restart(killed=True, lost=0, back=0)
    machine.publish_several(several=["a", "a", "c"])
    machine.flush()
    machine.restart(killed=True, lost=0, back=0)
    machine.publish_several(several=["a", "a", "c"])
    machine.come_back(same=False, which=0)
    machine.write(most=150)
    machine.publish_several(several=["a"] * 6)
    machine.teardown()
