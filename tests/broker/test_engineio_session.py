"""A session of Engine.IO: polls and posts, heartbeats by a clock, changing over to a WebSocket, its end."""

from __future__ import annotations

import itertools
import json
import time
from threading import Event as EventFlag

import pytest
from support.engines import Clock, engine

from hakgal_hybrid.broker.engineio.heartbeat import LATE_S
from hakgal_hybrid.broker.engineio.packets import (
    MAX_PACKETS,
    Framing,
    Packet,
    PacketType,
    ProtocolError,
    decode_payload,
)
from hakgal_hybrid.broker.engineio.polling import SOON_S, UPGRADING_S, Poll
from hakgal_hybrid.broker.engineio.refusals import Refusal, RefusalCode
from hakgal_hybrid.broker.engineio.registry import EngineRegistry
from hakgal_hybrid.broker.engineio.session import FAREWELL_S, PASSING_S, EngineSession
from hakgal_hybrid.broker.engineio.upgrade import UPGRADE_S
from hakgal_hybrid.broker.states import EngineState
from hakgal_hybrid.broker.timers import TimerQueue

INTERVAL, TIMEOUT = 25.0, 20.0


def nothing() -> None:
    """Nobody waits."""


def poll(session: EngineSession) -> bytes | None:
    """Make a request for packets that does not wait."""
    return session.polling.take(session.polling.begin_poll(nothing))


def post(session: EngineSession, body: bytes) -> None:
    session.polling.begin_post()
    try:
        for packet in decode_payload(body):
            session.receive(packet)
    finally:
        session.polling.end_post()


def refused(session: EngineSession) -> RefusalCode:
    """Return the code with which a poll is refused."""
    with pytest.raises(Refusal) as caught:
        session.polling.begin_poll(nothing)
    return caught.value.code


def test_the_first_packet_says_what_all_have_in_common() -> None:
    """It has these keys and no other; times are milliseconds, made of seconds with fractions."""
    session, _ = engine(ping_interval_s=0.3, ping_timeout_s=0.2, max_payload=5)
    opened = session.handshake(upgrades=True)
    assert opened[0] == "0"
    assert json.loads(opened[1:]) == {"sid": session.sid, "upgrades": ["websocket"], "pingInterval": 300,
                                      "pingTimeout": 200, "maxPayload": 5}
    assert json.loads(session.handshake(upgrades=False)[1:])["upgrades"] == []


def test_messages_go_up_and_down() -> None:
    """A poll waits until there is something; text and bytes come back as they were."""
    session, echo = engine()
    woken = []
    waiting = session.polling.begin_poll(lambda: woken.append(1))
    assert session.polling.take(waiting) is None
    post(session, b"4hello\x1ebAQI=")
    assert woken
    assert session.polling.take(waiting) == b"4hello\x1ebAQI="
    assert echo.log == ["opened", "hello", b"\x01\x02"]


def test_a_poll_has_a_limited_number_of_packets() -> None:
    """What is left comes with the next one; a ping counts."""
    clock = Clock()
    session, _ = engine(clock)
    post(session, b"\x1e".join(b"4%d" % number for number in range(20)))
    clock.now += INTERVAL
    session.tick()
    body = poll(session)
    assert body is not None
    assert len(body.split(b"\x1e")) == MAX_PACKETS
    assert body.startswith(b"2\x1e40\x1e")
    assert poll(session) == b"415\x1e416\x1e417\x1e418\x1e419"


def test_a_second_poll_ends_the_session() -> None:
    """The first one is answered with a close packet, the second one is refused, and nothing is known any more."""
    session, echo = engine()
    first = session.polling.begin_poll(nothing)
    assert refused(session) is RefusalCode.BAD_REQUEST
    assert session.polling.take(first) == b"1"
    assert refused(session) is RefusalCode.UNKNOWN_SID
    assert echo.log[-1] == ("closed", "transport error")


def test_a_second_post_ends_the_session() -> None:
    """It is refused."""
    session, echo = engine()
    session.polling.begin_post()
    with pytest.raises(Refusal) as caught:
        session.polling.begin_post()
    assert caught.value.code is RefusalCode.BAD_REQUEST
    assert echo.log[-1] == ("closed", "transport error")


@pytest.mark.parametrize("body", [b"abc", b"2", b"0{}", b"5"])
def test_what_a_client_must_not_post_ends_the_session(body: bytes) -> None:
    """What is no packet is for the reader of the payload; packets of other directions end the session here. A poll that
    waits gets a close packet; without one, nothing is known any more.
    """
    session, echo = engine()
    with pytest.raises(ProtocolError):
        post(session, body)
    if body != b"abc":
        assert echo.log[-1] == ("closed", "transport error")
        assert refused(session) is RefusalCode.UNKNOWN_SID
        session, _ = engine()
        waiting = session.polling.begin_poll(nothing)
        with pytest.raises(ProtocolError):
            post(session, body)
        assert session.polling.take(waiting) == b"1"


def test_a_client_closes() -> None:
    """A poll that waits, or was on its way, is answered with nothing to do; then nothing is known any more."""
    session, echo = engine()
    waiting = session.polling.begin_poll(nothing)
    post(session, b"1")
    assert session.polling.take(waiting) == b"6"
    assert refused(session) is RefusalCode.UNKNOWN_SID
    assert echo.log[-1] == ("closed", "client disconnect")
    session, echo = engine()
    post(session, b"1\x1e4late")
    assert poll(session) == b"6"
    assert refused(session) is RefusalCode.UNKNOWN_SID
    assert echo.log == ["opened", ("closed", "client disconnect")]
    clock = Clock()
    session, _ = engine(clock)
    post(session, b"1")
    clock.now += PASSING_S
    assert session.tick() is None
    assert refused(session) is RefusalCode.UNKNOWN_SID


def test_the_server_closes() -> None:
    """The close packet is kept for the next poll, for a while; nothing is taken from the client meanwhile."""
    clock = Clock()
    session, echo = engine(clock)
    session.close("server disconnect")
    with pytest.raises(Refusal):
        session.polling.begin_post()
    assert poll(session) == b"1"
    assert echo.log[1:] == [("closed", "server disconnect")]
    session, _ = engine(clock)
    session.close("server disconnect")
    clock.now += FAREWELL_S
    assert session.tick() is None
    assert refused(session) is RefusalCode.UNKNOWN_SID


def test_a_client_that_answers_pings_stays() -> None:
    """A ping is sent one interval after the session began, and one interval after each pong."""
    clock = Clock()
    session, _ = engine(clock)
    assert session.tick() == INTERVAL
    for _ in range(3):
        clock.now += INTERVAL
        session.tick()
        assert poll(session) == b"2"
        clock.now += TIMEOUT - 1
        session.tick()
        post(session, b"3")
        assert session.tick() == INTERVAL


def test_a_client_that_does_not_answer_is_dead() -> None:
    """The clock runs without polls too; where the ping has left late, it runs from then on."""
    clock = Clock()
    session, echo = engine(clock)
    for _ in range(2):
        clock.now += INTERVAL
        session.tick()
    assert echo.log[-1] == ("closed", "ping timeout")
    assert refused(session) is RefusalCode.UNKNOWN_SID
    session, echo = engine(clock)
    clock.now += INTERVAL
    session.tick()
    clock.now += TIMEOUT - 1
    assert poll(session) == b"2"
    clock.now += TIMEOUT - 1
    session.tick()
    assert not session.over
    clock.now += 1
    session.tick()
    assert echo.log[-1] == ("closed", "ping timeout")


def test_a_clock_that_is_looked_at_late_gives_no_more_time() -> None:
    """Little of it: the pong of a client that does not poll is due as if the ping had been noted in time. After a long
    pause of the machine it has its whole time.
    """
    clock = Clock()
    session, echo = engine(clock)
    clock.now += INTERVAL + LATE_S / 2
    session.tick()
    clock.now += TIMEOUT - LATE_S / 2
    assert session.tick() is None
    assert echo.log[-1] == ("closed", "ping timeout")
    session, _ = engine(clock)
    clock.now += 1000
    session.tick()
    clock.now += TIMEOUT - 2 * LATE_S
    session.tick()
    assert not session.over


def test_a_session_whose_time_is_over_is_not_found() -> None:
    """Even if nobody has looked after it since."""
    clock = Clock()
    registry = EngineRegistry(TimerQueue())
    session, echo = engine(clock)
    registry.add(session)
    clock.now += INTERVAL
    assert registry.find(session.sid) is session
    clock.now += TIMEOUT
    with pytest.raises(Refusal):
        registry.find(session.sid)
    assert echo.log[-1] == ("closed", "ping timeout")


def test_a_client_that_waits_for_its_post_is_alive() -> None:
    """It sends no other one meanwhile, so it cannot answer a ping. Posts do not put a ping off."""
    clock = Clock()
    session, _ = engine(clock)
    clock.now += INTERVAL - 1
    post(session, b"4x")
    assert session.tick() == 1
    session.polling.begin_post()
    for _ in range(5):
        clock.now += INTERVAL
        session.tick()
    assert not session.over
    session.polling.end_post()
    assert session.tick() == TIMEOUT


def test_a_poll_whose_client_is_gone_ends_the_session() -> None:
    """What it would have got is not asked for again, and nothing is known any more."""
    session, echo = engine()
    session.polling.abandon(session.polling.begin_poll(nothing))
    assert echo.log[-1] == ("closed", "transport close")
    assert refused(session) is RefusalCode.UNKNOWN_SID


# -- changing over -----------------------------------------------------------------------------------------------


def test_a_client_changes_over() -> None:
    """From the probe on no poll hangs; until the change polling is the transport, afterwards the WebSocket alone is."""
    session, echo = engine()
    waiting = session.polling.begin_poll(nothing)
    assert session.upgrade.probe()
    assert session.polling.take(waiting) == b"6"
    woken = []
    late = session.polling.begin_poll(lambda: woken.append("poll"))
    assert session.polling.take(late) is None
    echo.send("at once")
    assert woken == ["poll"]
    assert session.frames() == b""
    assert session.polling.take(late) == b"4at once"
    echo.send("kept")
    assert session.upgrade.complete(lambda: woken.append("websocket"))
    assert woken == ["poll", "websocket"]
    assert session.frames() == Framing.WEBSOCKET.message("kept")
    assert refused(session) is RefusalCode.BAD_REQUEST
    with pytest.raises(Refusal):
        session.polling.begin_post()
    assert session.transport == "websocket"
    session.receive(Packet(PacketType.MESSAGE, "up"))
    assert session.frames() == Framing.WEBSOCKET.message("up")


@pytest.mark.parametrize("polled", [True, False])
def test_a_poll_without_packets_does_not_hold_up_the_change(polled: bool) -> None:
    """A client that polls all the time changes over when its poll was answered: that is soon, and later each time until
    it has seen the answer to its probe. Another one may have changed over, which is waited for.
    """
    clock = Clock()
    session, echo = engine(clock)
    if polled:
        echo.send("x")
        assert poll(session) == b"4x"
    session.upgrade.probe()
    for wait_s in (SOON_S, 2 * SOON_S, 4 * SOON_S) if polled else (UPGRADING_S, UPGRADING_S):
        waiting = session.polling.begin_poll(nothing)
        assert session.polling.take(waiting) is None
        assert session.polling.wait_s(waiting) == pytest.approx(wait_s)
        clock.now += wait_s
        assert session.polling.take(waiting) == b"6"
    for _ in range(4):
        waiting = session.polling.begin_poll(nothing)
        clock.now += UPGRADING_S
        assert session.polling.take(waiting) == b"6"


def test_a_ping_waits_for_the_change() -> None:
    """The time of its pong would run out, or put off the end of a change that takes too long."""
    clock = Clock()
    session, echo = engine(clock)
    clock.now += INTERVAL
    session.tick()
    session.upgrade.probe()
    echo.send("x")
    assert poll(session) == b"4x"
    clock.now += UPGRADE_S - 1
    assert session.tick() == 1
    session.upgrade.complete(nothing)
    assert session.frames() == Framing.WEBSOCKET.packet("2")
    assert session.tick() == TIMEOUT


@pytest.mark.parametrize("first", ["send", "poll", "probe"])
def test_nothing_is_lost_or_repeated_in_any_order(first: str) -> None:
    """Of messages, polls that are looked at when they are woken or their time is over, probes, changes and failures."""
    for actions in itertools.product(["send", "poll", "wait", "probe", "change", "fail"], repeat=4):
        client = Changing()
        for action in (first, *actions):
            client.do(action)
        client.do("poll")
        assert client.got == client.sent, (first, *actions)


class Changing:
    """A client that changes over in any order.

    :ivar sent: what was sent to it.
    :ivar got: what it has got, in the order of the answers and frames.
    """

    def __init__(self) -> None:
        self._clock = Clock()
        self._session, self._echo = engine(self._clock)
        self._poll: Poll | None = None
        self._woken = False
        self.sent: list[str] = []
        self.got: list[str] = []

    def do(self, action: str) -> None:
        """Carry out an action, if it can be, and read what comes."""
        session = self._session
        if action == "send":
            self.sent.append(str(len(self.sent)))
            self._echo.send(self.sent[-1])
        elif action == "wait":
            self._clock.now += UPGRADING_S
        elif action == "probe":
            session.upgrade.probe()
        elif action == "change":
            session.upgrade.complete(nothing)
        elif action == "fail":
            session.upgrade.fail()
        elif self._poll is None and session.state is not EngineState.WEBSOCKET:
            self._poll, self._woken = session.polling.begin_poll(self._wake), True
        self._take()
        frames = session.frames()
        while frames:
            self.got.append(frames[3:2 + frames[1]].decode())
            frames = frames[2 + frames[1]:]

    def _wake(self) -> None:
        self._woken = True

    def _take(self) -> None:
        polling = self._session.polling
        if self._poll is None or not (self._woken or polling.wait_s(self._poll) == 0):
            return
        self._woken = False
        if self._session.state is EngineState.WEBSOCKET:
            with pytest.raises(Refusal):
                polling.take(self._poll)
            self._poll = None
            return
        body = polling.take(self._poll)
        if body is not None:
            self._poll = None
            self.got += [str(packet.data) for packet in decode_payload(body) if packet.type is PacketType.MESSAGE]


def test_a_poll_that_meets_the_change_is_refused() -> None:
    """It waits for a moment, in which the client has changed over; the session goes on."""
    session, _ = engine()
    session.upgrade.probe()
    waiting = session.polling.begin_poll(nothing)
    session.upgrade.complete(nothing)
    with pytest.raises(Refusal) as caught:
        session.polling.take(waiting)
    assert caught.value.code is RefusalCode.BAD_REQUEST
    assert not session.over


def test_there_is_one_websocket() -> None:
    """A second one is refused, before and after the change; another one may come when it has failed."""
    session, _ = engine()
    assert session.upgrade.open()
    assert not session.upgrade.open()
    assert session.upgrade.probe()
    assert not session.upgrade.open()
    assert not session.upgrade.probe()
    session.upgrade.fail()
    assert session.upgrade.open()
    assert session.upgrade.probe()
    assert session.upgrade.complete(nothing)
    assert not session.upgrade.open()
    assert not session.upgrade.probe()
    assert not engine(websocket=True)[0].upgrade.open()


def test_a_change_that_takes_too_long_fails() -> None:
    """Polling goes on, with its pings; the WebSocket cannot be used any more. No ping is due meanwhile."""
    clock = Clock()
    session, echo = engine(clock)
    clock.now += INTERVAL - 1
    session.upgrade.probe()
    clock.now += UPGRADE_S
    session.tick()
    assert session.state is EngineState.POLLING
    assert not session.upgrade.complete(nothing)
    assert session.tick() == INTERVAL
    echo.send("x")
    assert poll(session) == b"4x"
    session.upgrade.probe()
    session.upgrade.fail()
    session.upgrade.fail()
    assert session.state is EngineState.POLLING


def test_a_websocket_from_the_beginning() -> None:
    """There is no polling; a ping is a frame; its end is no packet."""
    clock = Clock()
    session, echo = engine(clock, websocket=True)
    assert refused(session) is RefusalCode.BAD_REQUEST
    clock.now += INTERVAL
    session.tick()
    assert session.frames() == Framing.WEBSOCKET.packet("2")
    session.receive(Packet(PacketType.PONG))
    assert session.tick() == INTERVAL
    session.close("transport close")
    assert session.state is EngineState.ENDED
    assert session.frames() == b""
    assert echo.log[-1] == ("closed", "transport close")


def test_sessions_are_found_until_they_have_ended() -> None:
    """The registry looks after them, ends them all, and knows those whose last packet waits."""
    registry = EngineRegistry(TimerQueue())
    session, echo = engine(time.monotonic, ping_interval_s=0.01, ping_timeout_s=100)
    woken = EventFlag()
    waiting = session.polling.begin_poll(woken.set)
    registry.add(session)
    assert registry.find(session.sid) is session
    assert woken.wait(30)
    assert session.polling.take(waiting) == b"2"
    registry.stop()
    assert poll(registry.find(session.sid)) == b"6"  # no close packet: the client is to connect again
    for sid in (session.sid, "other"):
        with pytest.raises(Refusal):
            registry.find(sid)
    assert echo.log[-1] == ("closed", "transport close")


def test_a_websocket_that_cannot_be_heard_is_alive() -> None:
    """While it takes its time to read what comes before the ping, and while its pong is not read; not afterwards."""
    clock = Clock()
    session, echo = engine(clock, websocket=True)
    session.tick()

    def later(seconds: float) -> EngineState:
        clock.now += seconds
        session.tick()
        return session.state

    assert later(INTERVAL) is EngineState.WEBSOCKET
    for _ in range(3):  # nobody asks for the ping
        assert later(TIMEOUT) is EngineState.WEBSOCKET
    assert session.frames() == Framing.WEBSOCKET.packet("2")
    echo.busy = True
    for _ in range(3):
        assert later(TIMEOUT) is EngineState.WEBSOCKET
    echo.busy = False
    assert later(TIMEOUT - 1) is EngineState.WEBSOCKET
    assert later(1) is EngineState.ENDED
    assert echo.log[-1] == ("closed", "ping timeout")
