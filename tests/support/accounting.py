"""Accounting: whether what streams received agrees with what was emitted, event by event.

The publisher writes a :class:`Manifest`: every id it gave, and what was under it. :func:`account` walks through what
one client received, over all its connections: ids increase, none repeats, under each is what was emitted under it, and
every absence of an event that was for this client is covered by a ``hybrid_gap`` (with the exact number where the
contract promises one) or stands behind a later event of its kind. Whatever is not so is an ``AssertionError``.
"""

from __future__ import annotations

import html
import json
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from hakgal_hybrid.broker.engineio.packets import Framing
from hakgal_hybrid.broker.entry import Entry
from hakgal_hybrid.broker.event import Event, glob_matcher, is_marker
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.segments import Origin

#: Which life of the server, and which number in it.
Place = tuple[int, int]


class Sent(NamedTuple):
    """One emitted event; ``all`` is false if it was for some of its namespace only; ``at`` is a clock's reading."""

    place: Place
    id: str
    name: str
    digest: int
    namespace: str
    target: str
    at: float

    @property
    def all(self) -> bool:
        return not self.target

    @property
    def kind(self) -> tuple[str, str, str]:
        """Events of one kind may stand for each other, if their name is conflated."""
        return self.name, self.namespace, self.target


def digest(text: str) -> int:
    """Return a number in place of a payload."""
    return zlib.crc32(text.encode())


def target_of(event: Event) -> str:
    """Return for whom in its namespace an event is, as text; empty for everybody."""
    rooms, skip = event.target.rooms, event.target.skip
    return "" if rooms is None and not skip else repr((rooms and sorted(map(str, rooms)), sorted(map(str, skip))))


class Manifest:
    """What was emitted, by all lives of one server. A life that was killed may have noted events that nobody saw."""

    def __init__(self, conflate: Iterable[str] = ()) -> None:
        self.lives: dict[int, int] = {}
        self.conflates: Callable[[str], bool] = glob_matcher(conflate)
        self._sent: dict[Place, Sent] = {}
        self._sorted: list[Sent] | None = None
        self._shared = False

    def begin(self, epoch: int) -> None:
        """A life begins, after those that began before."""
        self.lives.setdefault(epoch, len(self.lives))

    def add(self, event_id: str, event: Event) -> None:
        """Take note of an event that was emitted in this process."""
        self._add(event_id, event.name, digest(event.data), event.target.namespace, target_of(event), 0.0)

    def _add(self, event_id: str, name: str, number: int, namespace: str, target: str, at: float) -> None:
        place = self.place(event_id)
        assert place is not None, f"no life has given {event_id}"
        sent = Sent(place, event_id, name, number, namespace, target, at)
        if self._shared and place in self._sent:  # each process notes what it has read of the log that they share
            sent = sent._replace(at=self._sent[place].at)
            assert sent == self._sent[place], f"{event_id} is another event in another process"
        else:
            assert place not in self._sent, f"{event_id} was given twice"
        self._sent[place] = sent
        self._sorted = None

    def place(self, event_id: str) -> Place | None:
        """Return where an id stands; nothing for one of an unknown life."""
        epoch, _, number = event_id.partition("-")
        life = self.lives.get(int(epoch)) if epoch.isdigit() and number.isdigit() else None
        return None if life is None else (life, int(number))

    def get(self, place: Place) -> Sent | None:
        return self._sent.get(place)

    def between(self, after: Place, upto: Place) -> list[Sent]:
        """Return what was emitted after one place up to another."""
        if after[0] == upto[0] and upto[1] - after[1] < 16:
            found = (self._sent.get((after[0], number)) for number in range(after[1] + 1, upto[1] + 1))
            return [sent for sent in found if sent is not None]
        return [sent for sent in self.sent if after < sent.place <= upto]

    @property
    def sent(self) -> list[Sent]:
        """Everything, in order."""
        if self._sorted is None:
            self._sorted = sorted(self._sent.values())
        return self._sorted

    # -- on disk: what the server process writes, line by line, so that killing it loses nothing

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what server processes have written."""
        manifest = cls()
        lines = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        manifest._shared = any("shared" in line for line in lines)
        if manifest._shared:  # what is a life otherwise is a generation, and a later one has a greater number
            given = {int(line["id"].partition("-")[0]) for line in lines if "id" in line}
            for generation in sorted({0, *given, *(line["generation"] for line in lines if "generation" in line)}):
                manifest.begin(generation)
        for line in lines:
            if "life" in line:
                manifest.begin(line["life"])
                manifest.conflates = glob_matcher(line["conflate"])
        for line in lines:
            if "id" in line:
                manifest._add(line["id"], line["name"], line["digest"], line["namespace"], line["target"], line["at"])
        return manifest


class Writer:
    """Writes a manifest, in the server's process: each event before any reader can see it.

    :param path: where to append. :param epoch: of this life. :param conflate: patterns of names that are conflated.
    """

    def __init__(self, path: str, epoch: int, conflate: Iterable[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._line({"life": epoch, "conflate": list(conflate)})

    def follow(self, log: EventLog) -> None:
        """Take note of whatever is appended to a log from now on, while the log is locked.

        So even of a process that is killed nobody has an event of which there is no note.
        """
        append = log.append
        if log.segments is not None:
            self._line({"shared": True})

        def noted(event: Event, prepare: Callable[[Entry], object] | None = None,
                  origin: Origin | None = None) -> Entry:
            def prepared(entry: Entry) -> None:
                if prepare is not None:
                    prepare(entry)
                if not is_marker(event):
                    self.note(event, log.id_of(entry.seq))
                elif log.segments is not None:  # a gap may be all that there is of a generation
                    self._line({"generation": int(log.id_of(entry.seq).partition("-")[0])})
            return append(event, prepared, origin)

        log.append = noted  # type: ignore[method-assign]

    def note(self, event: Event, event_id: str) -> None:
        """Take note of one event."""
        self._line({"id": event_id, "name": event.name, "digest": digest(event.data),
                    "namespace": event.target.namespace, "target": target_of(event), "at": time.monotonic()})

    def _line(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


# -- what was received -------------------------------------------------------------------------------------------


#: The name of an event in a format that does not say it.
ANY = "?"


class Got(NamedTuple):
    """One block of a stream: its own id, if it has one, and what it dispatches."""

    id: str | None
    event: str
    data: Any
    digest: int
    namespace: str | None = None
    conflated: int | None = None


def blocks(raw: bytes, form: Format = Format.JSON) -> list[Got]:
    """Take a stream apart. What is not complete at its end was not dispatched.

    What comes in the formats of pages must have been emitted as one text, or as HTML, without line ends of the past.
    What comes as packets of Socket.IO must have been emitted as one argument, without ``bytes``. Only in the formats
    with offsets has it an id.
    """
    if form.framing is not None:
        return [_of_packet(packet, form) for packet in _packets(bytes(raw), form.framing)]
    if form is Format.ENVELOPE_FRAMES:
        frames = map(json.loads, _packets(bytes(raw), Framing.WEBSOCKET))
        return [unwrapped(frame, frame["id"]) for frame in frames]
    found = []
    for block in bytes(raw).split(b"\n\n")[:-1]:
        fields: dict[str, list[str]] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(": ")
            fields.setdefault(name, []).append(value)
        event_id = fields.get("id", [None])[0]  # type: ignore[list-item]
        text = "\n".join(fields["data"]) if "data" in fields else None
        if text is None:
            found.append(Got(event_id, "", None, 0))
        elif form is Format.ENVELOPE:
            found.append(unwrapped(json.loads(text), event_id))
        else:
            event = fields.get("event", ["message"])[0]
            if form is not Format.JSON and not event.startswith("hybrid_"):
                event, text = _of_page(event, text, form)
            found.append(Got(event_id, event, json.loads(text) if event.startswith("hybrid_") else text, digest(text)))
    return found


def _packets(raw: bytes, framing: Framing) -> list[str]:
    """Return the packets that have come complete."""
    if framing is Framing.POLLING:
        return [packet.decode() for packet in raw.split(b"\x1e")[:-1]]
    found = []
    while len(raw) >= 2:
        head, size = {126: (4, raw[2:4]), 127: (10, raw[2:10])}.get(raw[1], (2, raw[1:2]))
        end = head + int.from_bytes(size, "big")
        if len(raw) < max(head, end):
            break
        assert raw[0] == 0x81, "a frame that is not a whole text"
        found.append(raw[head:end].decode())
        raw = raw[end:]
    return found


def _of_packet(packet: str, form: Format) -> Got:
    """Return what a packet of Socket.IO dispatches."""
    match = re.fullmatch(r"4([12])(?:(/[^,]*),)?(\[.*)?", packet, re.DOTALL)
    assert match is not None, packet
    if match[1] == "1":
        return Got(None, "hybrid_disconnect", None, 0, match[2] or "/")
    name, data, *offset = json.loads(match[3])
    assert len(offset) == form.offsets, packet
    return Got(offset[0] if offset else None, name, data, digest(_json(data)), match[2] or "/")


def _of_page(event: str, text: str, form: Format) -> tuple[str, str]:
    """Return the name of an event and its payload as JSON text, from what a library of a page gets."""
    if form is not Format.DATASTAR:
        return (ANY if event == "message" else event), _json(html.unescape(text))
    if event == "datastar-patch-elements":
        assert all(line.startswith("elements ") for line in text.split("\n")), text
        return ANY, _json(text.replace("\nelements ", "\n").removeprefix("elements "))
    assert event == "datastar-patch-signals", event
    [(event, value)] = json.loads(text.removeprefix("signals ")).items()  # of a gap, too
    return event, _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def unwrapped(body: dict[str, Any], event_id: str | None) -> Got:
    """Return what an envelope holds."""
    data = body["data"]
    return Got(event_id, body["event"], data, digest(_json(data)), body["namespace"], body.get("conflated", 0))


# -- the two held together ---------------------------------------------------------------------------------------


@dataclass
class Account:
    """The outcome: what one client got, what it was told it did not get, and where it is now.

    :ivar covered: what a gap stands for, with the gap's reason. :ivar unknown: gaps of unknown size.
    """

    place: Place | None = None
    delivered: int = 0
    conflated: int = 0
    missed: int = 0
    unknown: int = 0
    covered: list[tuple[Sent, str]] = field(default_factory=list)


class _Walk:
    def __init__(self, manifest: Manifest, namespace: str | None, events: str, whole: bool,
                 mine: Callable[[Sent], bool] | None, exact: bool) -> None:
        self.exact = exact
        self.manifest, self.namespace, self.mine = manifest, namespace, mine
        self.accepts = glob_matcher(events.split(",")) if events else None
        self.whole = whole
        self.account = Account()
        self.waiting: dict[tuple[str, str, str], int] = {}
        self.carried: set[tuple[str, str, str]] = set()
        #: What a tear covers may stand before a later one of its kind that counts it all the same.
        self.torn: Counter[tuple[str, str, str]] = Counter()
        self.sure = True  # that all is known that is left out at the moment

    def required(self, sent: Sent) -> bool:
        """True if this client must have got it, or been told."""
        if self.mine is not None:
            return self.mine(sent)
        return (self.whole and sent.all and sent.namespace == self.namespace
                and (self.accepts is None or self.accepts(sent.name)))

    def possible(self, sent: Sent) -> bool:
        """True if it may have been for this client."""
        if self.mine is not None:
            return self.mine(sent)
        return ((self.namespace is None or sent.namespace == self.namespace)
                and (self.accepts is None or self.accepts(sent.name)))

    def leave_out(self, upto: Place, got: Got) -> None:
        """Everything before a place that has not come is left out for a later one of its kind, or is lost."""
        if self.account.place is None:
            return
        for sent in self.manifest.between(self.account.place, upto):
            if sent.place == upto and got.event not in ("", "hybrid_heartbeat"):
                continue
            if self.required(sent):
                assert self.manifest.conflates(sent.name), f"{sent} is missing before {got}, and no gap says so"
            if self.possible(sent) and self.manifest.conflates(sent.name):
                self.sure = self.sure and self.required(sent)
                self.waiting[sent.kind] = self.waiting.get(sent.kind, 0) + 1

    def step(self, got: Got) -> None:
        account = self.account
        place = None if got.id is None else self.manifest.place(got.id)
        if got.event == "hybrid_open":
            # A first one says where the client begins; a later one where it goes on, which is where it was.
            if account.place is None:
                account.place = place
            else:
                assert place is None or place <= account.place, f"{got} skips what came after {account.place}"
                # What was left out on the connection before is before the id that this one began with: the later one
                # of its kind must still come, or a gap, but neither counts it.
                self.carried |= self.waiting.keys()
                self.waiting.clear()
                self.torn.clear()
        elif got.event == "hybrid_gap":
            assert got.id == got.data["resume_from"], got
            assert place is not None, f"{got} names no place"
            if got.data["reason"] == "future":
                account.place = None  # what the client said it had seen was never given
            assert account.place is None or place >= account.place, f"{got} goes back from {account.place}"
            self.gap(got, place)
        elif got.event and not got.event.startswith("hybrid_"):
            self.event(got, place)
        elif place is not None:
            assert account.place is None or place >= account.place, f"{got} goes back from {account.place}"
            self.leave_out(place, got)
            account.place = place

    def event(self, got: Got, place: Place | None) -> None:
        account = self.account
        if got.id is None:  # of a snapshot
            assert any(got.event in (sent.name, ANY) and sent.digest == got.digest and self.possible(sent)
                       for sent in self.manifest.sent), f"{got} was never emitted"
            return
        assert place is not None, f"{got} has an id that nobody gave"
        assert account.place is not None, f"{got} comes before the stream was opened"
        assert place > account.place, f"{got} comes again, or too late: the client is at {account.place}"
        sent = self.manifest.get(place)
        assert sent is not None, f"{got} was never emitted"
        assert got.event in (sent.name, ANY), f"{got} is not what was emitted: {sent}"
        assert sent.digest == got.digest, f"{got} is not what was emitted: {sent}"
        assert self.possible(sent), f"{got} was not for this client: {sent}"
        assert got.namespace in (None, sent.namespace), (got, sent)
        self.leave_out(place, got)
        account.place = place
        account.delivered += 1
        stood_for, torn = self.waiting.pop(sent.kind, 0), self.torn.pop(sent.kind, 0)
        self.carried.discard(sent.kind)
        account.conflated += stood_for
        if got.conflated is not None and (self.mine is not None or (sent.all and self.whole)):
            assert stood_for <= got.conflated <= stood_for + torn, f"{got} stands for {stood_for}"

    def gap(self, got: Got, place: Place) -> None:
        account, missed, reason = self.account, got.data["missed"], got.data["reason"]
        known = account.place is not None
        between = self.manifest.between(account.place, place) if account.place is not None else []
        lost = [sent for sent in between if self.required(sent)]
        account.covered += [(sent, reason) for sent in lost]
        if missed is None:
            newest = len(self.manifest.lives) - 1
            exact = (self.exact and known and reason in ("evicted", "slow") and self.whole and self.accepts is None
                     and self.sure and account.place is not None and account.place[0] == place[0] == newest
                     and all(sent.all and sent.namespace == "/" for sent in between))
            assert not exact, f"{got} could have said {len(lost)}"
            account.unknown += 1
        else:
            least = len(lost) + sum(self.waiting.values()) * self.sure
            most = sum(map(self.possible, between)) + sum(self.waiting.values())
            assert not self.whole or not known or least <= missed <= most, f"{got} stands for {least} to {most}"
            account.missed += missed
        if reason == "restarted":
            torn = Counter(sent.kind for sent in lost if self.manifest.conflates(sent.name))
            self.torn = torn + Counter(self.waiting) + self.torn
        else:
            self.torn.clear()
        self.waiting.clear()
        self.carried.clear()
        self.sure = True
        account.place = place


def account(got: Iterable[Got], manifest: Manifest, *, namespace: str | None = "/", events: str = "",
            upto: str | None = None, whole: bool = True, mine: Callable[[Sent], bool] | None = None,
            exact: bool = True) -> Account:
    """Hold what one client received, over all its connections, against what was emitted.

    :param namespace: its namespace; ``None`` for a stream of several. :param events: its filter.
    :param upto: the id up to which it must have, or know of, everything.
    :param mine: true for what is for it, where that is known exactly, rooms and all.
    :param whole: false if not known is which events are for it: then only what came is judged, not what did not.
    :param exact: false where clients have come to the stream or left it: gaps need not be exact then.
    :raises AssertionError: if something is missing, repeated, out of order, or not what was emitted.
    """
    walk = _Walk(manifest, namespace, events, whole, mine, exact)
    for item in got:
        walk.step(item)
    if upto is not None:
        place = manifest.place(upto)
        assert place is not None, f"no life has given {upto}"
        assert walk.account.place is not None, "the stream was never opened"
        if walk.account.place < place:
            walk.leave_out(place, Got(upto, "", None, 0))
        left_out = walk.waiting or walk.carried
        assert not (walk.sure and left_out), f"{left_out} were left out for events that never came"
    return walk.account


# -- all streams of a test -----------------------------------------------------------------------------------------

#: The manifests of servers, by port, and the streams that tests have opened on them (``support.servers``).
manifests: dict[int, Path] = {}
streams: list[Any] = []


def settle() -> list[Account]:
    """Hold every stream that was opened since the last time against the manifest of its server."""
    opened = [stream for stream in streams if stream.port in manifests and stream.status == 200]
    streams.clear()
    read = {port: Manifest.read(manifests[port]) for port in {stream.port for stream in opened}}
    return [_settled(stream, read[stream.port]) for stream in opened]


def _settled(stream: Any, manifest: Manifest) -> Account:
    query = {name: values[-1] for name, values in parse_qs(stream.query).items()}
    # A stream that was opened by a ticket carries whoever connected to it.
    ticket = "ticket" in query
    return account(stream.got(), manifest, namespace=None if ticket else query.get("namespace", "/"),
                   events=query.get("events", ""), whole=not ticket)
