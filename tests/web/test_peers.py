"""Where a request comes from: what the connection, the server, ProxyFix and proxies say must agree."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import waitress.adjustments
from werkzeug.middleware.proxy_fix import ProxyFix

from hakgal_hybrid.broker.environ import PEER, OpeningRequest, port_of
from hakgal_hybrid.web import peers

REMOTE = "203.0.113.5"
CLAIMS = [{"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, {"HTTP_X_FORWARDED_FOR": "127.0.0.2, ::1"},
          {"HTTP_X_FORWARDED_FOR": "localhost", "HTTP_X_REAL_IP": "127.0.0.1", "HTTP_FORWARDED": "for=127.0.0.1"}]


def through(environ: dict[str, Any], *layers: Any) -> dict[str, Any]:
    """Return a WSGI environment as it is behind some middleware, the outermost first."""
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        return []

    wrapped: Any = app
    for layer in reversed(layers):
        wrapped = layer(wrapped)
    wrapped(dict(environ), lambda *_: None)
    return seen[0]


@contextlib.contextmanager
def connected(family: int) -> Iterator[socket.socket]:
    """Yield the server's end of a connection on this machine."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    client = socket.socket(family, socket.SOCK_STREAM)
    with listening, client:
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")  # abstract
        listening.listen()
        client.connect(listening.getsockname())
        with listening.accept()[0] as sock:
            yield sock


@contextlib.contextmanager
def from_afar() -> Iterator[Any]:
    """Yield a socket whose other end is on another machine, as far as it says."""
    yield SimpleNamespace(family=socket.AF_INET, getpeername=lambda: (REMOTE, 4711))


def waitress_environ(peer: str = "127.0.0.1", **options: Any) -> dict[str, Any]:
    """Return what waitress hands on, given these options: its connection can be found in it."""
    class Channel:
        adj = waitress.adjustments.Adjustments(**options)
        addr = (peer, 4711)
        socket = SimpleNamespace(family=socket.AF_INET, getpeername=lambda: (peer, 4711))

        def check_client_disconnected(self) -> bool:
            return False

    return {"REMOTE_ADDR": peer, "SERVER_SOFTWARE": "waitress",
            "waitress.client_disconnected": Channel().check_client_disconnected}


# -- ProxyFix and other middleware ---------------------------------------------------------------------------------


@pytest.mark.parametrize("claims", CLAIMS)
@pytest.mark.parametrize("options", [{}, {"x_for": 2}, {"x_for": 0}], ids=str)
def test_a_claim_behind_proxy_fix_is_not_enough(options: dict[str, int], claims: dict[str, str]) -> None:
    """With ProxyFix a visitor who comes directly does not get here by ``X-Forwarded-For: 127.0.0.1``."""
    def fixed(app: Any) -> Any:
        return ProxyFix(app, **options)

    assert not peers.from_loopback(through({"REMOTE_ADDR": REMOTE, **claims}, fixed))
    assert peers.from_loopback(through({"REMOTE_ADDR": "127.0.0.1", **claims}, fixed))


def test_the_address_that_proxy_fix_found_counts() -> None:
    """Limits go by it, but for a visitor who says that it is of this machine."""
    assert peers.address_of(through({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": REMOTE}, ProxyFix)) == REMOTE
    assert peers.address_of(through({"REMOTE_ADDR": REMOTE, "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, ProxyFix)) == REMOTE


@pytest.mark.parametrize("key", [PEER, "werkzeug.socket", "gunicorn.socket", "gunicorn.sock"])
@pytest.mark.parametrize("claims", CLAIMS)
def test_several_proxy_fixes_do_not_forget_the_connection(key: str, claims: dict[str, str]) -> None:
    """The second one remembers only what the first one wrote; the connection itself is asked."""
    with from_afar() as sock:
        environ = {"REMOTE_ADDR": REMOTE, key: REMOTE if key == PEER else sock, **claims}
        assert not peers.from_loopback(through(environ, ProxyFix, ProxyFix))
        assert peers.address_of(through(environ, ProxyFix, ProxyFix)) == REMOTE


def test_middleware_that_overwrites_remote_addr() -> None:
    """What it took from a header of the visitor's is no address of this machine."""
    def overwrite(app: Any) -> Any:
        def call(environ: dict[str, Any], start_response: Any) -> Any:
            environ["REMOTE_ADDR"] = environ.pop("HTTP_CF_CONNECTING_IP")
            return app(environ, start_response)
        return call

    environ = through({"REMOTE_ADDR": REMOTE, PEER: REMOTE, "HTTP_CF_CONNECTING_IP": "127.0.0.1"}, overwrite)
    assert not peers.from_loopback(environ)
    assert peers.peer_of(environ) == REMOTE


@pytest.mark.parametrize(("software", "more", "local"), [
    ("gevent/26.9 Python/3.11", {}, True), ("Werkzeug/3.1.3", {}, True), ("gunicorn/27.0.1", {}, True),
    ("WSGIServer/0.2 CPython/3.11", {}, True), ("", {}, True), ("Microsoft-IIS/10.0", {}, False),
    ("Apache/2.4.58 (Unix) mod_wsgi/5.0", {}, False), ("", {"wsgi.multiprocess": True}, False),
    ("somebody's", {PEER: "127.0.0.1"}, True)])
def test_a_proxys_word_for_this_machine_under_other_servers(software: str, more: dict[str, Any], local: bool) -> None:
    """A server that believes forwarding headers of everybody hides the connection, and so the word does not count."""
    environ = {"REMOTE_ADDR": "127.0.0.1", **({"SERVER_SOFTWARE": software} if software else {}), **more}
    assert peers.from_loopback({**environ, "HTTP_X_FORWARDED_FOR": "127.0.0.1"}) is local
    assert peers.from_loopback(environ)
    assert not peers.from_loopback({**environ, "HTTP_X_FORWARDED_FOR": REMOTE})
    assert peers.address_of({**environ, "HTTP_X_FORWARDED_FOR": REMOTE}) == REMOTE


@pytest.mark.parametrize("header", ["X_FORWARDED_FOR", "X_REAL_IP", "CF_CONNECTING_IP", "TRUE_CLIENT_IP"])
@pytest.mark.parametrize("written", [REMOTE, f"{REMOTE}, 127.0.0.1", f"10.1.1.1, {REMOTE}, ::1, 127.0.0.1", "",
                                     ", ".join(["127.0.0.1"] * 100)])
def test_a_visitor_behind_several_proxies_of_this_machine(header: str, written: str) -> None:
    """The proxies after the first name one another; the visitor is who came to the first one, and not of here."""
    environ = {"REMOTE_ADDR": "127.0.0.1", f"HTTP_{header}": written}
    assert not peers.from_loopback(environ)
    assert peers.address_of(environ) == (REMOTE if REMOTE in written else "unknown")


@pytest.mark.parametrize("header", ["VIA", "X_FORWARDED_PROTO", "X_FORWARDED_HOST", "X_FORWARDED_PREFIX"])
def test_a_proxy_that_does_not_name_its_visitor(header: str) -> None:
    """No visitor of it is of this machine, and what is missing is said."""
    environ = {"REMOTE_ADDR": "127.0.0.1", f"HTTP_{header}": "something"}
    assert not peers.from_loopback(environ)
    assert header.replace("_", "-").title() in peers.hidden(environ)
    assert peers.from_loopback({**environ, "HTTP_X_FORWARDED_FOR": "127.0.0.1"})
    assert not peers.hidden({**environ, "REMOTE_ADDR": REMOTE})


# -- waitress ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "local"), [
    ({}, False),
    ({"trusted_proxy": "127.0.0.1", "trusted_proxy_headers": "x-forwarded-for"}, True),
    ({"trusted_proxy": "*", "trusted_proxy_headers": "x-forwarded-for x-forwarded-proto"}, True),
    ({"trusted_proxy": "10.0.0.1", "trusted_proxy_headers": "x-forwarded-for"}, False),
    ({"trusted_proxy": "127.0.0.1", "trusted_proxy_headers": "x-forwarded-proto"}, False),
    ({"trusted_proxy": "127.0.0.1", "trusted_proxy_headers": "forwarded"}, False),
    ({"clear_untrusted_proxy_headers": False}, True),
    ({"ident": "something else"}, False),
])
def test_waitress_hides_proxies_unless_it_knows_them(options: dict[str, Any], local: bool) -> None:
    """Where ``X-Forwarded-For`` does not get through, nobody is of this machine, and the options are named."""
    environ = waitress_environ(**options)
    assert peers.from_loopback(environ) is local
    assert ("trusted_proxy='127.0.0.1'" in peers.hidden(environ)) is not local
    assert not peers.from_loopback({**environ, "HTTP_X_REAL_IP": REMOTE})


def test_waitress_that_trusts_everybody_is_not_believed() -> None:
    """``trusted_proxy='*'`` writes what a visitor made up into ``REMOTE_ADDR``; the connection tells."""
    environ = waitress_environ(REMOTE, trusted_proxy="*", trusted_proxy_headers="x-forwarded-for")
    assert not peers.from_loopback({**environ, "REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"})


@pytest.mark.parametrize("environ", [
    {"SERVER_SOFTWARE": "waitress"}, {"waitress.client_disconnected": lambda: False, "SERVER_SOFTWARE": "waitress/9"}])
def test_a_waitress_that_does_not_show_its_options_hides(environ: dict[str, Any]) -> None:
    """What cannot be known is not believed."""
    assert not peers.from_loopback({"REMOTE_ADDR": "127.0.0.1", **environ})


# -- Unix sockets --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
@pytest.mark.parametrize(("key", "address"), [("gunicorn.socket", ""), ("werkzeug.socket", "<local>")])
def test_the_peer_of_a_unix_socket_is_this_machine(key: str, address: str) -> None:
    """It has no address of its own, and is judged by what a proxy writes."""
    with connected(socket.AF_UNIX) as sock:
        environ = {"REMOTE_ADDR": address, key: sock}
        assert peers.from_loopback(environ)
        assert peers.address_of(environ) == "localhost"
        assert peers.from_loopback({**environ, "HTTP_X_FORWARDED_FOR": "127.0.0.1"})
        proxied = {**environ, "HTTP_X_FORWARDED_FOR": f"127.0.0.1, {REMOTE}"}
        for seen in (proxied, through(proxied, ProxyFix)):
            assert not peers.from_loopback(seen)
            assert peers.address_of(seen) == REMOTE


@pytest.mark.parametrize("address", ["", "<local>", "/run/app.sock", "unix:"])
def test_no_address_on_another_socket_is_not_local(address: str) -> None:
    """Only a Unix socket has none; and who bound one to a name of his own does not become an address."""
    with connected(socket.AF_INET) as sock:
        assert not peers.from_loopback({"REMOTE_ADDR": address, "werkzeug.socket": sock})
        assert peers.address_of({"REMOTE_ADDR": address, "werkzeug.socket": sock}) == "unknown"


@pytest.mark.parametrize("claims", CLAIMS)
def test_a_claim_on_a_connection_that_is_gone_does_not_count(claims: dict[str, str]) -> None:
    """Nothing can be asked of it any more: who sends a command and hangs up gains nothing by it."""
    with socket.socket() as sock:
        pass
    environ = {"REMOTE_ADDR": REMOTE, "SERVER_SOFTWARE": "gunicorn/27", "gunicorn.socket": sock, **claims}
    assert not peers.from_loopback(through(environ, ProxyFix, ProxyFix))
    assert not peers.from_loopback(through({**environ, "REMOTE_ADDR": "127.0.0.1"}, ProxyFix, ProxyFix))
    assert peers.from_loopback({"REMOTE_ADDR": "127.0.0.1", "gunicorn.socket": sock})


# -- how addresses are written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "address", "local"), [
    ("127.0.0.1:4711", "127.0.0.1", True), ("[::1]:4711", "::1", True), ("[::1]", "::1", True),
    ("::ffff:127.0.0.1", "127.0.0.1", True), (f"{REMOTE}:4711", REMOTE, False), (f"::ffff:{REMOTE}", REMOTE, False),
    ("[2001:db8::1]:443", "2001:db8::/64", False), ("2001:DB8:0::1", "2001:db8::/64", False),
    ("garbage", "unknown", False),
])
def test_an_address_is_one_however_it_is_written(written: str, address: str, local: bool) -> None:
    """With a port (as IIS writes it) or as IPv6 it is no other address, so that limits hold."""
    for environ in ({"REMOTE_ADDR": written}, {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": written}):
        assert peers.from_loopback(environ) is local
        assert local or peers.address_of(environ) == address
    assert peers.address_of({"REMOTE_ADDR": written}) == address


@pytest.mark.parametrize(("written", "port"), [
    ("4711", 4711), ("65535", 65535), ("", None), ("0", None), ("04711", None), ("+1", None), ("1_0", None),
    (" 1", None), ("\u00b2", None), ("\u0661", None), ("9" * 5000, None), ("-1", None), ("None", None)])
def test_a_port_is_plain_digits(written: str, port: int | None) -> None:
    """Some servers take it from a header: nonsense is no port, and no error."""
    assert port_of({"REMOTE_PORT": written}) == port
    assert OpeningRequest({"REMOTE_PORT": written}).opening_environ() == {"REMOTE_PORT": written}


def test_no_port_is_none() -> None:
    """A server need not say it."""
    assert port_of({}) is None


@pytest.mark.parametrize(("address", "counts_as"), [
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::", "2001:db8:1:2::/64"),
    ("2001:db8:1:3::1", "2001:db8:1:3::/64"), ("fe80::1%eth0", "fe80::/64"), ("::ffff:203.0.113.5", "203.0.113.5"),
    ("::1", "::1"), ("203.0.113.5", "203.0.113.5"),
])
def test_what_limits_count_as_one_address(address: str, counts_as: str) -> None:
    """Limits go by an IPv4 address, and by the 64 bits of an IPv6 address that its owner cannot choose."""
    assert peers.address_of({"REMOTE_ADDR": address}) == counts_as
    assert peers.address_of({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": address}) in (counts_as, "127.0.0.1")
