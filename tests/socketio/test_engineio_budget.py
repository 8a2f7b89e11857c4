"""What the clients of Socket.IO have the server keep, all of them together."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.engine_bench import Bench, say

from hakgal_hybrid.broker.budget import Budget
from hakgal_hybrid.broker.engineio.held import HeldPost
from hakgal_hybrid.broker.engineio.packets import Framing, ProtocolError, decode_payload
from hakgal_hybrid.broker.engineio.session import EngineSession
from hakgal_hybrid.broker.engineio.websocket import WebSocketEnd
from hakgal_hybrid.broker.states import EngineState
from hakgal_hybrid.commands.socketio_session import ATTACHMENTS_S

MESSAGE = '2["say","{}"]'


def nothing() -> None:
    """Nobody waits."""


def masked(data: bytes, *, final: bool) -> bytes:
    """A frame of a client: a text, or the first part of one."""
    return bytes((0x81 if final else 0x01, 254)) + len(data).to_bytes(2, "big") + bytes(4) + data


def test_bytes_are_taken_and_freed() -> None:
    """Never more than the limit."""
    budget = Budget(10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(3)
    assert budget.take(3)
    assert budget.used == 10


def test_messages_that_wait_count_for_all(caplog: pytest.LogCaptureFixture) -> None:
    """The client whose message has no room is closed; what was taken is carried out, and frees its room."""
    bench = Bench(budget=Budget(2000))
    patient, unlucky = bench.session(), bench.session()
    for session in (patient, unlucky):
        say(session, "0")
    bench.run()
    say(patient, MESSAGE.format("x" * 1500))
    with pytest.raises(ProtocolError):
        say(unlucky, MESSAGE.format("y" * 600))
    assert unlucky.state is EngineState.ENDED
    assert bench.node.refusals.snapshot() == {"too_many_requests_waiting": 1}
    assert "more than HYBRID_QUEUE_BYTES" in caplog.text
    bench.run()
    assert bench.got == ["x" * 1500, "transport error"]
    assert bench.budget.used == 0


def test_attachments_count_until_their_packet_is_carried_out() -> None:
    """Also if the last one never comes."""
    bench = Bench(budget=Budget(2000))
    session = bench.session()
    say(session, "0", '52-["say",{"_placeholder":true,"num":1}]', b"x" * 900)
    assert bench.budget.used > 900
    say(session, b"y" * 900)
    bench.run()
    assert (bench.got, bench.budget.used) == ([b"y" * 900], 0)
    say(session, '52-["say",{"_placeholder":true,"num":1}]', b"x" * 900)
    bench.wait(ATTACHMENTS_S)
    bench.run()
    assert session.state is EngineState.ENDED
    assert bench.budget.used == 0


@pytest.mark.parametrize("probing", [False, True])
def test_parts_of_a_message_count(probing: bool) -> None:
    """Until the message is complete, or its WebSocket is gone; the one that has no room is closed."""
    bench = Bench(budget=Budget(2000))
    ends = []
    for _ in range(2):
        session = bench.session(websocket=not probing)
        ends.append(WebSocketEnd(session, nothing, 10_000, probing=probing, clock=bench.clock))
    first, second = ends
    first.receive(masked(b'42["say","' + b"x" * 1500, final=False))
    assert bench.budget.used == 1510
    second.receive(masked(b'42["say","' + b"x" * 1500, final=False))
    assert second.over
    assert second.take().endswith(b"\x88\x02\x03\xf3")
    first.lost()
    bench.run()
    assert bench.budget.used == 0


def test_a_message_in_parts_is_complete() -> None:
    """It counts once more while it waits, and no more when it was carried out."""
    bench = Bench(budget=Budget(5000))
    end = WebSocketEnd(bench.session(), nothing, 10_000, probing=False, clock=bench.clock)
    end.receive(masked(b"40", final=True).replace(b"\x81\xfe\x00\x02", b"\x81\x82"))
    end.receive(masked(b'42["say","' + b"x" * 1500, final=False))
    end.receive(bytes((0x80, 0x82)) + bytes(4) + b'"]')
    assert bench.budget.used == 1512  # and the packet that asks for the namespace: "0", and the message's digit less
    bench.run()
    assert (bench.got, bench.budget.used) == (["x" * 1500], 0)


def test_answers_that_nobody_fetches_count() -> None:
    """The client is closed whose answer has no room; what is fetched, or will not be any more, frees it."""
    bench = Bench(budget=Budget(3000))
    bench.socketio.on("echo")(lambda value: value)
    session, unlucky = bench.session(), bench.session()
    for one in (session, unlucky):
        say(one, "0", '21["echo","' + "x" * 900 + '"]')
        bench.run()
    assert bench.budget.used == 2 * 904
    say(unlucky, '22["echo","' + "x" * 300 + '"]')
    bench.run()
    assert unlucky.state is EngineState.WEBSOCKET
    assert bench.budget.used == 2 * 904 + 304
    say(unlucky, '23["echo","' + "x" * 500 + '"]')  # which itself has room
    bench.run()
    assert unlucky.state is EngineState.ENDED
    assert bench.budget.used == 904
    assert "x" * 900 in session.blocks(Framing.WEBSOCKET).decode(errors="replace")
    assert bench.budget.used == 0


PIECES: tuple[str | bytes, ...] = (
    "0", "0/a,", "1", "1/a,", '2["say",1]', '2/a,["say",2]', '25["say",{"x":[]}]',
    '51-["say",{"_placeholder":true,"num":0}]',
    '52-["say",{"_placeholder":true,"num":5}]', b"x", b"y" * 300, "30[]", '2["say","' + "z" * 20_000 + '"]', "2{}",
    '2["say","' + "z" * 20_000, "4", "", "0[]", '2/b,["say",1]', "61-7[1]")


@pytest.mark.parametrize("seed", range(60))
def test_whatever_clients_send_everything_is_freed(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """In any order, with any fate: the only error is that of a bad packet, and in the end nothing is kept."""
    chance = random.Random(seed)
    bench = Bench(budget=Budget(50_000))
    sessions: list[EngineSession] = [bench.session(websocket=chance.random() < 0.5) for _ in range(3)]
    for _ in range(200):
        session: Any = chance.choice(sessions)
        what = chance.random()
        if what < 0.8:
            try:
                say(session, chance.choice(PIECES[:6] if chance.random() < 0.8 else PIECES))
            except ProtocolError:
                assert session.over
        elif what < 0.9:
            bench.run()
        elif what < 0.98:
            with session.lock:
                session.blocks(Framing.WEBSOCKET if session.transport == "websocket" else Framing.POLLING)
        else:
            session.close("transport close")
        if session.over and chance.random() < 0.5:
            sessions[sessions.index(session)] = bench.session()
        assert 0 <= bench.budget.used <= 50_000
    for session in sessions:
        session.close("transport close")
    bench.run()
    assert bench.budget.used == 0
    assert not [record for record in caplog.records if record.exc_info]


def test_the_rest_of_a_request_counts_until_it_is_read() -> None:
    """A request that brings more than may wait keeps its body; one for which there is no room is refused."""
    body = "\x1e".join(["4" + MESSAGE.format("x")] * 200).encode()
    bench = Bench(budget=Budget(2 * len(body)))
    first, second = bench.session(websocket=False), bench.session(websocket=False)
    for session in (first, second):
        say(session, "0")
    bench.run()
    held = HeldPost(first, decode_payload(body), len(body))
    assert held.take() is None
    assert bench.budget.used > len(body)
    with pytest.raises(ProtocolError):
        HeldPost(second, decode_payload(body), len(body))
    while (answer := held.take()) is None:
        bench.run()
    second.fail("transport error")
    bench.run()
    assert answer.body == b"ok"
    assert bench.got.count("x") >= 200
    assert bench.budget.used == 0
