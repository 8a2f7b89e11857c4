"""The host: hybridize, HybridTransport(api), the import hook; then the example host end to end, and its rollback."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import statistics
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wrapt
from flask import Flask
from support.hosts import (
    EXEC,
    EXEC_MODULE,
    SRC,
    VARIANTS,
    Running,
    Stream,
    alive,
    call,
    example_host,
    free_port,
    report,
    serving,
    until,
)
from support.hosts import running as server_process

import hakgal_hybrid
from hakgal_hybrid import ConfigurationError, HybridTransport, hybridize, prepare, signals
from hakgal_hybrid.host import native_threads
from hakgal_hybrid.host.hybridize import hook
from hakgal_hybrid.monitoring.patching import eventlet_patched
from hakgal_hybrid.socketio import SocketIO as Facade

flask_socketio = pytest.importorskip("flask_socketio", reason="the hosts are written against Flask-SocketIO")

OUR_RULES = {"/api/events/stream", "/api/events/emit", "/api/governor/control",
             "/api/governor/control/<id>", "/api/hybrid/status"}
needs_eventlet = pytest.mark.skipif(importlib.util.find_spec("eventlet") is None, reason="eventlet is not installed")

#: A host of the contract's shape that is small enough to read here.
TOY_ADAPTERS = '''
from flask import request
from flask_socketio import SocketIO, emit, join_room, leave_room

class Adapter:
    def __init__(self, socketio):
        self.socketio = socketio
        self.gone = []

def create_websocket_adapter(app, fact_repository, reasoning_engine):
    socketio = SocketIO(app, cors_allowed_origins="*", async_mode="eventlet", logger=False, ping_timeout=60)
    adapter = Adapter(socketio)

    @socketio.on("connect")
    def on_connect(auth=None):
        emit("welcome", {"sid": request.sid, "arg": request.args.get("name")})

    @socketio.on("disconnect")
    def on_disconnect(reason=None):
        adapter.gone.append(request.sid)

    @socketio.on("join")
    def on_join(room):
        join_room(room)
        emit("joined", room)

    @socketio.on("leave")
    def on_leave(room):
        leave_room(room)
        return "left"

    @socketio.on("say")
    def on_say(room, text):
        emit("said", text, to=room)
        emit("overheard", text, broadcast=True, include_self=False)

    return adapter, socketio
'''
TOY_HOST = '''
import threading
from flask import Flask, jsonify
from toy_adapters import create_websocket_adapter

class Monitor:
    def __init__(self):
        self.socketio = None
        self.started = 0

    def start_monitoring(self):
        self.started += 1

_monitor = Monitor()

def get_system_monitor(socketio=None):
    if socketio is not None:
        _monitor.socketio = socketio
    return _monitor

class Agent:
    def __init__(self, socketio=None):
        self.socketio = socketio

class HexagonalAPI:
    """A toy host."""

    def __init__(self, use_legacy=True, enable_websocket=True, enable_governor=True, *, owns=None, late=None,
                 fails=False):
        self.given = (use_legacy, enable_websocket, enable_governor)
        self.app = Flask(__name__)
        self.websocket_adapter = self.socketio = self.system_monitor = None
        if enable_websocket:
            self.websocket_adapter, self.socketio = create_websocket_adapter(self.app, None, None)
            self.system_monitor = get_system_monitor(self.socketio)
            self.system_monitor.start_monitoring()
        self.cursor_adapter = Agent(socketio=self.socketio)
        if late:
            self.late = __import__(late)
        if owns:
            self.app.add_url_rule(owns, "the_hosts_own", lambda: "mine")
        if fails:
            raise LookupError("the host's own error")
        self._register_websocket_routes()

    def _register_websocket_routes(self):
        if not self.socketio:
            return

        @self.socketio.on("tell")
        def on_tell(data=None):
            self.socketio.emit("told", data)
            return {"told": data}

    def run(self, host="127.0.0.1", port=5001, debug=False):
        self.socketio.run(self.app, host=host, port=port, debug=debug, use_reloader=False, log_output=False,
                          socket_timeout=120)
'''


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting from outside, and import state put back as it was."""
    for name in ("APP_PROFILE", "ENABLE_SSE", "ENABLE_CONTROL_HTTP", "ENABLE_WS_SPECIAL", "HAKGAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYBRID_RESUME_S", "0")
    touched = ("eventlet", "flask_socketio", "toy_host", "toy_adapters")

    def held() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in touched
                or name.startswith("toy_")}

    before = held()
    yield
    for name in held():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the toy host, freshly imported."""
    (tmp_path / "toy_adapters.py").write_text(TOY_ADAPTERS)
    (tmp_path / "toy_host.py").write_text(TOY_HOST)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("toy_host")


@contextmanager
def emitted(transport: HybridTransport) -> Iterator[list[tuple[str, Any]]]:
    """Gather what a transport emits: names and payloads."""
    events: list[tuple[str, Any]] = []

    def keep(sender: Flask, event: Any, event_id: str) -> None:
        events.append((event.name, json.loads(event.data)))

    with signals.event_emitted.connected_to(keep, sender=transport.app):
        yield events


# -- hybridize ---------------------------------------------------------------------------------------------------


def test_hybridize_keeps_what_others_know_the_class_by(toy: ModuleType) -> None:
    """A hybridized class has the name, module, documentation and signature of the host's, and is one of them."""
    original = toy.HexagonalAPI
    hybrid = hybridize(original)
    assert issubclass(hybrid, original)
    assert hybrid is not original
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(hybrid, name) == getattr(original, name), name
    assert inspect.signature(hybrid) == inspect.signature(original)
    assert original(enable_websocket=False).socketio is None, "the original is as it was"


@pytest.mark.parametrize("way", ["hybridize", "attach"])
def test_a_host_takes_the_facade_for_what_it_stands_in_for(toy: ModuleType, way: str) -> None:
    """``isinstance`` against Flask-SocketIO's class holds for the facade, which has nothing of that class in it."""
    real = flask_socketio.SocketIO
    if way == "hybridize":
        api = hybridize(toy.HexagonalAPI)(enable_websocket=False)
    else:
        api = toy.HexagonalAPI(enable_websocket=False)
        HybridTransport(api)
    for cls in (real, importlib.import_module("toy_adapters").SocketIO, Facade, object):
        assert isinstance(api.socketio, cls)
    assert not isinstance(api.socketio, flask_socketio.Namespace)
    assert issubclass(api.socketio.__class__, real)
    assert real not in type(api.socketio).__mro__, "type() and issubclass() tell what it is"
    assert not hasattr(api.socketio, "wsgi_server")
    assert isinstance(real(async_mode="threading"), real)
    assert not isinstance(Facade(), real), "one that stands in for nothing"
    assert not isinstance(real(async_mode="threading"), Facade)


def test_hybridize_is_a_decorator_and_idempotent(toy: ModuleType) -> None:
    """Decorating once more, as the import hook may do, changes nothing."""

    @hybridize
    class Decorated(toy.HexagonalAPI):
        """A host."""

    assert Decorated.__name__ == "Decorated"
    assert hybridize(Decorated) is Decorated
    assert isinstance(Decorated(enable_websocket=False).socketio, Facade)


def test_a_hybridized_class_below_a_hybridized_class_is_swapped_once(toy: ModuleType) -> None:
    """If the base of a host is hybridized too, the outer one decides and the host is still swapped."""
    base = hybridize(toy.HexagonalAPI)

    @hybridize
    class Derived(base):  # type: ignore[misc, valid-type]
        """A host above a host."""

    api = Derived(enable_websocket=False)
    assert isinstance(api.socketio, Facade)
    assert HybridTransport.of(api.app).mode == "sse"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((False, False, False), {}), ((False,), {"enable_websocket": False, "enable_governor": False}),
     ((), {"use_legacy": False, "enable_governor": False, "enable_websocket": False})],
    ids=["positional", "mixed", "keywords"],
)
def test_the_flag_is_found_however_it_is_given(toy: ModuleType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """``enable_websocket=False`` reaches the host as ``True``, and everything else as it was given."""
    api = hybridize(toy.HexagonalAPI)(*args, **kwargs)
    assert api.given == (False, True, False)
    assert isinstance(api.socketio, Facade)


def test_wrong_arguments_raise_the_hosts_own_error(toy: ModuleType) -> None:
    """A keyword that the host does not have is refused by the host's own signature."""
    with pytest.raises(TypeError, match="no_such_keyword"):
        hybridize(toy.HexagonalAPI)(no_such_keyword=1)


def test_the_facade_reaches_everything_the_host_builds(toy: ModuleType) -> None:
    """Adapter, monitor and agent hold the facade, and both sets of handlers are registered with it."""
    api = hybridize(toy.HexagonalAPI)(enable_websocket=False)
    transport = HybridTransport.of(api.app)
    assert api.socketio is transport.socketio is api.app.extensions["socketio"]
    assert api.websocket_adapter.socketio is api.socketio
    assert (api.system_monitor.socketio, api.system_monitor.started) == (api.socketio, 1)
    assert api.cursor_adapter.socketio is api.socketio
    assert transport.handlers.names("/") == ["join", "leave", "say", "tell"]
    assert {route.rule for route in transport.routes()} >= OUR_RULES
    assert not OUR_RULES & {rule.rule for rule in api.app.url_map.iter_rules()}


def test_functions_of_flask_socketio_reach_caller_and_rooms(toy: ModuleType) -> None:
    """``emit`` answers the caller alone, ``join_room`` lets it into a room, a broadcast spares whom it shall spare."""
    api = hybridize(toy.HexagonalAPI)(enable_websocket=False)
    with serving(api.socketio, api.app) as port, Stream(port, "?name=one") as one, Stream(port) as two:
        assert one.first("welcome") == {"sid": one.open["sid"], "arg": "one"}
        for stream in (one, two):
            answer = emit_as(port, stream, "join", "blue" if stream is one else "red")
            assert (answer.status, answer.body) == (200, {"ack": None})
        assert emit_as(port, two, "say", "blue", "hello").status == 200
        assert one.first("said") == one.first("overheard") == "hello"
        assert emit_as(port, one, "leave", "blue").body == {"ack": "left"}
        assert emit_as(port, two, "say", "blue", "anybody?").status == 200
        api.socketio.emit("end", None)
        one.first("end", lambda data: data is None)
        two.first("end", lambda data: data is None)
        assert one.names() == ["hybrid_open", "welcome", "joined", "said", "overheard", "overheard", "end"]
        assert two.names() == ["hybrid_open", "welcome", "joined", "end"]
        sids = {one.open["sid"], two.open["sid"]}
    until(lambda: set(api.websocket_adapter.gone) == sids, "both disconnect handlers have run")


def emit_as(port: int, stream: Stream, event: str, *args: Any) -> Any:
    """Post an event in the name of a stream's client."""
    body = {"event": event, "args": list(args), "sid": stream.open["sid"]}
    return call(port, "POST", "/api/events/emit", body, {"X-Hybrid-Token": stream.open["token"]})


def test_names_are_put_back_after_construction(toy: ModuleType, tmp_path: Path) -> None:
    """After the constructor every name is the original again, also in a module that was imported during it."""
    (tmp_path / "toy_late.py").write_text("import flask_socketio\nfrom flask_socketio import SocketIO as Renamed\n")
    original = flask_socketio.SocketIO
    adapters = importlib.import_module("toy_adapters")
    api = hybridize(toy.HexagonalAPI)(enable_websocket=False, late="toy_late")
    assert isinstance(api.socketio, Facade)
    assert flask_socketio.SocketIO is adapters.SocketIO is api.late.Renamed is original


def test_names_are_put_back_when_the_constructor_fails(toy: ModuleType) -> None:
    """The host's own error comes out, and the process is as before."""
    original = flask_socketio.SocketIO
    with pytest.raises(LookupError, match="the host's own error"):
        hybridize(toy.HexagonalAPI)(enable_websocket=False, fails=True)
    assert flask_socketio.SocketIO is importlib.import_module("toy_adapters").SocketIO is original


def test_a_home_grown_class_named_socketio_is_swapped_and_put_back(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is named ``SocketIO`` beside ``create_websocket_adapter`` is swapped, and comes back as itself."""
    (tmp_path / "toy_broadcaster.py").write_text("class SocketIO:\n    def __init__(self, app, **options): ...\n")
    adapters = TOY_ADAPTERS.replace("from flask_socketio import SocketIO,", "from toy_broadcaster import SocketIO\n"
                                    "from flask_socketio import")
    (tmp_path / "toy_adapters.py").write_text(adapters)
    (tmp_path / "toy_host.py").write_text(TOY_HOST)
    (tmp_path / "toy_late.py").write_text("from toy_broadcaster import SocketIO\nimport flask_socketio\n"
                                          "Real = flask_socketio.SocketIO\n")
    monkeypatch.syspath_prepend(tmp_path)
    toy, original = importlib.import_module("toy_host"), flask_socketio.SocketIO
    home, own = importlib.import_module("toy_adapters"), importlib.import_module("toy_broadcaster").SocketIO
    api = hybridize(toy.HexagonalAPI)(enable_websocket=False, late="toy_late")
    assert isinstance(api.socketio, Facade)
    assert home.SocketIO is importlib.import_module("toy_broadcaster").SocketIO is api.late.SocketIO is own
    assert flask_socketio.SocketIO is api.late.Real is original


def test_two_apps_in_one_process_are_independent(toy: ModuleType) -> None:
    """Each host has its own transport, handlers and events."""
    one, two = (hybridize(toy.HexagonalAPI)(enable_websocket=False) for _ in range(2))
    first, second = HybridTransport.of(one.app), HybridTransport.of(two.app)
    assert first is not second
    with emitted(first) as of_first, emitted(second) as of_second:
        answer = one.app.test_client().post("/api/events/emit", json={"event": "tell", "data": 1})
        assert answer.json == {"ack": {"told": 1}, "events": []}
        two.socketio.emit("own", 2)
    assert (of_first, of_second) == ([("told", 1)], [("own", 2)])


def test_a_second_transport_is_refused(toy: ModuleType) -> None:
    """An app has one transport: another one for the app, or for its host, is refused with the way out."""
    api = hybridize(toy.HexagonalAPI)(enable_websocket=False)
    plain = Flask("plain")
    HybridTransport(plain)
    for thing in (api.app, api, plain):
        with pytest.raises(ConfigurationError, match=r"already has a HybridTransport; use HybridTransport\.of"):
            HybridTransport(thing)


@pytest.mark.parametrize("way", ["hybridize", "attach"])
def test_a_host_that_owns_one_of_our_urls_is_refused(toy: ModuleType, way: str) -> None:
    """The error names the URL and the host's endpoint."""
    def build() -> Any:
        if way == "hybridize":
            return hybridize(toy.HexagonalAPI)(enable_websocket=False, owns="/api/events/stream")
        return HybridTransport(toy.HexagonalAPI(enable_websocket=False, owns="/api/events/stream"))

    with pytest.raises(ConfigurationError) as refused:
        build()
    for part in ("/api/events/stream", "'the_hosts_own'"):
        assert part in refused.value.detail


def test_rollback_leaves_a_hybridized_class_alone(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """In profile WEBSOCKET the constructor does what the host's own does, and nothing is registered."""
    monkeypatch.setenv("APP_PROFILE", "WEBSOCKET")
    api = hybridize(toy.HexagonalAPI)(enable_websocket=False)
    assert (api.given, api.socketio) == ((True, False, True), None)
    assert "hakgal_hybrid" not in api.app.extensions
    assert api.app.test_client().get("/api/events/stream").status_code == 404


@pytest.mark.parametrize("value", ["hybird"])
def test_a_wrong_profile_is_refused_at_construction(
        toy: ModuleType, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A profile that is not accepted is refused with variable, value and what would be."""
    monkeypatch.setenv("APP_PROFILE", value)
    with pytest.raises(ConfigurationError) as refused:
        hybridize(toy.HexagonalAPI)(enable_websocket=False)
    assert "APP_PROFILE" in refused.value.detail
    assert repr(value) in refused.value.detail
    assert "HYBRID, WEBSOCKET or DUAL" in refused.value.detail


# -- the host's own WebSocket in profile HYBRID ------------------------------------------------------------------


def test_a_host_that_keeps_its_websocket_is_warned_about_once(
        toy: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """With ``enable_websocket=True`` the host's own class serves; one warning and the status say so."""
    prepare()
    with caplog.at_level(logging.WARNING, "hakgal_hybrid"):
        api = hybridize(toy.HexagonalAPI)(enable_websocket=True)
    [warning] = [record for record in caplog.records if record.name.startswith("hakgal_hybrid")]
    assert "keeps its own WebSocket" in warning.getMessage()
    assert isinstance(api.socketio, flask_socketio.SocketIO)
    assert not isinstance(api.socketio, Facade)
    status = api.app.test_client().get("/api/hybrid/status").json
    assert (status["transport"], status["profile"]) == ("websocket", "HYBRID")


def test_a_real_socketio_does_without_the_blocked_eventlet(toy: ModuleType) -> None:
    """A host that insists on eventlet gets native threads where eventlet was blocked, and the names come back."""
    original = flask_socketio.SocketIO
    prepare()
    api = hybridize(toy.HexagonalAPI)(enable_websocket=True)
    assert api.socketio.async_mode == "threading"
    assert flask_socketio.SocketIO is importlib.import_module("toy_adapters").SocketIO is original


def test_a_home_grown_socketio_is_kept_when_the_host_keeps_its_websocket(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where eventlet is blocked, only Flask-SocketIO's class is replaced by one that does without."""
    broadcaster = "class SocketIO:\n    def __init__(self, app, **options): ...\n    def on(self, event):\n"
    (tmp_path / "toy_broadcaster.py").write_text(broadcaster + "        return lambda handler: handler\n")
    (tmp_path / "toy_adapters.py").write_text(TOY_ADAPTERS.replace(
        "from flask_socketio import SocketIO,", "from toy_broadcaster import SocketIO\nfrom flask_socketio import"))
    (tmp_path / "toy_host.py").write_text(TOY_HOST)
    monkeypatch.syspath_prepend(tmp_path)
    prepare()
    api = hybridize(importlib.import_module("toy_host").HexagonalAPI)(enable_websocket=True)
    assert type(api.socketio) is importlib.import_module("toy_broadcaster").SocketIO


# -- HybridTransport(api) ----------------------------------------------------------------------------------------


def test_a_finished_host_gets_everything_it_lacks(toy: ModuleType) -> None:
    """Adapter through the host's own function, facade to those who hold none, handlers registered, monitor started."""
    api = toy.HexagonalAPI(enable_websocket=False)
    monitor = toy.get_system_monitor()
    assert (api.socketio, api.cursor_adapter.socketio, monitor.started) == (None, None, 0)
    transport = HybridTransport(api)
    assert type(api.websocket_adapter) is importlib.import_module("toy_adapters").Adapter
    assert isinstance(api.socketio, Facade)
    assert api.socketio is transport.socketio is api.websocket_adapter.socketio is api.cursor_adapter.socketio
    assert api.system_monitor is monitor
    assert (monitor.socketio, monitor.started) == (api.socketio, 1)
    assert transport.handlers.names("/") == ["join", "leave", "say", "tell"]
    assert flask_socketio.SocketIO.__module__ == "flask_socketio"
    with emitted(transport) as events:
        assert api.app.test_client().post("/api/events/emit", json={"event": "tell", "data": 1}).status_code == 200
    assert events == [("told", 1)]


def _broken(*args: object) -> None:
    raise LookupError("the host's own failure")


@pytest.mark.parametrize(("home", "part", "value", "named"), [
    ("toy_host.Monitor", "start_monitoring", None, "system_monitor"),
    ("toy_host.Monitor", "start_monitoring", _broken, "system_monitor"),
    ("toy_host.HexagonalAPI", "_register_websocket_routes", _broken, "_register_websocket_routes"),
    ("toy_adapters.Adapter", "__init__", _broken, "create_websocket_adapter"),
    ("toy_host.Agent", "socketio", property(_broken), "cursor_adapter"),
])
def test_a_part_that_a_host_lacks_is_named_and_the_rest_is_served(
        toy: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home: str, part: str,
        value: object, named: str) -> None:
    """The constructor does not fail for what one part of the host lacks or raises; a warning names the part."""
    api = toy.HexagonalAPI(enable_websocket=False)
    module, _, cls = home.partition(".")
    monkeypatch.setattr(getattr(importlib.import_module(module), cls), part, value, raising=False)
    transport = HybridTransport(api)
    assert any(f"HexagonalAPI.{named}" in record.getMessage() for record in caplog.records)
    with emitted(transport) as events:
        transport.emit("still", 1)
    assert events == [("still", 1)]


def test_a_monitor_of_another_shape_is_started_too(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that takes no socketio and a monitor with ``start`` serve as well."""
    api = toy.HexagonalAPI(enable_websocket=False)
    monitor = toy.get_system_monitor()
    monkeypatch.setattr(toy.Monitor, "start", toy.Monitor.start_monitoring, raising=False)
    monkeypatch.delattr(toy.Monitor, "start_monitoring")
    get: Any = lambda: monitor  # noqa: E731
    get.__module__ = "toy_host"
    monkeypatch.setattr(toy, "get_system_monitor", get)
    HybridTransport(api)
    assert (monitor.socketio, monitor.started) == (api.socketio, 1)


def test_a_finished_host_with_its_own_websocket_keeps_it(
        toy: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """A host that was built with a WebSocket is not given another channel, and a warning says so."""
    prepare()
    own = hybridize(toy.HexagonalAPI)(enable_websocket=True).socketio
    api = toy.HexagonalAPI(enable_websocket=False)
    api.socketio = own
    transport = HybridTransport(api)
    assert (api.socketio, transport.mode) == (own, "websocket")
    assert "keeps its own WebSocket" in caplog.text


def test_a_finished_host_is_left_alone_in_rollback(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """In profile WEBSOCKET a finished host stays as it is."""
    monkeypatch.setenv("APP_PROFILE", "WEBSOCKET")
    api = toy.HexagonalAPI(enable_websocket=False)
    HybridTransport(api)
    assert (api.socketio, api.websocket_adapter, api.cursor_adapter.socketio) == (None, None, None)
    assert not OUR_RULES & {rule.rule for rule in api.app.url_map.iter_rules()}


def test_a_host_without_a_push_channel_of_its_own_gets_a_transport() -> None:
    """An object with an app but no ``create_websocket_adapter`` is served through the transport alone."""
    class Bare:
        def __init__(self) -> None:
            self.app = Flask("bare")

    transport = HybridTransport(Bare())
    with emitted(transport) as events:
        transport.emit("hello", 1)
    assert events == [("hello", 1)]


@pytest.mark.parametrize("thing", [object(), "app", 7])
def test_what_is_neither_app_nor_host_is_refused(thing: object) -> None:
    """Anything without a Flask app is refused by name."""
    with pytest.raises(ConfigurationError, match="neither a Flask app nor a host"):
        HybridTransport(thing)


@pytest.mark.parametrize(("vintage", "carrier"), VARIANTS)
def test_the_finished_example_host_pushes(tmp_path: Path, vintage: str, carrier: str) -> None:
    """``HybridTransport(api)`` on the example host: a stored fact emits its three events, and the monitor runs."""
    told = report(tmp_path, DRIVER, T_HOW="attach", T_PUSH="", LEGACY_VINTAGE=vintage, LEGACY_BROADCASTER=carrier)
    check_swapped(told, vintage)


# -- the table of section 6, on the example host -----------------------------------------------------------------

DRIVER = f"""
import json, logging, os, sys, threading
sys.path.insert(0, r"{SRC}")
how, push = os.environ["T_HOW"], bool(os.environ["T_PUSH"])
warnings, emitted, loaded = [], [], threading.Event()

class Keep(logging.Handler):
    def emit(self, record):
        if record.name.startswith("hakgal_hybrid"):
            warnings.append(record.getMessage())

logging.getLogger().addHandler(Keep(logging.WARNING))
if how != "bare":
    import hakgal_hybrid
    hakgal_hybrid.prepare()
import hexagonal_api_enhanced_clean as host
import flask_socketio
import adapters.websocket_adapter as home
before = flask_socketio.SocketIO, home.SocketIO
cls = hakgal_hybrid.hybridize(host.HexagonalAPI) if how == "hybridize" else host.HexagonalAPI
api = cls(use_legacy=False, enable_websocket=push)
if how == "attach":
    hakgal_hybrid.HybridTransport(api)

def kind(value):
    return None if value is None else type(value).__module__ + "." + type(value).__qualname__

def holds(name):
    part = getattr(api, name, None)
    return None if part is None else part.socketio is not None and part.socketio is api.socketio

told = {{
    "class": [cls.__module__, cls.__qualname__],
    "socketio": kind(api.socketio),
    "extension": kind(api.app.extensions.get("socketio")),
    "real": isinstance(api.socketio, flask_socketio.SocketIO),
    "mode": getattr(api.socketio, "async_mode", None),
    "adapter": kind(api.websocket_adapter),
    "holders": [holds(name) for name in ("websocket_adapter", "system_monitor", "cursor_adapter")],
    "restored": (flask_socketio.SocketIO, home.SocketIO) == before,
    "rules": sorted(rule.rule for rule in api.app.url_map.iter_rules()),
    "routes": [route.rule for route in api.app.extensions["hakgal_hybrid"].routes()]
    if "hakgal_hybrid" in api.app.extensions else [],
    "wsgi_app": kind(api.app.wsgi_app),
    "eventlet": "eventlet.patcher" in sys.modules,
}}
client = api.app.test_client()
if "hakgal_hybrid" in api.app.extensions:
    from hakgal_hybrid import signals
    transport = api.app.extensions["hakgal_hybrid"]

    @signals.event_emitted.connect
    def keep(sender, event, event_id):
        loaded.set() if event.name == "system_load_update" else emitted.append(event.name)

    told["handlers"] = transport.handlers.names("/")
    told["transport"] = client.get("/api/hybrid/status").json["transport"]
    emitted.clear()
    told["fact"] = client.post("/api/facts", json={{"statement": "IsA(Platypus, Monotreme)."}}).status_code
    told["emitted"] = list(emitted)
    answer = client.post("/api/events/emit", json={{"event": "kb_metrics_request", "data": {{}}}})
    told["answered"] = [event["event"] for event in answer.json.get("events", [])]
    told["monitor"] = loaded.wait(30) if transport.mode == "sse" and hasattr(api, "system_monitor") else None
told["stream"] = client.head("/api/events/stream").status_code
told["warnings"] = warnings
told["ours"] = sorted(name for name in sys.modules if name.startswith("hakgal_hybrid"))
print(json.dumps(told), flush=True)
"""


def check_swapped(told: Any, vintage: str) -> None:
    """All that section 1 promises of a swapped host."""
    later = vintage == "later"
    assert told["socketio"] == told["extension"] == "hakgal_hybrid.socketio.socketio.SocketIO"
    assert told["adapter"].startswith("adapters.websocket_adapter.")
    assert told["holders"] == ([True] * 3 if later else [True, None, None])
    assert told["restored"] is True
    assert set(told["routes"]) >= OUR_RULES
    assert not OUR_RULES & set(told["rules"])
    assert "/ws" not in told["rules"], "the blocking broadcaster is not built"
    assert {"request_initial_data", "kb_metrics_request", "request_status", "governor_status_request",
            "reasoning_request", "governor_control"} <= set(told["handlers"])
    assert ("cursor_identify" in told["handlers"]) is later
    assert (told["transport"], told["fact"], told["stream"]) == ("sse", 201, 200)
    others = [said for said in told["warnings"] if not said.startswith("cors_allowed_origins='*': ")]
    assert (others, len(told["warnings"])) == ([], 1)
    assert told["emitted"] == ["fact_added", "kb_update", "kb_metrics", "system_status_update"]
    assert told["answered"][0] == "kb_metrics"
    assert told["monitor"] is (True if later else None)
    assert told["eventlet"] is False


@pytest.mark.parametrize(("vintage", "carrier"), VARIANTS)
def test_hybrid_without_websocket_is_swapped(tmp_path: Path, vintage: str, carrier: str) -> None:
    """HYBRID, ``enable_websocket=False``: everything the host builds is on our transport."""
    told = report(tmp_path, DRIVER, T_HOW="hybridize", T_PUSH="", LEGACY_VINTAGE=vintage, LEGACY_BROADCASTER=carrier)
    assert told["class"] == ["hexagonal_api_enhanced_clean", "HexagonalAPI"]
    check_swapped(told, vintage)


@pytest.mark.parametrize(("vintage", "carrier"), VARIANTS)
def test_hybrid_with_websocket_keeps_the_hosts_own(tmp_path: Path, vintage: str, carrier: str) -> None:
    """HYBRID, ``enable_websocket=True``: the host's own stack, one warning, our routes, and the status says it."""
    told = report(tmp_path, DRIVER, T_HOW="hybridize", T_PUSH="1", LEGACY_VINTAGE=vintage, LEGACY_BROADCASTER=carrier)
    if carrier == "blocking":
        assert told["socketio"] == "adapters.blocking_socketio.SocketIO"
        assert "/ws" in told["rules"]
    else:
        assert (told["real"], told["mode"]) == (True, "threading")
    assert told["holders"] == ([True] * 3 if vintage == "later" else [True, None, None])
    assert told["restored"] is True
    assert set(told["routes"]) >= OUR_RULES
    assert not OUR_RULES & set(told["rules"])
    assert (told["transport"], told["emitted"], len(told["warnings"])) == ("websocket", [], 1)


@pytest.mark.parametrize("push", ["", "1"], ids=["off", "on"])
@pytest.mark.parametrize(("vintage", "carrier"), VARIANTS)
def test_rollback_is_the_host_alone(tmp_path: Path, vintage: str, carrier: str, push: str) -> None:
    """WEBSOCKET, with either value of the flag: nothing differs from a process that has never heard of us."""
    env = {"T_PUSH": push, "LEGACY_VINTAGE": vintage, "LEGACY_BROADCASTER": carrier}
    options = ("-W", "ignore::DeprecationWarning")
    alone = report(tmp_path, DRIVER, options=options, T_HOW="bare", **env)
    rolled_back = report(tmp_path, DRIVER, options=options, T_HOW="hybridize", APP_PROFILE="WEBSOCKET", **env)
    assert alone.pop("ours") == []
    assert {name.removeprefix("hakgal_hybrid") for name in rolled_back.pop("ours")} == {
        "", ".errors", ".host", ".host.hybridize", ".host.stand_in", ".logs", ".monitoring", ".monitoring.patching",
        ".settings", ".settings.backplane_url", ".settings.environ", ".settings.values"}
    assert rolled_back == alone
    assert alone["stream"] in (404, 405)
    assert (alone["socketio"] is None) is (push == "")


# -- eventlet and a missing Flask-SocketIO -----------------------------------------------------------------------

PATCHED = f"""
import json, sys
import eventlet
eventlet.monkey_patch()
sys.path.insert(0, r"{SRC}")
import hexagonal_api_enhanced_clean as host
import hakgal_hybrid
told = {{}}

def attempt(name, action):
    try:
        action()
        told[name] = None
    except hakgal_hybrid.ConfigurationError as error:
        told[name] = [error.code, error.detail]

attempt("prepare", hakgal_hybrid.prepare)
hybrid = hakgal_hybrid.hybridize(host.HexagonalAPI)
attempt("hybridize", lambda: hybrid(enable_websocket=False))
attempt("attach", lambda: hakgal_hybrid.HybridTransport(host.HexagonalAPI(enable_websocket=False)))
if hakgal_hybrid.host.hybridize.current_profile() is hakgal_hybrid.Profile.HYBRID:
    plain = hakgal_hybrid.HybridTransport(host.Flask("plain"))
    attempt("run", lambda: plain.run(port=0))
print(json.dumps(told), flush=True)
"""


@needs_eventlet
def test_a_patched_process_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Gevent never runs beside a patched eventlet: each way in names what to use instead."""
    told = report(tmp_path, PATCHED, options=("-W", "ignore::DeprecationWarning"))
    assert set(told) == {"prepare", "hybridize", "attach", "run"}
    for way, error in told.items():
        assert error is not None, way
        code, detail = error
        assert code == "eventlet_patched"
        for remedy in ("hakgal-hybrid exec", "hakgal-hybrid run", "hakgal_hybrid.prepare()"):
            assert remedy in detail, way


@needs_eventlet
def test_a_patched_process_is_none_of_our_business_in_rollback(tmp_path: Path) -> None:
    """In profile WEBSOCKET a patched process is as the host wants it."""
    told = report(tmp_path, PATCHED, options=("-W", "ignore::DeprecationWarning"), APP_PROFILE="WEBSOCKET")
    assert told == {"prepare": None, "hybridize": None, "attach": None}


def test_prepare_stands_in_for_eventlet_in_hybrid_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``prepare()`` in HYBRID ``import eventlet`` gives what patches nothing; in WEBSOCKET nothing is touched."""
    sys.modules.pop("eventlet", None)
    monkeypatch.setenv("APP_PROFILE", "WEBSOCKET")
    prepare()
    assert "eventlet" not in sys.modules
    monkeypatch.setenv("APP_PROFILE", "HYBRID")
    prepare()
    sleep, eventlet = time.sleep, importlib.import_module("eventlet")
    eventlet.monkey_patch(thread=False)
    assert time.sleep is sleep
    assert not eventlet_patched()
    prepare()  # once more does no harm


def test_the_stand_in_for_eventlet_runs_functions_in_threads() -> None:
    """What most hosts use of eventlet works with native threads; anything else says what to do."""
    ran = threading.Event()
    assert native_threads.spawn(divmod, 7, 3).wait() == (2, 1)
    native_threads.spawn_after(0.001, ran.set).wait()
    assert ran.is_set()
    late = native_threads.spawn_after(60, pytest.fail, "it was cancelled")
    late.cancel()
    assert late.wait() is None
    native_threads.sleep(0)
    with pytest.raises(ImportError, match="APP_PROFILE=WEBSOCKET"):
        native_threads.GreenPool  # noqa: B018
    assert not hasattr(native_threads, "__version__")


WITHOUT = """
import importlib.machinery, json, sys

class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "flask_socketio" else super().find_spec(name, path, target)

sys.meta_path = [Hiding if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
sys.path.insert(0, r"{src}")
import hakgal_hybrid
hakgal_hybrid.prepare()
from hexagonal_api_enhanced_clean import HexagonalAPI
api = hakgal_hybrid.hybridize(HexagonalAPI)(use_legacy=False, enable_websocket={push})
import flask_socketio
print("stands in:", flask_socketio.__name__, api.socketio.transport.mode, flush=True)
api.run(host="127.0.0.1", port={port}, debug=False)
"""


@pytest.mark.parametrize("push", [False, True])
def test_without_flask_socketio_our_own_stands_in(tmp_path: Path, push: bool) -> None:
    """A host whose Flask-SocketIO is not installed is served by ours under that name, and the status says ``sse``."""
    port = free_port()
    command = [sys.executable, "-c", WITHOUT.format(src=SRC, port=port, push=push)]
    with server_process(tmp_path, command, port) as host, Stream(port) as stream:
        assert stream.first("connection_status")["sid"] == stream.open["sid"]
        host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."})
        assert stream.first("fact_added")["statement"] == "IsA(Platypus, Monotreme)."
        assert "stands in: hakgal_hybrid.socketio sse" in host.text()
        assert host.get("/api/hybrid/status").body["transport"] == "sse"


# -- the import hook ---------------------------------------------------------------------------------------------


def test_the_hook_hybridizes_as_the_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is hybridized in the module itself, however it is imported from there."""
    (tmp_path / "toy_adapters.py").write_text(TOY_ADAPTERS)
    (tmp_path / "toy_hooked.py").write_text(TOY_HOST)
    monkeypatch.syspath_prepend(tmp_path)
    hook(("toy_hooked",))
    module = importlib.import_module("toy_hooked")
    assert isinstance(module.HexagonalAPI(enable_websocket=False).socketio, Facade)
    hook(("toy_hooked",))  # already imported: done at once, and only once
    assert module.HexagonalAPI.__mro__[1].__dict__.get("__hybridized__") is None


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [("toy_missing", "class Other: ...", "AttributeError"),
     ("toy_builtin", "HexagonalAPI = dict", "immutable type"),
     ("toy_function", "def HexagonalAPI(): return 'made'", "is no class")],
    ids=["no such class", "cannot be changed", "no class at all"],
)
def test_a_failing_hook_reports_and_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
                                                   source: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """A module whose class cannot be hybridized is imported all the same, unchanged, and the log says why."""
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    hook((name,))
    module = importlib.import_module(name)
    [record] = [record for record in caplog.records if record.name == "hakgal_hybrid.host.hybridize"]
    assert record.levelno == logging.ERROR
    assert f"{name}.HexagonalAPI could not be hybridized" in record.getMessage()
    assert why in caplog.text
    assert not getattr(getattr(module, "HexagonalAPI", None), "__hybridized__", False)


ODD_HOSTS = """
import functools
from flask import Flask
from flask_socketio import SocketIO

class Base:
    def __init__(self, enable_websocket=True, enable_governor=True):
        self.app = Flask(__name__)
        self.socketio = SocketIO(self.app) if enable_websocket else None

class HandsOn(Base):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)

class HexagonalAPI(Base):
    def __init__(self, enable_websocket=True):
        super(HexagonalAPI, self).__init__(enable_websocket)

def injected(init):
    @functools.wraps(init)
    def with_db(self, *args, **kwargs):
        init(self, "db", *args, **kwargs)
    return with_db

class Injected(Base):
    @injected
    def __init__(self, db, enable_websocket=True):
        assert db == "db"
        super().__init__(enable_websocket)

early = SocketIO(async_mode="threading")

class Early(Base):
    def __init__(self, enable_websocket=True):
        self.app = Flask(__name__)
        self.socketio = early
        early.init_app(self.app)
"""


def test_hosts_of_other_builds_are_swapped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keywords handed on, a class that names itself in ``super``, injected arguments: all get the facade."""
    (tmp_path / "toy_odd.py").write_text(ODD_HOSTS)
    monkeypatch.syspath_prepend(tmp_path)
    hook(("toy_odd",))
    module = importlib.import_module("toy_odd")
    hosts = [hybridize(module.HandsOn)(enable_websocket=False), module.HexagonalAPI(enable_websocket=False),
             module.HexagonalAPI(False), hybridize(module.Injected)(enable_websocket=False)]
    assert all(isinstance(host.socketio, Facade) for host in hosts)


def test_a_socketio_that_cannot_be_swapped_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    """One that was made before the host was constructed keeps working, and log and status say that it is not ours."""
    (tmp_path / "toy_early.py").write_text(ODD_HOSTS)
    monkeypatch.syspath_prepend(tmp_path)
    host = hybridize(importlib.import_module("toy_early").Early)(enable_websocket=False)
    assert "could not be swapped" in caplog.text
    assert HybridTransport.of(host.app).statistics().transport == "websocket"


def test_a_host_whose_hook_fails_runs_as_without_us(tmp_path: Path) -> None:
    """With a wrong ``--class`` the host starts and serves, and the log says why nothing was swapped."""
    prefix = [*EXEC[:-1], "--class", "hexagonal_api_enhanced_clean:Nowhere", "--"]
    with example_host(tmp_path, prefix=prefix, quiet=False) as host:
        assert host.get("/health").body["status"] == "operational"
        assert host.get("/api/events/stream").status in (404, 405)
        assert host.get("/api/status").body["websocket"]["enabled"] is False
        assert "hexagonal_api_enhanced_clean.Nowhere could not be hybridized" in host.text()


def test_hooks_of_others_stay_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that somebody else registered for the same module runs as well."""
    (tmp_path / "toy_shared.py").write_text("class HexagonalAPI: ...")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[ModuleType] = []
    wrapt.register_post_import_hook(seen.append, "toy_shared")
    hook(("toy_shared",))
    assert seen == [importlib.import_module("toy_shared")]


# -- shows it is done: the unchanged start command ---------------------------------------------------------------


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The example host under ``hakgal-hybrid exec``, shared by the tests below."""
    vintage, carrier = request.param
    prefix = EXEC if carrier == "socketio" else EXEC_MODULE
    env = {"LEGACY_VINTAGE": vintage, "LEGACY_BROADCASTER": carrier}
    with example_host(tmp_path_factory.mktemp(vintage), prefix=prefix, **env) as host:
        yield host


def test_the_unchanged_start_command_serves_and_streams(example: Running) -> None:
    """``/health`` answers, and the stream shows ``hybrid_open``, then what posting facts emits, in order."""
    assert example.get("/health").body["status"] == "operational"
    with Stream(example.port) as stream:
        assert stream.open["profile"] == "HYBRID"
        for kind in ("Monotreme", "Mammal"):
            statement = f"IsA(Platypus, {kind})."
            assert example.post("/api/facts", {"statement": statement}).status == 201
            assert stream.first("fact_added", lambda data, s=statement: data["statement"] == s)["success"] is True
        until(lambda: len(stream.all("kb_metrics")) == 2, "the last of the events")
        assert stream.names()[0] == "hybrid_open"
        facts = [name for name in stream.names() if name in ("fact_added", "kb_update", "kb_metrics")]
        assert facts == ["fact_added", "kb_update", "kb_metrics"] * 2
        assert stream.all("kb_update")[-1]["fact_count"] == example.get("/api/status").body["fact_count"]


@pytest.mark.quiet
def test_control_starts_and_stops_a_real_child_process(example: Running) -> None:
    """A start gives the host a living child and a stop ends it; the median of each answers within 50 ms."""
    seconds: dict[str, list[float]] = {"start": [], "stop": [], "status": []}
    with Stream(example.port) as stream:
        for _ in range(5):
            before = example.family()
            settled(example, "start", seconds)
            [child] = example.family() - before
            assert alive(child)
            assert child.ppid() in {process.pid for process in before}
            assert settled(example, "status", seconds)["running"] is True
            settled(example, "stop", seconds)
            until(lambda child=child: not alive(child), "the child ends")
        until(lambda: len(stream.all("control_result")) == 10, "every outcome leaves as an event")
        assert [told["action"] for told in stream.all("control_result")] == ["start", "stop"] * 5
    for action, taken in seconds.items():
        assert statistics.median(taken) < 0.05, (action, taken)


def settled(host: Running, action: str, seconds: dict[str, list[float]] | None = None) -> Any:
    """Give an order, note how long the answer took, wait for its outcome (a busy machine may answer 202 to any)."""
    answer = host.post("/api/governor/control", {"action": action})
    if seconds is not None:
        seconds[action].append(answer.seconds)
    assert answer.status in (200, 202)
    if answer.status == 200:
        return answer.body["result"]
    return until(lambda: outcome(host, answer.headers["Location"]), f"{action} is done")["result"]


@pytest.mark.parametrize("carrier", ["socketio", "blocking"])
def test_live_handles_in_the_governors_status_survive(tmp_path: Path, carrier: str) -> None:
    """The early vintage's status holds a live ``Popen``; control answers and events carry its ``repr``."""
    env = {"LEGACY_VINTAGE": "early", "LEGACY_BROADCASTER": carrier}
    with example_host(tmp_path, quiet=False, **env) as host, Stream(host.port, "?events=governor*,control*") as stream:
        settled(host, "start")
        assert host.get("/api/governor/status").status == 500, "the host's own route breaks just then"
        status = settled(host, "status")
        assert status["engines"]["explorer"]["process"].startswith("<Popen")
        told = stream.first("governor_update", lambda data: data.get("engines"))
        assert told["engines"]["explorer"]["process"].startswith("<Popen")
        settled(host, "stop")
        assert stream.first("control_result", lambda data: data["action"] == "stop")["result"] is True


def test_the_hosts_handlers_serve_their_caller(example: Running) -> None:
    """What a dashboard may ask for is answered on its own stream, and the latest handler of an event wins."""
    with Stream(example.port) as asking, Stream(example.port) as other:
        assert asking.first("connection_status")["sid"] == asking.open["sid"]
        assert emit_as(example.port, asking, "request_initial_data").status == 200
        assert len(asking.first("initial_data")["facts"]) == 20
        assert emit_as(example.port, asking, "request_status", {}).status == 200
        assert "vintage" in asking.first("system_status"), "the host's handler, not the adapter's"
        query = {"query": "OrbitsAround(Io, Jupiter)."}
        assert emit_as(example.port, asking, "reasoning_request", query).status == 200
        assert asking.first("reasoning_result")["confidence"] == 1.0
        assert other.first("reasoning_complete")["query"] == query["query"]
        assert not {"initial_data", "system_status", "reasoning_result"} & set(other.names())
        assert example.get("/api/status").body["websocket"]["connected_clients"] >= 2
    until(lambda: example.get("/api/status").body["websocket"]["connected_clients"] == 0, "both are forgotten")


@pytest.mark.quiet
def test_a_stubborn_governor_does_not_hold_the_answer(tmp_path: Path) -> None:
    """While ``stop()`` blocks 5 s the order answers 202 at once, ``status`` does too, and its location says done."""
    with example_host(tmp_path, LEGACY_VINTAGE="early", LEGACY_GOVERNOR_STUBBORN="1") as host:
        settled(host, "start")
        stops = [host.post("/api/governor/control", {"action": "stop"}) for _ in range(3)]
        assert {(stop.status, stop.body["status"]) for stop in stops} == {(202, "accepted")}
        assert statistics.median(stop.seconds for stop in stops) < 0.05
        seconds: dict[str, list[float]] = {"status": []}
        for _ in range(5):
            assert settled(host, "status", seconds)["running"] is True
        assert statistics.median(seconds["status"]) < 0.05
        assert outcome(host, stops[0].headers["Location"]) is None, "no status has waited for the stop"
        for stop, result in zip(stops, (True, False, False), strict=True):
            done = until(lambda stop=stop: outcome(host, stop.headers["Location"]), "the stop is done", 12)
            assert (done["id"], done["action"], done["result"]) == (stop.body["id"], "stop", result)


def outcome(host: Running, location: str) -> Any:
    """The report of a command, once it is done."""
    body = host.get(location).body
    return body if body["status"] == "done" else None


# -- rollback, with a real Socket.IO client ----------------------------------------------------------------------


@contextmanager
def socketio_client(port: int) -> Iterator[Callable[[str], Any]]:
    """A connected Socket.IO client; gives a function that waits for the payload of an event."""
    client_module = pytest.importorskip("socketio", reason="python-socketio's client is not installed")
    events: list[tuple[str, Any]] = []
    client = client_module.Client(reconnection=False)
    client.on("*", lambda event, data=None: events.append((event, data)))
    client.connect(f"http://127.0.0.1:{port}", transports=["polling"])

    def first(name: str) -> Any:
        return until(lambda: [data for event, data in events if event == name], f"{name} on the socket")[0]

    try:
        yield first
    finally:
        client.disconnect()


LIST_MODULES = (
    "print('modules', sorted(m for m in sys.modules if m.startswith('hakgal_hybrid')), 'gevent' in sys.modules, "
    "'wrapt' in sys.modules, HexagonalAPI.__dict__.get('__hybridized__'), flush=True);\n"
)


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_rollback_serves_a_real_socketio_client(tmp_path: Path, vintage: str) -> None:
    """APP_PROFILE=WEBSOCKET: the original stack answers, and only the decision was imported of us."""
    rollback = {"APP_PROFILE": "WEBSOCKET", "ENABLE_SSE": "false", "ENABLE_WS_SPECIAL": "true"}
    with example_host(tmp_path, push=True, extra=LIST_MODULES, LEGACY_VINTAGE=vintage, **rollback) as host:
        modules = ["", ".errors", ".host", ".host.commands", ".host.hybridize", ".host.launcher", ".host.stand_in",
                   ".logs", ".monitoring", ".monitoring.patching", ".settings", ".settings.backplane_url",
                   ".settings.environ", ".settings.values", ".tools", ".tools.cli", ".tools.commands",
                   ".tools.commands.group"]
        decision = [f"hakgal_hybrid{name}" for name in modules]
        assert f"modules {decision} False False None" in host.text()
        with socketio_client(host.port) as first:
            assert first("connection_status")["connected"] is True
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert first("fact_added")["statement"] == "IsA(Platypus, Monotreme)."
        for path in OUR_RULES - {"/api/governor/control/<id>"}:
            assert host.get(path).status in (404, 405), path


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_rollback_without_websocket_has_no_push_at_all(tmp_path: Path, vintage: str) -> None:
    """APP_PROFILE=WEBSOCKET and ``enable_websocket=False``: as the host alone."""
    with example_host(tmp_path, APP_PROFILE="WEBSOCKET", LEGACY_VINTAGE=vintage) as host:
        assert host.get("/api/status").body["websocket"] == {"enabled": False, "connected_clients": 0}
        assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
        assert host.get("/api/events/stream").status in (404, 405)
        assert host.get("/socket.io/?EIO=4&transport=polling").status in (404, 405)


@pytest.mark.parametrize("vintage", ["later", "early"])
def test_in_hybrid_the_hosts_own_websocket_still_works(tmp_path: Path, vintage: str) -> None:
    """HYBRID and ``enable_websocket=True``: a real client connects to the host's stack; warning and status say so."""
    with example_host(tmp_path, push=True, LEGACY_VINTAGE=vintage) as host:
        with socketio_client(host.port) as first:
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert first("fact_added")["statement"] == "IsA(Platypus, Monotreme)."
        assert host.get("/api/hybrid/status").body["transport"] == "websocket"
        assert host.text().count("keeps its own WebSocket") == 1


def test_in_hybrid_a_host_that_insists_on_eventlet_serves_with_threads(tmp_path: Path) -> None:
    """A host that asks for eventlet without a fallback, and passes options for it, runs its own stack on threads."""
    (tmp_path / "toy_adapters.py").write_text(TOY_ADAPTERS)
    (tmp_path / "toy_host.py").write_text(TOY_HOST)
    port = free_port()
    start = textwrap.dedent(f"""
        from toy_host import HexagonalAPI
        api = HexagonalAPI(enable_websocket=True)
        api.app.add_url_rule("/health", "health", lambda: api.socketio.async_mode)
        api.run(port={port})
    """)
    command = [*EXEC[:-1], "--class", "toy_host:HexagonalAPI", "--", "python", "-c", start]
    with server_process(tmp_path, command, port, cwd=tmp_path) as host, socketio_client(port) as first:
        assert first("welcome")["sid"]
        assert host.get("/health").body == b"threading"


def test_in_hybrid_the_blocking_broadcaster_still_works(tmp_path: Path) -> None:
    """HYBRID, ``enable_websocket=True`` and a home-grown broadcaster: its own WebSocket answers."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    with example_host(tmp_path, push=True, LEGACY_BROADCASTER="blocking") as host:
        connection = websocket.create_connection(f"ws://127.0.0.1:{host.port}/ws", timeout=30)
        try:
            assert json.loads(connection.recv())["event"] == "connection_status"
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert json.loads(connection.recv())["event"] in ("fact_added", "system_status_update",
                                                              "system_load_update")
        finally:
            connection.shutdown()
        assert host.get("/api/hybrid/status").body["transport"] == "websocket"


def test_the_package_exports_what_hosts_need() -> None:
    """The public names are there, are listed, and nothing else is."""
    for name in hakgal_hybrid.__all__:
        assert getattr(hakgal_hybrid, name) is not None
    assert set(hakgal_hybrid.__all__) <= set(dir(hakgal_hybrid))
    with pytest.raises(AttributeError, match="no_such_name"):
        hakgal_hybrid.no_such_name  # noqa: B018
