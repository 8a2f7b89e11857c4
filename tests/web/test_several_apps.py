"""One object at module level for several apps: what is registered when, and which app is meant."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import blinker
import flask
import pytest
from flask import Flask, copy_current_request_context, request

from hakgal_hybrid import AuthorizationRequest, ConfigurationError, HybridError, HybridTransport, signals
from hakgal_hybrid.socketio import Namespace, SocketIO, emit, join_room
from hakgal_hybrid.testing import Collected, collect, open_stream
from hakgal_hybrid.tools.commands.group import flask_group

#: An extension object of either kind, as an application has it at module level.
Extension = HybridTransport | SocketIO


@pytest.fixture(params=[HybridTransport, SocketIO])
def extension(request: pytest.FixtureRequest) -> Extension:
    """What an application makes before there is an app."""
    made: Extension = request.param()
    return made


def face_of(extension: Extension) -> SocketIO:
    """Return what handlers are registered with."""
    return extension if isinstance(extension, SocketIO) else extension.socketio


def served_by(extension: Extension, name: str, **config: Any) -> Flask:
    """Return a new app that is served, as a factory makes it."""
    app = Flask(name)
    app.config.update(config)
    extension.init_app(app)
    return app


def answer(app: Flask, event: str, *args: Any) -> Any:
    """Return what the handler of an event answers, or the code of the problem."""
    reply = app.test_client().post("/api/events/emit", json={"event": event, "args": list(args)}).get_json()
    return reply["ack"] if "ack" in reply else reply["code"]


@contextmanager
def collected(*apps: Flask) -> Iterator[list[Collected]]:
    """Collect the events of each app."""
    with ExitStack() as stack:
        yield [stack.enter_context(collect(HybridTransport.of(app))) for app in apps]


def in_thread(function: Callable[[], object]) -> None:
    """Run a function in a thread, which has no context, and raise what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


# -- which app is meant ------------------------------------------------------------------------------------------


def test_the_only_app_needs_no_context(extension: Extension) -> None:
    """With one app it is the one that is meant, in any thread; before there is one the error says what to do."""
    with pytest.raises(ConfigurationError, match="init_app"):
        extension.emit("early")
    app = served_by(extension, "only")
    with collected(app) as [events]:
        extension.emit("here", 1)
        in_thread(lambda: extension.emit("there", 2))
    assert [(event.event, event.data) for event in events] == [("here", 1), ("there", 2)]


def test_of_several_apps_the_current_one_is_meant(extension: Extension) -> None:
    """In a request, a handler, an app context or a thread that took one along, an event leaves by that app."""
    @face_of(extension).on("ask")
    def ask() -> None:
        extension.emit("handled", flask.current_app.name)

    def serve() -> str:
        extension.emit("requested", flask.current_app.name)

        @copy_current_request_context
        def later() -> None:
            extension.emit("copied", request.path)

        in_thread(later)
        return ""

    apps = [served_by(extension, name) for name in ("one", "two")]

    def work(app: Flask) -> None:
        with app.app_context():
            extension.emit("worked", app.name)

    with collected(*apps) as events:
        for app in apps:
            app.add_url_rule("/serve", view_func=serve)
            assert answer(app, "ask") is None
            assert app.test_client().get("/serve").status_code == 200
            in_thread(lambda app=app: work(app))  # type: ignore[misc]
    for app, own in zip(apps, events, strict=True):
        assert [(event.event, event.data) for event in own] == [
            ("handled", app.name), ("requested", app.name), ("copied", "/serve"), ("worked", app.name)]


def test_emitting_without_a_context_among_several_apps_is_an_error() -> None:
    """The error is ours, names the apps, and says what to do; nothing is sent. So it is with all that needs an app."""
    transport = HybridTransport()
    apps = [served_by(transport, name) for name in ("shop", "office")]
    face = transport.socketio
    with collected(*apps) as events:
        for use in (lambda: transport.emit("lost"), lambda: face.emit("lost"), lambda: transport.settings,
                    lambda: transport.log, lambda: transport.last_event_id, transport.statistics, transport.stop,
                    lambda: transport.disconnect("nobody"), lambda: face.server.rooms("nobody"), transport.run,
                    lambda: transport.tickets):
            with pytest.raises(HybridError, match=r"2 apps \(shop, office\).*app_context\(\).*of\(app\)") as refused:
                use()
            assert (type(refused.value), refused.value.code) == (ConfigurationError, "several_apps")
    assert events == [[], []]


def test_the_context_of_an_app_that_is_not_served_means_nothing(extension: Extension) -> None:
    """Another extension object's app, or one without any, does not hide the only app that is served."""
    app, other = served_by(extension, "served"), Flask("other")
    beside = HybridTransport(Flask("beside"))
    with collected(app) as [events], other.app_context():
        extension.emit("first")
        with beside.app.app_context():
            extension.emit("second")
    assert events.names == ["first", "second"]


def test_a_receiver_in_a_request_for_one_of_our_urls_means_its_app() -> None:
    """Our URLs are answered by an app of our own: what a receiver does there is done for the app behind it."""
    transport = HybridTransport()
    apps = [served_by(transport, name) for name in ("one", "two")]
    meant: list[Flask] = []

    def receive(sender: Flask, **values: Any) -> None:
        meant.append(transport.app)

    with signals.event_emitted.connected_to(receive):
        for app in apps:
            reply = app.test_client().post("/api/events/publish", json={"event": "news", "data": 1})
            assert reply.status_code < 300, reply.get_json()
    assert meant == apps


def test_a_socketio_means_the_newest_app_as_flask_socketio_does() -> None:
    """An unmodified app, whose factory was called twice, emits from a thread without a context."""
    socketio = SocketIO()
    one, two = (served_by(socketio, name) for name in ("one", "two"))
    with collected(one, two) as events:
        in_thread(lambda: socketio.emit("from_thread"))
        with one.app_context():
            socketio.emit("from_context")
    assert [own.names for own in events] == [["from_context"], ["from_thread"]]


def test_the_transport_of_one_app_needs_no_context() -> None:
    """``of`` returns one that serves this app alone, whatever else is made, and always the same."""
    transport = HybridTransport()
    one = served_by(transport, "one")
    mine = HybridTransport.of(one)
    two = served_by(transport, "two")
    assert HybridTransport.of(one) is mine is not HybridTransport.of(two)
    with collected(one, two) as events, two.app_context():
        mine.emit("from_transport")
        mine.socketio.emit("from_socketio")
        transport.emit("other")
    assert [own.names for own in events] == [["from_transport", "from_socketio"], ["other"]]
    assert (mine.app, mine.settings.profile.value, mine.mode) == (one, "HYBRID", "sse")


def test_a_transport_that_was_made_with_an_app_serves_it_alone(extension: Extension) -> None:
    """It is the one that ``of`` returns, and another app is refused with the way out."""
    app, other = Flask("made"), Flask("other")
    transport = HybridTransport(app)
    assert HybridTransport.of(app) is transport
    with pytest.raises(ConfigurationError, match=r"serves <Flask 'made'> only.*call init_app\(app\) for each"):
        transport.init_app(other)
    assert "hakgal_hybrid" not in other.extensions


def test_an_app_is_served_once() -> None:
    """Calling ``init_app`` twice for one app is an error with the way out, and changes nothing."""
    transport = HybridTransport()
    app = served_by(transport, "app")
    for again in (transport, HybridTransport()):
        with pytest.raises(ConfigurationError, match=r"already has a HybridTransport; use HybridTransport\.of"):
            again.init_app(app)
    with collected(app) as [events]:
        transport.emit("still")
    assert events.names == ["still"]


def test_a_setting_that_is_not_accepted_leaves_nothing_behind() -> None:
    """The app that could not be served is not one of those that are."""
    transport = HybridTransport()
    bad = Flask("bad")
    bad.config["HYBRID_MAX_STREAMS"] = "many"
    with pytest.raises(ConfigurationError, match="HYBRID_MAX_STREAMS"):
        transport.init_app(bad)
    app = served_by(transport, "good")
    assert transport.app is app
    bad.config["HYBRID_MAX_STREAMS"] = 3
    transport.init_app(bad)
    assert HybridTransport.of(bad).settings.max_streams == 3


# -- what each app has -------------------------------------------------------------------------------------------


def test_each_app_has_its_settings_clients_and_events(extension: Extension) -> None:
    """Settings come from its ``config``; a stream of one gets nothing of the other, and ids are its own."""
    one = served_by(extension, "one", HYBRID_MAX_STREAMS=3, HYBRID_LOG_EVENTS=10)
    two = served_by(extension, "two", HYBRID_MAX_STREAMS=4)
    transports = [HybridTransport.of(app) for app in (one, two)]
    assert [transport.settings.max_streams for transport in transports] == [3, 4]
    with open_stream(one.test_client()) as first, open_stream(two.test_client()) as second:
        for app in (one, two):
            with app.app_context():
                extension.emit("greet", app.name)
        assert [stream.json(stream.next()) for stream in (first, second)] == ["one", "two"]
    assert [transport.log.newest for transport in transports] == [1, 1]


def test_keywords_are_for_every_app() -> None:
    """What the constructor is given wins over each app's own configuration."""
    governors = [object(), object()]
    transport = HybridTransport(max_streams=7, governor=governors[0])
    one, two = (served_by(transport, name, HYBRID_MAX_STREAMS=2, HYBRID_LOG_EVENTS=size)
                for name, size in (("one", 10), ("two", 20)))
    found = [HybridTransport.of(app) for app in (one, two)]
    assert [(made.settings.max_streams, made.settings.log_events) for made in found] == [(7, 10), (7, 20)]
    found[0].governor = governors[1]
    assert [made.state.find_governor() for made in found] == governors[::-1]
    assert (transport.governor, found[0].governor) == tuple(governors)


def test_stopping_one_of_several(extension: Extension) -> None:
    """Its streams end with a farewell, the others go on; with one that is left, no context is needed."""
    one, two = (served_by(extension, name) for name in ("one", "two"))
    with open_stream(one.test_client()) as first, open_stream(two.test_client()) as second:
        HybridTransport.of(two).stop()
        second.until("hybrid_bye")
        extension.emit("on")
        assert first.next().event == "on"


def test_apps_are_not_kept_alive(extension: Extension) -> None:
    """Of fifty apps that a factory has made and nobody has any more, at most the last one is there."""
    face = face_of(extension)

    def create(number: int) -> Flask:
        app = served_by(extension, f"app{number}")

        @face.on("who")
        def who() -> str:
            return app.name

        client = face.test_client(app)
        assert client.emit("who", callback=True) == answer(app, "who") == app.name
        client.disconnect()
        return app

    made = [weakref.ref(create(number)) for number in range(50)]
    gc.collect()
    gc.collect()  # what finalizers still held the first time
    assert [app for app in made if app() is not None] in ([], made[-1:])  # a function that the last one registered


def test_an_app_that_is_gone_needs_no_context_for_the_others() -> None:
    """As with a factory in a test suite: an app of an earlier test does not make the present one ambiguous."""
    transport = HybridTransport()
    gc.disable()
    try:
        for name in ("earlier", "present"):
            app = served_by(transport, name)
            with collected(app) as [events]:
                transport.emit("told", name)
            assert [event.data for event in events] == [name]
    finally:
        gc.enable()


def test_apps_may_be_made_at_once(extension: Extension) -> None:
    """Threads that call a factory at the same time lose none of the apps."""
    apps: list[Flask] = []
    together = threading.Barrier(8)

    def create(number: int) -> None:
        together.wait(30)
        for again in range(3):
            apps.append(served_by(extension, f"app{number}-{again}"))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    face_of(extension).on("who")(lambda: flask.current_app.name)
    assert [answer(app, "who") for app in apps] == [app.name for app in apps]
    assert len(apps) == 24


def test_the_app_that_a_socketio_was_made_with_is_kept() -> None:
    """``SocketIO(create_app())`` is all that some programs hold."""
    socketio = SocketIO(Flask("held"))
    gc.collect()
    socketio.emit("sent")
    assert socketio.transport.app.name == "held"


def test_the_commands_of_flask_are_for_their_app() -> None:
    """``flask hybrid routes`` shows the URLs of the app it is called for."""
    transport = HybridTransport()
    one = served_by(transport, "one", HYBRID_ENABLE_CONTROL_HTTP=False)
    two = served_by(transport, "two")
    shown = [app.test_cli_runner().invoke(flask_group, ["routes"]).output for app in (one, two)]
    assert ["/api/governor/control" in text for text in shown] == [False, True]


# -- what is registered ------------------------------------------------------------------------------------------


def test_what_is_registered_before_is_for_each_app(extension: Extension) -> None:
    """Handlers, classes of handlers and error handlers; rooms and answers are those of the client's app."""
    face = face_of(extension)

    class Chat(Namespace):
        def on_say(self, text: str) -> None:
            emit("said", f"{text} in {flask.current_app.name}", broadcast=True)
            self.socketio.emit("told", text, namespace="/chat")

    @face.on("enter")
    def enter(room: str) -> str:
        join_room(room)
        extension.emit("entered", room, to=room)
        return flask.current_app.name

    @face.on("fail")
    def fail() -> None:
        raise LookupError(flask.current_app.name)

    @face.on_error_default
    def report(error: Exception) -> str:
        return f"{error} failed"

    face.on_namespace(Chat("/chat"))
    apps = [served_by(extension, name) for name in ("one", "two")]
    for app in apps:
        client = face.test_client(app)
        client.connect("/chat")
        assert client.emit("enter", "hall", callback=True) == app.name
        assert client.emit("fail", callback=True) == f"{app.name} failed"
        client.emit("say", "hi", namespace="/chat")
        assert [item["name"] for item in client.get_received()] == ["entered"]
        assert [item["args"] for item in client.get_received("/chat")] == [[f"hi in {app.name}"], ["hi"]]


def test_what_a_factory_registers_is_its_apps_own(extension: Extension) -> None:
    """Each app keeps the function that its factory registered after ``init_app``; the last one for an event wins."""
    face = face_of(extension)

    def create(name: str) -> Flask:
        app = served_by(extension, name)
        face.on("who")(lambda: "nobody")
        face.on("who")(lambda: name)
        return app

    apps = [create(name) for name in ("one", "two", "three")]
    assert [answer(app, "who") for app in apps] == ["one", "two", "three"]


def test_what_is_registered_late_is_for_all(extension: Extension) -> None:
    """A module of handlers that is imported once, by the first call of a factory or after the last, serves all apps."""
    face = face_of(extension)
    one = served_by(extension, "one")
    face.on("early")(lambda: "early")
    two = served_by(extension, "two")
    face.on("late")(lambda: "late")
    assert [answer(app, event) for app in (one, two) for event in ("early", "late")] == ["early", "late"] * 2
    with one.app_context():
        face.on("early")(lambda: "new")
    assert [answer(app, "early") for app in (one, two)] == ["new", "early"]


def test_what_is_registered_for_one_app_is_for_it_alone(extension: Extension) -> None:
    """The transport of an app registers for no other one, and for none to come."""
    one, two = (served_by(extension, name) for name in ("one", "two"))
    HybridTransport.of(one).socketio.on("secret")(lambda: "told")
    three = served_by(extension, "three")
    assert [answer(app, "secret") for app in (one, two, three)] == ["told", "unknown_event", "unknown_event"]


def test_the_session_keyword_is_for_each_app(extension: Extension) -> None:
    """``manage_session`` may be set before there is an app, and at any time."""
    face = face_of(extension)
    face.manage_session = False
    one, two = (served_by(extension, name) for name in ("one", "two"))
    assert [HybridTransport.of(app).handlers.manage_session for app in (one, two)] == [False, False]
    face.manage_session = True
    assert [HybridTransport.of(app).handlers.manage_session for app in (one, two)] == [True, True]


def test_a_function_that_authorizes_is_for_each_app() -> None:
    """It may be set before there is an app; a second one is refused, whenever it comes."""
    transport = HybridTransport()

    @transport.authorize
    def only_named(asked: AuthorizationRequest) -> bool:
        return asked.action != "emit" or asked.event == flask.current_app.name

    transport.socketio.on("*")(lambda event: "done")
    with pytest.raises(ConfigurationError, match="decides already"):
        transport.authorize(lambda asked: True)
    one, two = (served_by(transport, name) for name in ("one", "two"))
    assert [answer(app, event) for app in (one, two) for event in ("one", "two")] == [
        "done", "not_authorized", "not_authorized", "done"]
    for other in (transport, HybridTransport.of(one)):
        with pytest.raises(ConfigurationError, match="decides already"):
            other.authorize(lambda asked: True)


def test_a_factory_may_set_the_function_that_authorizes() -> None:
    """Each app keeps its own; an app whose factory sets none has the one before, rather than none."""
    transport = HybridTransport()
    transport.socketio.on("ask")(lambda: "done")

    def create(name: str, allowed: bool | None) -> Flask:
        app = served_by(transport, name)
        if allowed is not None:
            transport.authorize(lambda asked: allowed)
        return app

    apps = [create("one", True), create("two", False), create("three", None), create("four", True)]
    assert [answer(app, "ask") for app in apps] == ["done", "not_authorized", "not_authorized", "done"]
    with pytest.raises(ConfigurationError, match="decides already"):
        transport.authorize(lambda asked: True)


def test_a_signal_may_be_bridged_before_there_is_an_app(caplog: pytest.LogCaptureFixture) -> None:
    """An event leaves once, by the app that sends the signal or whose context is active; else an error is logged."""
    transport, signal = HybridTransport(), blinker.Signal()
    end = transport.bridge(signal, "stock", to="hall")
    signal.send(None, left=0)
    assert "serves no app" in caplog.text
    one = served_by(transport, "one")
    with collected(one) as [events]:
        signal.send(None, left=1)
    two = served_by(transport, "two")
    with collected(one, two) as both:
        signal.send(two, left=2)
        with one.app_context():
            signal.send("anybody", left=3)
        signal.send(None, left=4)
    assert [[(event.data, event.to) for event in own] for own in (events, *both)] == [
        [({"left": 1}, ["hall"])], [({"left": 3}, ["hall"])], [({"left": 2}, ["hall"])]]
    assert "serves 2 apps" in caplog.text
    end()
    with collected(one) as [events], one.app_context():
        signal.send(None, left=5)
    assert events == []


def test_what_a_bridged_signal_cannot_say_is_counted_where_it_belongs() -> None:
    """A payload that JSON cannot hold harms neither the signal's sender nor another app."""
    transport, signal = HybridTransport(), blinker.Signal()
    transport.bridge(signal, "stock")
    one, two = (served_by(transport, name) for name in ("one", "two"))
    signal.send(two, left=object())
    assert [HybridTransport.of(app).statistics().receiver_errors for app in (one, two)] == [0, 1]


def test_signals_may_be_received_before_there_is_an_app() -> None:
    """Their sender is the app, whose transport a receiver finds."""
    transport, heard = HybridTransport(), []

    def receive(sender: Flask, **values: Any) -> None:
        heard.append(HybridTransport.of(sender).app.name)

    with signals.event_emitted.connected_to(receive):
        for name in ("one", "two"):
            with served_by(transport, name).app_context():
                transport.emit("told")
    assert heard == ["one", "two"]


# -- together with a SocketIO of the application -----------------------------------------------------------------


@pytest.mark.parametrize("first", ["transport", "socketio"])
def test_a_transport_beside_a_socketio(first: str) -> None:
    """Both may be at module level: each app has one state, with what was registered with either."""
    transport, socketio = HybridTransport(), SocketIO()
    socketio.on("by_socketio")(lambda: flask.current_app.name)
    transport.authorize(lambda asked: asked.event != "forbidden")
    order: list[Extension] = [transport, socketio] if first == "transport" else [socketio, transport]

    def create(name: str) -> Flask:
        app = Flask(name)
        for extension in order:
            extension.init_app(app)
        return app

    one, two = create("one"), create("two")
    assert [answer(app, event) for app in (one, two) for event in ("by_socketio", "forbidden")] == [
        "one", "not_authorized", "two", "not_authorized"]
    with collected(one, two) as events:
        for app in (one, two):
            with app.app_context():
                transport.emit("from_transport")
                socketio.emit("from_socketio")
                assert transport.socketio is socketio
    assert [own.names for own in events] == [["from_transport", "from_socketio"]] * 2
    assert [app.extensions["socketio"] for app in (one, two)] == [socketio, socketio]


def test_the_socketio_of_a_transport_is_that_of_its_apps() -> None:
    """The functions for handlers find it by the app; before, between and after the apps it is the same object."""
    transport = HybridTransport()
    early = transport.socketio
    one = served_by(transport, "one")
    between = transport.socketio
    two = served_by(transport, "two")
    assert early is between is transport.socketio is one.extensions["socketio"] is two.extensions["socketio"]
    late = HybridTransport()
    apps = [served_by(late, name) for name in ("three", "four")]
    assert "socketio" not in apps[0].extensions
    assert [app.extensions["socketio"] for app in apps] == [late.socketio] * 2 if late.socketio else False
