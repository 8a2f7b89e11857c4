"""The server with the loop of Windows, and without what Windows does not have. It is no Windows."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from typing import Any

import pytest
from support.hosts import REPOSITORY, free_port
from support.needs import missing

from hakgal_hybrid import ConfigurationError
from hakgal_hybrid.server.fanout import disconnects
from hakgal_hybrid.server.listening import listening_sockets

HOOK = REPOSITORY / "tests" / "support" / "as_on_windows"


@pytest.mark.once
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_tests_of_the_server_pass() -> None:
    """With libuv, and with epoll, fork, Unix sockets, SO_REUSEPORT and TCP_USER_TIMEOUT hidden, in every process."""
    if importlib.util.find_spec("_cffi_backend") is None:
        missing("gevent needs cffi for libuv")
    path = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/server", "-m", "not long and not quiet"], cwd=REPOSITORY,
        env={**os.environ, "GEVENT_LOOP": "libuv", "PYTHONPATH": path}, check=False, capture_output=True, text=True,
        timeout=1400)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) > 200


class Watcher:
    """A watcher that notes what is done with it."""

    def __init__(self, did: list[str], fails: bool) -> None:
        self.did, self._fails = did, fails

    def start(self, *_: Any) -> None:
        self.did.append("start")
        if self._fails:
            raise ValueError("libuv says no")

    def stop(self) -> None:
        self.did.append("stop")

    def close(self) -> None:
        self.did.append("close")


class Loop:
    """A loop whose watchers note what is done with them."""

    def __init__(self, *, fails: bool = False) -> None:
        self.did: list[str] = []
        self._fails = fails

    def io(self, fileno: int, events: int) -> Watcher:
        return Watcher(self.did, self._fails)


def test_a_socket_that_cannot_be_watched_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its watcher is stopped and closed at once: whoever closes the socket next must find it unwatched."""
    monkeypatch.delattr(disconnects.select, "epoll", raising=False)
    loop = Loop(fails=True)
    watcher = disconnects.DisconnectWatcher(loop, lambda fileno: None)
    with pytest.raises(ValueError, match="libuv"):
        watcher.watch(7)
    assert loop.did == ["start", "stop", "close"]
    watcher.close()
    assert loop.did == ["start", "stop", "close"]


def test_watching_ends_in_the_turn_in_which_it_is_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """``forget`` stops and closes the watcher before it returns, without waiting for the loop."""
    monkeypatch.delattr(disconnects.select, "epoll", raising=False)
    loop = Loop()
    watcher = disconnects.DisconnectWatcher(loop, lambda fileno: None)
    watcher.watch(7)
    watcher.forget(7)
    assert loop.did == ["start", "stop", "close"]
    watcher.watch(7)  # the next socket may have the number
    watcher.close()
    assert loop.did == ["start", "stop", "close"] * 2


#: Prints which timers a hundred turns of the writer ask for, and in how many of them the loop looked at a socket.
TURNS = """
import json, socket
import gevent
from hakgal_hybrid.server.fanout.pacing import Pace
loop = gevent.get_hub().loop
timer, asked, read, ours, theirs = loop.timer, [], [], *socket.socketpair()
loop.timer = lambda after, *more, **options: asked.append(after) or timer(after, *more, **options)
watcher = loop.io(ours.fileno(), 1)
watcher.start(lambda: read.append(ours.recv(9)))
pace = Pace(loop)
for _ in range(100):
    theirs.send(b"x")
    pace.begin()
    pace.sent(1000)
print(json.dumps([type(loop).__module__, asked, len(read)]))
"""


@pytest.mark.once
def test_the_pause_under_libuv_waits_for_no_clock() -> None:
    """A turn asks for a zero timer, which is called after the next poll; another one would take a tick of the clock."""
    if importlib.util.find_spec("_cffi_backend") is None:
        missing("gevent needs cffi for libuv")
    done = subprocess.run([sys.executable, "-c", TURNS], env={**os.environ, "GEVENT_LOOP": "libuv"}, cwd=REPOSITORY,
                          check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == ["gevent.libuv.loop", [0] * 100, 100]


def test_an_address_in_use_is_tried_again() -> None:
    """A server that is started again waits for the connections of the one before; not for ever, and not for others."""
    slept: list[float] = []
    with socket.socket() as before:
        before.bind(("127.0.0.1", 0))
        before.listen()
        port = before.getsockname()[1]

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                before.close()

        [sock] = listening_sockets("127.0.0.1", port, patience_s=5, sleep=sleep)
        sock.close()
    assert len(slept) == 3
    with socket.socket() as before:
        before.bind(("127.0.0.1", 0))
        before.listen()
        slept.clear()
        with pytest.raises(ConfigurationError, match="in use"):
            listening_sockets("127.0.0.1", before.getsockname()[1], patience_s=5, sleep=slept.append)
        assert sum(slept) == 5


def test_other_errors_of_an_address_are_not_tried_again() -> None:
    """An address that this machine does not have is refused at once."""
    slept: list[float] = []
    with pytest.raises(ConfigurationError, match="cannot listen") as raised:
        listening_sockets("192.0.2.1", free_port(), patience_s=5, sleep=slept.append)
    assert slept == []
    assert os.strerror(errno.EADDRNOTAVAIL) in str(raised.value)
