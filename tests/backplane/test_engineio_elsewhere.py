"""Sessions of clients of Socket.IO belong to one process; another one says so."""

from __future__ import annotations

import json

from support.redis_server import RedisServer
from support.shared_apps import Host

PATH = "/socket.io/?EIO=4&transport=polling"


def test_session_of_another_process_is_named_as_such(redis_server: RedisServer) -> None:
    """A poll that reaches a process that does not have its session is answered with what to do; a false one is not."""
    here, there = (Host(redis_server, HYBRID_ENABLE_WS_SPECIAL=True) for _ in range(2))
    try:
        sid = json.loads(there.flask.test_client().get(PATH).get_data(as_text=True)[1:])["sid"]
        answer = here.flask.test_client().get(f"{PATH}&sid={sid}")
        assert answer.status_code == 400
        assert answer.get_json()["code"] == 1
        assert "sticky" in answer.get_json()["message"]
        unknown = here.flask.test_client().get(f"{PATH}&sid=abc")
        assert unknown.get_json() == {"code": 1, "message": "Session ID unknown"}
    finally:
        here.stop()
        there.stop()
