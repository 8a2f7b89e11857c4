"""A backplane that is set up wrongly: each mistake is named, with the variable, and no password is ever shown."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from support.redis_server import RedisServer, Sentinel
from support.servers import TESTS
from support.shared_apps import App, until

from hakgal_hybrid import ConfigurationError, Emitter, HybridTransport
from hakgal_hybrid.broker.backplane.faults import Away, Misconfigured, State
from hakgal_hybrid.broker.backplane.shared_log import START
from hakgal_hybrid.commands.backplane.connecting import connector
from hakgal_hybrid.commands.backplane.redis_faults import RIGHTS
from hakgal_hybrid.commands.backplane.redis_log import LogOptions
from hakgal_hybrid.logs import LIMIT
from hakgal_hybrid.settings import load_settings

SECRET = "s3cret"


def refusal(url: str) -> str:
    """What a process hears that connects to a URL."""
    with pytest.raises((Away, Misconfigured)) as caught:
        connector(url, LogOptions("name", "app", "p"), "test")()
    assert SECRET not in str(caught.value)
    return f"{type(caught.value).__name__}: {caught.value}"


# -- before anything is connected --------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [
    "localhost:6379", "http://h/0", "redis://h:99999/0", "redis://h/db", "REDIS://h/0", "redis://h o/0", "redis://h\n/0",
    "redis://h/0?decode_responses=1", "redis://h/0?ssl_ca_certs=x", "rediss://h/0?ssl_cert_reqs=maybe",
    "rediss://h/0?protocol=3", "unix://", "unix://run/s", "unix:///s?db=x", "redis+sentinel://a,b", "redis+cluster://a/1",
    f"redis://:{SECRET}/x@h/0", f"redis://:a@{SECRET}/@h", f"redis://:x#{SECRET}@h/0", f"redis://h/0?password={SECRET}"])
def test_a_url_that_is_none(url: str) -> None:
    """The variable, the value without its password, and what is accepted."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={"HYBRID_BACKPLANE": url})
    text = str(caught.value)
    assert text.startswith("HYBRID_BACKPLANE=")
    assert "redis://HOST:PORT/DB" in text
    assert SECRET not in text


@pytest.mark.parametrize("url", [
    "redis://h/0", "redis://user:p%40ss@h:1/2", "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
    "unix:///run/redis.sock?db=3", "redis://[::1]:1/0", "redis+sentinel://a,b:1/s/0", "rediss+cluster://a,b"])
def test_urls_that_are_accepted(url: str) -> None:
    """They stay as they are."""
    assert load_settings(environ={"HYBRID_BACKPLANE": url}).backplane == url


def test_a_misspelt_variable_shows_no_password() -> None:
    """It is refused with the name that was meant, and its value without what stands before the @."""
    with pytest.raises(ConfigurationError, match="did you mean HYBRID_BACKPLANE") as caught:
        load_settings(environ={"HYBRID_BACKPLAN": f"redis://:{SECRET}@h/0"})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(load_settings(environ={"HYBRID_BACKPLANE": f"redis://:{SECRET}@h/0"}))


@pytest.mark.parametrize("name", ["a{b}", " ", "ä", "x\ny", "a" * 129, "a b"])
def test_a_name_that_is_none(name: str) -> None:
    """The variable, the value, and what is accepted; the same for an app's own name, where no other is set."""
    with pytest.raises(ConfigurationError, match=r"HYBRID_BACKPLANE_NAME=.* 1 to 128 letters"):
        load_settings(environ={"HYBRID_BACKPLANE_NAME": name})
    with pytest.raises(ConfigurationError, match=r"HYBRID_BACKPLANE_NAME is not set.* 1 to 128 letters"):
        HybridTransport(Flask(name), backplane="redis://127.0.0.1:1/0")


def test_a_script_is_known_by_the_name_of_its_file(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scripts do not share the log ``__main__``, and one that gunicorn imports has the same as by itself."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/somewhere/shop.py", raising=False)
    app = App(redis_server, app="__main__")
    app.stop()
    assert app.status()["backplane"]["name"] == "shop"


def test_a_journal_and_a_backplane() -> None:
    """One of both; the backplane's password is not shown."""
    with pytest.raises(ConfigurationError, match=r"HYBRID_JOURNAL=.*HYBRID_BACKPLANE") as caught:
        load_settings(environ={"HYBRID_BACKPLANE": f"redis://:{SECRET}@h/0", "HYBRID_JOURNAL": "events.db"})
    assert SECRET not in str(caught.value)


def test_the_extra_is_not_installed(tmp_path: Path) -> None:
    """Where redis-py is missing, ``hakgal-hybrid run`` says in a line what to install, and ends with status 2."""
    packages = Path(sysconfig.get_paths()["purelib"])
    for item in packages.iterdir():
        if not item.name.startswith(("redis", "__pycache__")) and not item.name.endswith(".pth"):
            (tmp_path / item.name).symlink_to(item)
    (tmp_path / "shop.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    done = subprocess.run(
        [sys.executable, "-S", "-m", "hakgal_hybrid", "run", "shop:app", "--port", "0"], capture_output=True, text=True,
        timeout=60, check=False, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{TESTS.parent}:{tmp_path}", "PYTHONNOUSERSITE": "1",
             "HYBRID_BACKPLANE": f"redis://:{SECRET}@127.0.0.1:1/0"})
    assert done.returncode == 2, done.stderr
    assert "HYBRID_BACKPLANE='redis://***@127.0.0.1:1/0'" in done.stderr
    assert "pip install 'hakgal_hybrid[redis]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr


def test_a_script_that_emits_with_a_wrong_password(
        redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It says at once what is wrong, and at its end how much was not sent."""
    LIMIT.forget()
    monkeypatch.setenv("HYBRID_FLUSH_S", "0")
    emitter = Emitter(f"redis://nobody:{SECRET}@127.0.0.1:{redis_server.port}/0", "shared")
    emitter.emit("fact", {})
    until(lambda: "cannot be used as it is set up" in caplog.text)
    emitter.close()
    assert f"because redis://***@127.0.0.1:{redis_server.port}/0 has not taken them" in caplog.text
    assert SECRET not in caplog.text


# -- what Redis says ---------------------------------------------------------------------------------------------


def test_a_wrong_password(redis_server: RedisServer) -> None:
    """Where the user is given, and what to correct."""
    said = refusal(f"redis://nobody:{SECRET}@127.0.0.1:{redis_server.port}/0")
    assert said.startswith("Misconfigured: Redis refuses the user or the password")
    assert "HYBRID_BACKPLANE" in said


def test_no_password_where_one_is_needed(tmp_path: Path) -> None:
    """The same, without any user."""
    server = RedisServer(tmp_path)
    try:
        with server.client() as client:
            client.config_set("requirepass", SECRET)
        assert refusal(server.url).startswith("Misconfigured: Redis refuses the user or the password")
    finally:
        server.kill()


@pytest.mark.parametrize("right", ["+info", "+evalsha", "+xadd", "+xread", "+set"])
def test_a_right_that_is_missing(redis_server: RedisServer, caplog: pytest.LogCaptureFixture, right: str) -> None:
    """The command is named, with the whole list of what is needed; the state is ``misconfigured``, and it is logged."""
    LIMIT.forget()
    rights = " ".join(one for one in RIGHTS.split() if one != right)
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "few", "on", f">{SECRET}", "resetkeys", "-@all", "~{shared}:*",
                               *rights.split())
    app = App(redis_server, backplane=f"redis://few:{SECRET}@127.0.0.1:{redis_server.port}/0")
    try:
        with app.open():
            app.transport.emit("fact", {})
            until(lambda: app.status()["backplane"]["state"] == "misconfigured")
            error = app.status()["backplane"]["error"]
        until(lambda: "cannot be used as it is set up" in caplog.text)
    finally:
        app.stop()
    said = error.partition("it needs")[0]
    assert right.removeprefix("+") in said or "The user executing the script can't run this command" in said
    assert "it needs ~{shared}:* +ping" in error
    assert SECRET not in caplog.text


def test_a_database_that_is_not_there(redis_server: RedisServer) -> None:
    """The number in the URL is what to correct."""
    said = refusal(redis_server.url.removesuffix("/0") + "/99")
    assert said.startswith("Misconfigured: Redis has no such database")
    assert "HYBRID_BACKPLANE" in said


def test_tls_where_there_is_none(redis_server: RedisServer) -> None:
    """The scheme is what to correct."""
    said = refusal(redis_server.url.replace("redis:", "rediss:"))
    assert said.startswith("Away: ")
    assert "if that port has no TLS, begin HYBRID_BACKPLANE with redis: in place of rediss:" in said


def test_a_port_with_tls(tmp_path: Path, certificate: tuple[str, str]) -> None:
    """Without TLS it says that the port may want it; with it, that the certificate is not known, until it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = RedisServer(tmp_path, "--tls-port", str(port), "--tls-cert-file", certificate[0], "--tls-key-file",
                         certificate[1], "--tls-ca-cert-file", certificate[0], "--tls-auth-clients", "no")
    try:
        plain = refusal(f"redis://127.0.0.1:{port}/0")
        assert plain.startswith("Away: ")
        assert "rediss:" in plain
        unknown = refusal(f"rediss://127.0.0.1:{port}/0")
        assert unknown.startswith("Misconfigured: the certificate of Redis cannot be trusted")
        assert "?ssl_ca_certs=FILE" in unknown
        for file in (str(tmp_path / "nowhere.pem"), certificate[1]):  # none, and the key in its place
            wrong = refusal(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={file}")
            assert wrong.startswith("Misconfigured: a file of the certificates in HYBRID_BACKPLANE cannot be read")
        log = connector(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate[0]}", LogOptions("name"), "test")()
        assert log.newest(1) == []
        log.close()
    finally:
        server.kill()


def test_a_server_of_another_kind(redis_server: RedisServer, tmp_path: Path) -> None:
    """A Redis in place of a Sentinel or a cluster, a Sentinel in place of a Redis, a name that no Sentinel knows."""
    plain = redis_server.url
    said = refusal(plain.replace("redis:", "redis+sentinel:").replace("/0", "/events/0"))
    assert said.startswith("Misconfigured: what answers there is no Sentinel")
    said = refusal(plain.replace("redis:", "redis+cluster:").removesuffix("/0"))
    assert said.startswith("Misconfigured: what answers there is no cluster")
    sentinel = Sentinel(tmp_path, redis_server)
    try:
        said = refusal(f"redis://127.0.0.1:{sentinel.port}/0")
        assert said.startswith("Misconfigured: what answers there is a Sentinel; begin HYBRID_BACKPLANE with redis+")
        said = refusal(sentinel.url.replace("/events", "/other"))
        assert said.startswith("Away: MasterNotFoundError")
        assert "in HYBRID_BACKPLANE" in said
    finally:
        sentinel.kill()


def test_a_replica(redis_server: RedisServer, tmp_path: Path) -> None:
    """It is tried again, because it may be promoted; until then it says what to name in its place."""
    server = RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port))
    try:
        log = connector(server.url, LogOptions("name", "app", "p"), "test")()
        with pytest.raises(Away, match=r"a replica answers there; .* name the master in HYBRID_BACKPLANE"):
            log.look(START)
        log.close()
    finally:
        server.kill()


@pytest.mark.parametrize("command", ["INFO", "EVALSHA", "XADD"])
def test_a_command_that_was_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """All that are needed are named, also where a script misses one."""
    monkeypatch.setenv("HYBRID_FLUSH_S", "0")
    server = RedisServer(tmp_path, "--rename-command", command, "")
    try:
        with Emitter(server.url, "shared") as emitter:
            emitter.emit("fact", {})
            until(lambda: emitter.statistics().state == State.MISCONFIGURED)
            said = str(emitter.statistics().error)
        assert said.startswith("what answers there does not know a command (")
        assert f"rename none and turn none off of {RIGHTS}" in said
    finally:
        server.kill()


@contextmanager
def answering(answers: dict[bytes, bytes]) -> Iterator[int]:
    """A server that answers each command of its client by the command's name, and ``+OK`` to all others."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as lines:
                    while head := lines.readline():
                        words = []
                        for _ in range(int(head[1:])):
                            words.append(lines.read(int(lines.readline()[1:]) + 2)[:-2])
                        connection.sendall(answers.get(words[0].upper(), b"+OK\r\n"))

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def test_redis_6(tmp_path: Path) -> None:
    """It is refused as it is met: its scripts and commands are others."""
    text = b"# Server\r\nredis_version:6.2.14\r\n"
    with answering({b"INFO": b"$%d\r\n%s\r\n" % (len(text), text)}) as port:
        assert refusal(f"redis://127.0.0.1:{port}/0") == \
            "Misconfigured: Redis 6.2.14 is too old; Redis 7.0 or newer, or Valkey, is needed"


def test_protected_mode() -> None:
    """What Redis answers to other machines that it was not set up for."""
    with answering({b"INFO": b"-DENIED Redis is running in protected mode because ...\r\n"}) as port:
        assert refusal(f"redis://127.0.0.1:{port}/0").startswith("Misconfigured: Redis is in its protected mode")


def test_two_apps_with_one_name(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """The second learns which app has the log, and what to set; the first is not disturbed."""
    LIMIT.forget()
    first = App(redis_server, backplane_name="ours")
    second = App(redis_server, app="another", backplane_name="ours")
    try:
        with first.open() as stream:
            first.transport.emit("fact", {"n": 1})
            assert stream.json(stream.until("fact")) == {"n": 1}
            with second.open():
                until(lambda: second.status()["backplane"]["state"] == "misconfigured")
            error = second.status()["backplane"]["error"]
            assert first.status()["backplane"]["state"] == "live"
    finally:
        first.stop()
        second.stop()
    assert "another application (shared) uses the name 'ours'" in error
    assert "HYBRID_BACKPLANE_NAME" in error


def test_a_redis_that_comes_after_the_app(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Streams open meanwhile, and say that they are not live; what was emitted comes when Redis does."""
    LIMIT.forget()
    server = RedisServer(tmp_path)
    server.kill()
    app = App(server)
    try:
        with caplog.at_level(logging.INFO, "hakgal_hybrid"), app.open() as stream:
            app.transport.emit("fact", {"n": 1})
            until(lambda: app.status()["backplane"]["state"] == "away")
            until(lambda: "is away" in caplog.text)
            server.start()
            assert stream.json(stream.until("fact")) == {"n": 1}
            until(lambda: app.status()["backplane"]["state"] == "live")
            until(lambda: "live again" in caplog.text)
    finally:
        app.stop()
        server.kill()
