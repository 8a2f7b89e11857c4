"""What was emitted before a change of clients or rooms is for those from before it, although it comes by Redis."""

from __future__ import annotations

from support.shared_apps import Host, until


def test_last_words_reach_a_client_that_is_then_disconnected(hosts: tuple[Host, Host]) -> None:
    """What a host emits to a client and then ends it comes before ``hybrid_disconnect``, and nothing after."""
    host = hosts[0]
    with host.open() as stream:
        host.transport.emit("before", to=stream.open["sid"])
        host.server.disconnect(stream.open["sid"])
        host.transport.emit("after")
        assert [stream.next().event for _ in range(2)] == ["before", "hybrid_disconnect"]


def test_room_that_is_left_still_gives_what_was_emitted_before(hosts: tuple[Host, Host]) -> None:
    """Leaving a room and joining it take effect among the events in the order of the calls."""
    host = hosts[0]
    with host.open() as stream:
        sid = stream.open["sid"]
        for number in range(20):
            host.transport.emit("early", number, to="room")
            host.server.enter_room(sid, "room")
            assert "room" in host.server.rooms(sid)
            host.transport.emit("mine", number, to="room")
            host.server.leave_room(sid, "room")
            host.transport.emit("late", number, to="room")
        host.transport.emit("end")
        got = []
        while (message := stream.next()).event != "end":
            got.append((message.event, message.data))
        assert got == [("mine", str(number)) for number in range(20)]


def test_rooms_of_clients_of_another_process(hosts: tuple[Host, Host]) -> None:
    """A host puts clients of another process into rooms, takes them out, and ends them, in the order of its calls."""
    here, there = hosts
    with there.open() as stream:
        sid = stream.open["sid"]
        here.server.enter_room(sid, "room")
        here.transport.emit("one", to="room")
        here.server.leave_room(sid, "room")
        here.transport.emit("two", to="room")
        here.server.enter_room(sid, "room")
        here.server.close_room("room")
        here.transport.emit("three", to="room")
        here.transport.emit("four", to=sid)
        here.server.disconnect(sid)
        here.transport.emit("five")
        assert [stream.next().event for _ in range(3)] == ["one", "four", "hybrid_disconnect"]
    until(lambda: not there.transport.node.hub.clients())
