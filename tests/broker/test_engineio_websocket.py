"""A session's WebSocket as bytes: fragments, control frames, limits, changing over, and its end."""

from __future__ import annotations

import pytest
from support.engines import Clock, Echo, engine
from wsproto.frame_protocol import CloseReason, FrameProtocol

from hakgal_hybrid.broker.engineio.packets import Framing
from hakgal_hybrid.broker.engineio.session import EngineSession
from hakgal_hybrid.broker.engineio.upgrade import UPGRADE_S
from hakgal_hybrid.broker.engineio.websocket import OpenedWebSocket, WebSocketEnd
from hakgal_hybrid.broker.states import EngineState

FRAME = Framing.WEBSOCKET


class Browser:
    """The other end of a WebSocket, without a connection."""

    def __init__(self, *, probing: bool = False, limit: int = 100) -> None:
        self.clock = Clock()
        self.session, self.echo = engine(self.clock, websocket=not probing)
        self.frames = FrameProtocol(client=True, extensions=[])
        self.woken = 0
        self.end = WebSocketEnd(self.session, self._wake, limit, probing=probing, clock=self.clock)

    def _wake(self) -> None:
        self.woken += 1

    def say(self, data: str | bytes, fin: bool = True) -> bytes:
        """Send a message, or a part of one; return what comes back."""
        self.end.receive(bytes(self.frames.send_data(data, fin)))
        return self.end.take()


def closed(code: CloseReason) -> bytes:
    return b"\x88\x02" + int(code).to_bytes(2, "big")


def test_a_session_begins_with_its_first_packet() -> None:
    """Then messages go both ways, however they are cut into fragments and pieces."""
    browser = Browser()
    assert browser.end.take() == FRAME.packet(browser.session.handshake(upgrades=False))
    assert browser.say("4hello") == FRAME.message("hello")
    assert browser.say("4he", fin=False) == b""
    assert browser.say("llo €") == FRAME.message("hello €")
    assert browser.say(b"\x01\x02") == FRAME.message(b"\x01\x02")
    for byte in bytes(browser.frames.send_data("4slow", True)):
        browser.end.receive(bytes([byte]))
    assert browser.end.take() == FRAME.message("slow")
    assert browser.end.wait_s is None


def test_control_frames_are_answered() -> None:
    """A ping by a pong, also between the fragments of a message; a close frame by a close frame, which is the end."""
    browser = Browser()
    browser.end.take()
    browser.say("4a", fin=False)
    browser.end.receive(bytes(browser.frames.ping(b"x")))
    assert browser.end.take() == b"\x8a\x01x"
    assert browser.say("b") == FRAME.message("ab")
    browser.end.receive(bytes(browser.frames.close(1000)))
    assert browser.end.take() == closed(CloseReason.NORMAL_CLOSURE)
    assert browser.end.over
    assert browser.echo.log[-1] == ("closed", "transport close")


@pytest.mark.parametrize("parts", [["4" + "x" * 100], ["4" + "x" * 60, "y" * 60]])
def test_a_message_that_is_too_large_ends_it(parts: list[str]) -> None:
    """No more of it is kept than the limit."""
    browser = Browser()
    browser.end.take()
    for number, part in enumerate(parts):
        answer = browser.say(part, fin=number == len(parts) - 1)
    assert answer == closed(CloseReason.MESSAGE_TOO_BIG)
    assert browser.echo.log[-1] == ("closed", "transport error")


@pytest.mark.parametrize("data", [b"\x81\x02ab", b"\xc1\x80\0\0\0\0", b"\x83\x80\0\0\0\0"])
def test_what_is_no_frame_ends_it(data: bytes) -> None:
    """A frame without a mask, with a reserved bit, or of an unknown kind."""
    browser = Browser()
    browser.end.take()
    browser.end.receive(data)
    assert browser.end.take() == closed(CloseReason.PROTOCOL_ERROR)
    assert browser.session.over


@pytest.mark.parametrize("packet", ["", "x", "2", "0{}"])
def test_what_is_no_packet_ends_it(packet: str) -> None:
    """The session is over as well."""
    browser = Browser()
    browser.end.take()
    assert browser.say(packet) == closed(CloseReason.PROTOCOL_ERROR)
    assert browser.session.over



def test_pongs_do_not_pile_up() -> None:
    """A client that sends pings and does not read gets the last pong, and some before it."""
    browser = Browser()
    browser.end.take()
    for number in range(5000):
        browser.end.receive(bytes(browser.frames.ping(b"%0100d" % number)))
    sent = browser.end.take()
    assert sent.endswith(b"%0100d" % 4999)
    assert len(sent) < 10_000
    assert browser.end.take() == b""


def test_it_ends_with_its_session() -> None:
    """The client closes that by a packet, or the server does, which says that it is going away."""
    browser = Browser()
    browser.end.take()
    assert browser.say("1") == closed(CloseReason.NORMAL_CLOSURE)
    assert browser.echo.log[-1] == ("closed", "client disconnect")
    browser = Browser()
    browser.end.take()
    browser.end.stop()
    assert browser.woken
    assert browser.end.take() == closed(CloseReason.GOING_AWAY)
    assert browser.end.take() == b""


def test_a_client_changes_over() -> None:
    """Nothing is pushed before it has."""
    browser = Browser(probing=True)
    browser.echo.send("kept")
    assert browser.say("2probe") == FRAME.packet("3probe")
    assert browser.end.take() == b""
    assert browser.say("5") == FRAME.message("kept")
    assert browser.session.state is EngineState.WEBSOCKET


@pytest.mark.parametrize("said", [["5"], ["2"], ["4hello"], ["2probe", "4hello"], ["2probe", "2probe"]])
def test_a_websocket_that_changes_nothing_over_is_closed(said: list[str]) -> None:
    """Polling goes on."""
    browser = Browser(probing=True)
    for packet in said:
        answer = browser.say(packet)
    assert answer == closed(CloseReason.PROTOCOL_ERROR)
    assert browser.session.state is EngineState.POLLING


@pytest.mark.parametrize("said", [[], ["2probe"]])
def test_a_client_that_does_not_change_over_in_time(said: list[str]) -> None:
    """The WebSocket is closed; polling goes on."""
    browser = Browser(probing=True)
    for packet in said:
        browser.say(packet)
    assert browser.end.wait_s == UPGRADE_S
    browser.clock.now += UPGRADE_S
    browser.session.tick()
    assert browser.end.take() == closed(CloseReason.PROTOCOL_ERROR)
    assert browser.session.state is EngineState.POLLING


def test_a_second_websocket_is_closed_at_once() -> None:
    """It need not say anything; the first one goes on. When that is gone, there may be another one."""
    browser = Browser(probing=True)
    second = WebSocketEnd(browser.session, browser._wake, 100, probing=True)
    assert second.over
    assert second.take() == closed(CloseReason.NORMAL_CLOSURE)
    second.lost()
    assert browser.say("2probe") == FRAME.packet("3probe")
    browser.end.lost()
    assert browser.session.state is EngineState.POLLING
    third = WebSocketEnd(browser.session, browser._wake, 100, probing=True)
    browser.end.lost()
    assert not third.over
    assert WebSocketEnd(browser.session, browser._wake, 100, probing=True).over


def test_nothing_is_read_while_too_much_waits() -> None:
    """It is woken when there is room."""
    later = []

    class Busy(Echo):
        def when_room(self, call):  # type: ignore[no-untyped-def]
            later.append(call)

    browser = Browser()
    session = EngineSession(Busy(), browser.session.heartbeat.options, browser.clock, websocket=True)
    end = OpenedWebSocket(session, 100, False).begin(browser._wake)
    end.receive(bytes(browser.frames.send_data("4x", True)))
    assert end.paused
    woken = browser.woken
    later.pop()()
    assert not end.paused
    assert browser.woken > woken
