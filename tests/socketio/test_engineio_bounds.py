"""What a client of Socket.IO may take: time, memory, namespaces, messages a second, sessions."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from support.engine_bench import Bench, say
from support.servers import wait_until

from hakgal_hybrid.broker.client import MAX_SESSION_CLIENTS
from hakgal_hybrid.broker.engineio.packets import Packet, PacketType, ProtocolError
from hakgal_hybrid.broker.engineio.socketio_reader import PARSE_AT_ONCE
from hakgal_hybrid.broker.states import EngineState
from hakgal_hybrid.commands.socketio_admission import Admission
from hakgal_hybrid.commands.socketio_session import ATTACHMENTS_S, CONNECT_S
from hakgal_hybrid.errors import AccessDenied

# -- time --------------------------------------------------------------------------------------------------------


def test_a_session_without_a_client_is_closed() -> None:
    """Ten seconds after its beginning; a namespace that was asked for is enough."""
    bench = Bench()
    idle, used = bench.session(), bench.session()
    say(used, "0")
    bench.wait(CONNECT_S - 0.1)
    assert idle.state is EngineState.WEBSOCKET
    bench.wait(0.2)
    assert idle.state is EngineState.ENDED
    assert used.state is EngineState.WEBSOCKET
    assert bench.counted().ended == {"transport error": 1}


def test_a_client_that_still_has_to_show_the_key_has_no_more_time() -> None:
    """To have asked for a namespace is not enough for it."""
    bench = Bench()
    ended: list[bool] = []
    session = bench.session(Admission(AccessDenied("no key", code="key_required"), provisional=True,
                                      on_end=lambda: ended.append(True)))
    say(session, "0")
    bench.run()
    bench.wait(CONNECT_S)
    assert session.state is EngineState.ENDED
    assert ended == [True]


def test_attachments_have_a_limited_time() -> None:
    """It begins with their packet, whatever comes meanwhile; a packet that is complete has no more deadline."""
    bench = Bench()
    session = bench.session()
    say(session, "0", '52-["say",{"_placeholder":true,"num":0}]', b"1", b"2")
    bench.wait(20)
    say(session, '52-["say",{"_placeholder":true,"num":1}]')
    bench.wait(ATTACHMENTS_S - 1)
    say(session, b"3")
    session.receive(Packet(PacketType.PONG))
    assert session.state is EngineState.WEBSOCKET
    assert len(bench.timers) == 1
    bench.wait(1)
    assert session.state is EngineState.ENDED
    bench.run()
    assert bench.got == [b"1", "transport error"]
    bench = Bench()
    session = bench.session()
    say(session, "0", '51-["say",{"_placeholder":true,"num":0}]', b"1")
    bench.wait(ATTACHMENTS_S)
    assert session.state is EngineState.WEBSOCKET
    assert bench.timers == []


# -- numbers -----------------------------------------------------------------------------------------------------


def test_a_session_has_a_limited_number_of_namespaces() -> None:
    """One more is refused in the answer to ``CONNECT``; the others go on, and can be left and entered again."""
    bench = Bench()
    sid = f"&sid={json.loads(bench.ask()[1][1:])['sid']}"
    for first in range(0, MAX_SESSION_CLIENTS + 1, 32):
        names = range(first, min(first + 32, MAX_SESSION_CLIENTS + 1))
        assert bench.ask("POST", sid, "\x1e".join(f"40/{name}," for name in names)) == (200, "ok")
        packets: list[str] = []
        while len(packets) < len(names):
            packets += bench.ask(query=sid)[1].split("\x1e")
    assert packets[-1].startswith(f"44/{MAX_SESSION_CLIENTS},")
    assert json.loads(packets[-1].partition(",")[2])["data"]["code"] == "too_many_clients"
    assert bench.ask("POST", sid, "41/7,") == (200, "ok")
    wait_until(lambda: len(bench.node.hub.clients()) < MAX_SESSION_CLIENTS, what="the client is gone")
    bench.socketio.emit("news", namespace="/8")
    assert bench.ask(query=sid)[1] == '42/8,["news"]'
    assert bench.ask("POST", sid, "40/7,") == (200, "ok")
    assert bench.ask(query=sid)[1].startswith("40/7,")


def test_sessions_are_streams() -> None:
    """They count for both limits; what ends gives its place back."""
    bench = Bench(HYBRID_MAX_STREAMS=3, HYBRID_MAX_STREAMS_PER_ADDRESS=2, HYBRID_ACCESS="app")

    def opened(address: str) -> tuple[int, Any]:
        status, body = bench.ask(REMOTE_ADDR=address)
        return status, json.loads(body[status == 200:])

    first = opened("192.0.2.1")[1]["sid"]
    assert opened("192.0.2.1")[0] == 200
    status, problem = opened("192.0.2.1")
    assert (status, problem["code"], problem["message"].partition(":")[0]) == (403, 4, "too_many_streams")
    assert opened("192.0.2.2")[0] == 200
    assert opened("192.0.2.3")[0] == 403
    assert bench.node.hub.sessions.open == 3
    assert bench.ask("POST", f"&sid={first}", "1") == (200, "ok")
    wait_until(lambda: bench.node.hub.sessions.open == 2, what="the session ends")
    assert opened("192.0.2.3")[0] == 200
    assert bench.counted().refused == {"too_many_streams": 2}


def test_messages_that_come_too_fast_wait() -> None:
    """They are carried out in order, as HYBRID_COMMAND_RATE lets them; how often they had to wait is counted."""
    bench = Bench()
    session = bench.session()
    say(session, "0", '2["say",1]', '2["say",2]', '2["say",3]')
    bench.waits = [0.0, 0.0, 0.5, 0.25]
    bench.run()
    assert bench.got == [1]
    say(session, '2["say",4]')
    assert bench.tasks == []
    bench.wait(0.4)
    assert bench.tasks == []
    bench.wait(0.1)
    bench.run()
    assert bench.got == [1]
    bench.wait(0.25)
    bench.run()
    assert bench.got == [1, 2, 3, 4]
    assert bench.counted().delayed == 2


def test_the_rate_is_that_of_commands() -> None:
    """It is HYBRID_COMMAND_RATE, of which so many may come at once."""
    bench = Bench(HYBRID_COMMAND_RATE=20)
    sid = f"&sid={json.loads(bench.ask()[1][1:])['sid']}"
    assert bench.ask("POST", sid, "\x1e".join(["40", *(f'42["say",{number}]' for number in range(22))])) == (200, "ok")
    wait_until(lambda: bench.got == list(range(22)), what="all are carried out")
    assert bench.counted().delayed > 0


# -- size --------------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A body is answered with 413; each is counted, and the first one is logged with its size and the limit."""
    bench = Bench(max_http_buffer_size=100)
    for _ in range(2):
        sid = f"&sid={json.loads(bench.ask()[1][1:])['sid']}"
        assert bench.ask("POST", sid, "4" * 101)[0] == 413
    assert bench.counted().oversized == 2
    assert [record.message for record in caplog.records if "max_http_buffer_size" in record.message] == [
        "a client of Socket.IO at 127.0.0.1 has sent 101 bytes, of 100 at most (max_http_buffer_size); the next ones "
        "are counted only"]


def test_clients_are_not_told_to_send_more_than_the_server_takes(caplog: pytest.LogCaptureFixture) -> None:
    """``max_http_buffer_size`` is at most HYBRID_MAX_BODY_BYTES; where it is not, a warning says which one counts."""
    bench = Bench(max_http_buffer_size=2000, HYBRID_MAX_BODY_BYTES=1000)
    assert json.loads(bench.ask()[1][1:])["maxPayload"] == 1000
    assert "max_http_buffer_size=2000 is more than HYBRID_MAX_BODY_BYTES (1000), which counts" in caplog.text
    bench = Bench(max_http_buffer_size=1000, HYBRID_MAX_BODY_BYTES=1000)
    assert json.loads(bench.ask()[1][1:])["maxPayload"] == 1000
    assert caplog.text.count("which counts") == 1


class Watched:
    """JSON that knows in which thread it was parsed."""

    dumps = staticmethod(json.dumps)

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def loads(self, text: str, **options: Any) -> Any:
        self.threads.append(threading.current_thread())
        return json.loads(text, **options)


def test_a_large_message_is_not_parsed_by_the_thread_that_brings_it() -> None:
    """Other sessions would wait for it. Small ones are, so that a bad one is refused at once."""
    parser = Watched()
    bench = Bench(json=parser)
    session = bench.session()
    say(session, "0", '2["say",1]', f'2["say","{"x" * PARSE_AT_ONCE}"]', '2["say",2]')
    assert len(parser.threads) == 2
    worker = threading.Thread(target=bench.run)
    worker.start()
    worker.join()
    assert parser.threads[2:] == [worker]
    assert bench.got == [1, "x" * PARSE_AT_ONCE, 2]


@pytest.mark.parametrize("packet", ['2{"say":"%s"}', '2["say","%s"', '3["%s"]', '0["%s"]'])
def test_a_large_message_that_is_bad_ends_the_session(packet: str) -> None:
    """What came before it is carried out, what came after it is not."""
    bench = Bench()
    session = bench.session()
    namespace = packet.replace("0[", "0/other,[")
    say(session, "0", '2["say",1]', namespace % ("x" * PARSE_AT_ONCE), '2["say",2]')
    bench.run()
    assert session.state is EngineState.ENDED
    assert bench.got == [1, "transport error"]


def test_attachments_count_for_what_waits() -> None:
    """A packet takes the room of its attachments until it is carried out."""
    bench = Bench(max_http_buffer_size=1000)
    session = bench.session()
    room: list[bool] = []
    say(session, "0")
    for _ in range(2):
        say(session, '51-["say",{"_placeholder":true,"num":0}]', b"x" * 900)
    session.upper.when_room(lambda: room.append(True))
    assert room == []
    bench.run()
    assert room == [True]


# -- servers -----------------------------------------------------------------------------------------------------


def test_several_processes_are_refused() -> None:
    """Each would know a part of the sessions only; the client is told so, and does not try for ever."""
    bench = Bench()
    environ = {"wsgi.multiprocess": True, "wsgi.multithread": True}
    status, body = bench.ask(**environ)
    problem = json.loads(body)
    assert (status, problem["code"], problem["message"].partition(":")[0]) == (400, 4, "several_processes")
    assert bench.counted().refused == {"several_processes": 1}


@pytest.mark.parametrize("run_between", [False, True])
def test_a_namespace_can_be_left_and_entered_at_once(run_between: bool) -> None:
    """Whether or not the first steps have been carried out when the next ones come; once in, it cannot be entered."""
    bench = Bench()
    session = bench.session()
    say(session, "0", "1", "0", "1", "0")
    if run_between:
        bench.run()
    say(session, '2["say",1]')
    bench.run()
    assert bench.got == ["client disconnect", "client disconnect", 1]
    with pytest.raises(ProtocolError):
        say(session, "0")


def test_a_websocket_whose_upgrade_was_taken_away_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused as by Engine.IO, counted by itself, and a warning says what a proxy does."""
    bench = Bench()
    query = "/socket.io/?EIO=4&transport=websocket"
    answer = bench.app.test_client().get(query, environ_overrides={"werkzeug.socket": threading.local()})
    assert (answer.status_code, answer.get_json()["code"]) == (400, 3)
    assert bench.counted().refused["no_upgrade_header"] == 1
    assert any("takes it away" in record.message for record in caplog.records)


def test_a_session_that_stays_with_polling_is_counted() -> None:
    """After half a minute, if its client was told that it may change over, and until it does."""
    bench = Bench()
    session = bench.session(websocket=False)
    bench.node.engine_counters.sessions = lambda: [session]
    session.handshake(upgrades=True)
    bench.clock.now += 29
    assert bench.counted().not_upgraded == 0
    bench.clock.now += 1
    counted = bench.counted()
    assert (counted.polling, counted.websocket, counted.not_upgraded) == (1, 0, 1)
    session.upgrade.probe()
    session.upgrade.complete(lambda: None)
    counted = bench.counted()
    assert (counted.polling, counted.websocket, counted.not_upgraded) == (0, 1, 0)


def test_a_client_whose_messages_wait_does_not_time_out() -> None:
    """Its pong stands behind what is not read; when all was carried out it has its time again."""
    bench = Bench()
    session = bench.session()
    say(session, "0")
    bench.run()
    say(session, *['2["say",1]'] * 70)
    session.frames()
    for _ in range(10):
        bench.clock.now += 20
        session.tick()
        session.frames()
    assert session.state is EngineState.WEBSOCKET
    bench.run()
    for _ in range(10):
        bench.clock.now += 20
        session.tick()
        session.frames()
    assert session.state is EngineState.ENDED
