"""Witnesses of several processes find what is missing, repeated or changed, or their figures would prove nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.accounting import Account, Manifest
from support.witnesses import Witnesses

from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.broker.sse import encode_event

pytestmark = pytest.mark.once

GENERATION = 1755412806000


def at(number: int) -> str:
    return f"{GENERATION}-{number}"


def opened(number: int) -> bytes:
    return encode_event("{}", event="hybrid_open", event_id=at(number))


def event(number: int, data: int | None = None) -> bytes:
    return encode_event(str(number if data is None else data), event="e", event_id=at(number))


GAP = encode_event(f'{{"missed":null,"reason":"lost","resume_from":"{at(3)}"}}', event="hybrid_gap", event_id=at(3))


@contextmanager
def serving(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Give each connection in turn one of the answers, and end all but the last; yield the port and the requests."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve() -> None:
            for number, answer in enumerate(answers):
                connection, _ = listener.accept()
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + answer)
                if number < len(answers) - 1:
                    connection.close()
                else:
                    kept.append(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            thread.join(30)
            for connection in kept:
                connection.close()


def judged(folder: Path, *answers: bytes) -> tuple[list[Account], list[bytes]]:
    """Return the account of a client that gets these answers, of five events."""
    manifest = Manifest()
    manifest.begin(GENERATION)
    for number in range(1, 6):
        manifest.add(at(number), Event.create("e", (number,), Target.create()))
    witnesses = Witnesses(folder)
    try:
        with serving(*answers) as (port, asked):
            witnesses.connect(1, [port], 10)
            witnesses.wait_for(at(5), 10)
            return list(witnesses.account(manifest, at(5))), asked
    finally:
        witnesses.stop()


def test_everything_once_over_two_streams(tmp_path: Path) -> None:
    """A client that comes back with its last id, and goes on there, has everything."""
    [account], asked = judged(tmp_path, opened(0) + event(1) + event(2) + event(3)[:20],
                              opened(2) + event(3) + event(4) + event(5))
    assert (account.delivered, account.unknown) == (5, 0)
    assert f"Last-Event-ID: {at(2)}\r\n".encode() in asked[1]


def test_gap_stands_for_what_is_missing(tmp_path: Path) -> None:
    """What a gap covers is counted as missing."""
    [account], _ = judged(tmp_path, opened(0) + event(1) + GAP + event(4) + event(5))
    assert (account.delivered, account.unknown) == (3, 1)
    assert [(sent.id, reason) for sent, reason in account.covered] == [(at(2), "lost"), (at(3), "lost")]


@pytest.mark.parametrize("answers", [
    pytest.param([opened(0) + event(1) + event(2) + event(4) + event(5)], id="one is missing"),
    pytest.param([opened(0) + event(1) + event(2), opened(2) + event(4) + event(5)], id="one between two streams"),
    pytest.param([opened(0) + b"".join(map(event, (1, 2, 2, 3, 4, 5)))], id="one comes twice"),
    pytest.param([opened(0) + b"".join(map(event, (1, 2, 3))), opened(3) + b"".join(map(event, (3, 4, 5)))],
                 id="one comes on both streams"),
    pytest.param([opened(0) + b"".join(map(event, (1, 3, 2, 4, 5)))], id="two are out of order"),
    pytest.param([opened(0) + event(1) + event(2, 3) + event(3, 2) + event(4) + event(5)], id="two are exchanged"),
    pytest.param([opened(0) + event(1) + event(2, 9) + event(3) + event(4) + event(5)], id="one is another"),
    pytest.param([opened(2) + event(3), opened(4) + event(5)], id="the second stream begins too late"),
])
def test_what_is_wrong_is_found(answers: list[bytes], tmp_path: Path) -> None:
    """Nothing may be missing, repeated, out of order or another event."""
    with pytest.raises(AssertionError, match=at(0)[:-1]):
        judged(tmp_path, *answers)
