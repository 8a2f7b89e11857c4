"""What only the process of a client knows of it."""

from __future__ import annotations

import os

import pytest
from support.shared_apps import Host, until

from hakgal_hybrid import HybridError, NotHere


def test_another_process_is_named(hosts: tuple[Host, Host]) -> None:
    """Who asks for rooms, session or environment of a client of another process is told which one has it."""
    here, there = hosts
    with here.open(), there.open() as stream:
        sid = stream.open["sid"]
        until(lambda: here.status()["backplane"]["processes"] == 2)
        for ask in (here.server.rooms, here.server.get_session, here.server.get_environ, here.server.transport):
            with pytest.raises(NotHere) as raised:
                ask(sid)
            assert isinstance(raised.value, (KeyError, HybridError))
            assert (raised.value.sid, raised.value.process, raised.value.pid) == (sid, sid[:16], os.getpid())
            assert "another process" in str(raised.value)
        with pytest.raises(NotHere), here.server.session(sid):
            pass
        assert sid in there.server.rooms(sid)
        assert there.server.get_session(sid) == {}


def test_process_that_has_ended_has_no_clients(hosts: tuple[Host, Host]) -> None:
    """A client of a process that is gone is one that is not connected."""
    here, there = hosts
    with here.open(), there.open() as stream:
        sid = stream.open["sid"]
        there.stop()
        until(lambda: here.status()["backplane"]["processes"] == 1)
        assert here.server.rooms(sid) == []
        assert here.server.get_environ(sid) is None
        with pytest.raises(KeyError) as raised:
            here.server.get_session(sid)
        assert not isinstance(raised.value, NotHere)
