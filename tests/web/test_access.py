"""Guard: the table of who may do what, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakgal_hybrid.errors import AccessDenied, RequestError
from hakgal_hybrid.settings import Settings, load_settings
from hakgal_hybrid.web import access as guard
from hakgal_hybrid.web.origins import Origins

KEY = "k3y-of-the-house"
NO_KEY = load_settings({}, {})
WITH_KEY = load_settings({}, {}, api_key=KEY, origins="https://dash.example:8443")
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:5001"}
REMOTE = {"REMOTE_ADDR": "203.0.113.5", "HTTP_HOST": "hakgal.example"}


def judge(environ: dict[str, Any], settings: Settings, *, commands: bool) -> None:
    """Judge a request by its origin, and then by its address and key."""
    Origins(settings.origins).check(environ, client=False)
    guard.check(environ, settings, commands=commands)


def verdict(environ: dict[str, Any], settings: Settings, *, commands: bool) -> str:
    """Return "ok" or the code of the refusal."""
    try:
        judge(environ, settings, commands=commands)
    except AccessDenied as refusal:
        return refusal.code
    return "ok"


def both(environ: dict[str, Any], settings: Settings) -> tuple[str, str]:
    """Return the verdicts on reading and on commanding."""
    return verdict(environ, settings, commands=False), verdict(environ, settings, commands=True)


# -- the table -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("where", "settings", "key", "reading", "commanding"), [
    (LOCAL, NO_KEY, None, "ok", "ok"),
    (REMOTE, NO_KEY, None, "loopback_only", "loopback_only"),
    (LOCAL, NO_KEY, "any", "ok", "ok"),
    (REMOTE, NO_KEY, "any", "loopback_only", "loopback_only"),
    (LOCAL, WITH_KEY, None, "ok", "key_required"),
    (REMOTE, WITH_KEY, None, "key_required", "key_required"),
    (LOCAL, WITH_KEY, KEY, "ok", "ok"),
    (REMOTE, WITH_KEY, KEY, "ok", "ok"),
    (LOCAL, WITH_KEY, "wrong", "wrong_key", "wrong_key"),
    (REMOTE, WITH_KEY, "wrong", "wrong_key", "wrong_key"),
])
def test_place_and_key(where, settings, key, reading, commanding):
    """With a key set, commands and other machines need it; without one, only this machine may do anything."""
    environ = where if key is None else {**where, "HTTP_X_API_KEY": key}
    assert both(environ, settings) == (reading, commanding)


@pytest.mark.parametrize("key", [
    "", " ", KEY[:-1], KEY + "x", KEY + " ", " " + KEY, KEY.upper(), KEY[::-1], KEY + "\0", "K" + KEY[1:],
    "\xfc", KEY.replace("3", "\xb3"), KEY.replace("3", "\u0663"), "\u20ac", "k" * 100_000, f"{KEY},{KEY}",
], ids=lambda key: ascii(key)[:24])
def test_near_miss_of_a_key_is_wrong(key):
    """Only the very key is right: not a part of it, not with a space, not in capitals, not in other digits."""
    assert both({**LOCAL, "HTTP_X_API_KEY": key}, WITH_KEY) == ("wrong_key", "wrong_key")


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=20).filter(lambda key: key != KEY))
def test_no_other_text_is_the_key(key):
    """Whatever else stands in the header is refused, and never an error."""
    assert verdict({**REMOTE, "HTTP_X_API_KEY": key}, WITH_KEY, commands=True) == "wrong_key"


def test_refusals_say_what_to_do():
    """A refusal names the header or the setting that would help, and never the key."""
    with pytest.raises(AccessDenied, match="X-API-Key") as caught:
        guard.check(REMOTE, WITH_KEY, commands=False)
    assert KEY not in str(caught.value)
    with pytest.raises(AccessDenied, match="HAKGAL_API_KEY"):
        guard.check(REMOTE, NO_KEY, commands=False)
    with pytest.raises(AccessDenied, match="HYBRID_ORIGINS"):
        judge({**LOCAL, "HTTP_ORIGIN": "http://evil.example"}, NO_KEY, commands=False)
    with pytest.raises(AccessDenied, match="localhost"):
        guard.check({**LOCAL, "HTTP_HOST": "evil.example"}, NO_KEY, commands=False)


@pytest.mark.parametrize(("environ", "settings", "status"), [
    (REMOTE, NO_KEY, 403), (REMOTE, WITH_KEY, 401), ({**LOCAL, "HTTP_X_API_KEY": "wrong"}, WITH_KEY, 401),
    ({**LOCAL, "HTTP_ORIGIN": "null"}, NO_KEY, 403), ({**LOCAL, "HTTP_HOST": "evil.example"}, NO_KEY, 403),
])
def test_status_of_refusals(environ, settings, status):
    """What a key could mend is 401, everything else 403."""
    with pytest.raises(AccessDenied) as caught:
        judge(environ, settings, commands=True)
    assert caught.value.status == status
    assert caught.value.problem()["status"] == status


# -- origins ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("origin", [
    "http://localhost", "http://localhost:3000", "https://localhost:8443", "http://127.0.0.1:5173", "http://127.9.9.9",
    "http://[::1]:3000", "http://[::1]", "HTTP://LOCALHOST:3000", "http://app.localhost:3000",
    "https://dash.example:8443", "HTTPS://Dash.Example:8443",
])
def test_origin_is_allowed(origin):
    """Pages of this machine, on any port, and of HYBRID_ORIGINS may read and command."""
    assert both({**LOCAL, "HTTP_ORIGIN": origin, "HTTP_X_API_KEY": KEY}, WITH_KEY) == ("ok", "ok")


@pytest.mark.parametrize("origin", [
    "null", "", "http://evil.example", "https://evil.example", "http://localhost.evil.example",
    "http://127.0.0.1.evil.example", "http://evil.example:5001", "http://notlocalhost", "http://localhost@evil.example",
    "https://dash.example", "http://dash.example:8443", "https://dash.example:8444",
    "https://dash.example:8443.evil.example", "https://sub.dash.example:8443", "file://", "file://localhost",
    "chrome-extension://localhost", "localhost", "//localhost", "javascript:alert(1)", "http://", "http://[::1",
    "http://[zz]", "http://0x7f.1", "*", "http://xn--lcalhost-jzb",
])
@pytest.mark.parametrize(("where", "key"), [(LOCAL, None), (LOCAL, KEY), (REMOTE, KEY)])
def test_foreign_origin_is_refused(origin, where, key):
    """A page of any other origin may do nothing, whatever key it sends: somebody else's page holds it."""
    environ = {**where, "HTTP_ORIGIN": origin, **({"HTTP_X_API_KEY": key} if key else {})}
    assert both(environ, WITH_KEY) == ("foreign_origin", "foreign_origin")


@pytest.mark.parametrize("host", ["hakgal.example", "hakgal.example:8080", "HAKGAL.example:8080"])
def test_same_origin_is_allowed(host):
    """A page that we serve ourselves may use us, under whatever name it was reached."""
    environ = {**REMOTE, "HTTP_HOST": host, "HTTP_ORIGIN": f"http://{host}".lower(), "HTTP_X_API_KEY": KEY}
    assert both(environ, WITH_KEY) == ("ok", "ok")
    environ["HTTP_ORIGIN"] += "1"
    assert both(environ, WITH_KEY) == ("foreign_origin", "foreign_origin")


def test_request_without_a_host_has_no_same_origin():
    """An HTTP/1.0 request without Host matches no origin by its absence."""
    assert verdict({"REMOTE_ADDR": "127.0.0.1", "HTTP_ORIGIN": "http://"}, NO_KEY, commands=False) == "foreign_origin"
    assert verdict({"REMOTE_ADDR": "127.0.0.1"}, NO_KEY, commands=False) == "ok"


# -- hosts -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("host", [
    "localhost", "localhost:5001", "LocalHost:5001", "localhost.", "127.0.0.1", "127.0.0.1:5001", "127.1.2.3:1",
    "[::1]", "[::1]:5001", "app.localhost:5001", "ip6-localhost",
])
def test_loopback_host_is_accepted(host):
    """A local request that addresses us by a loopback name, with or without a port, passes."""
    assert both({**LOCAL, "HTTP_HOST": host}, NO_KEY) == ("ok", "ok")


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:5001", "localhost.evil.example", "127.0.0.1.evil.example:5001", "192.168.1.5:5001",
    "[2001:db8::1]:5001", "0.0.0.0:5001", "[::]:5001", "", ":5001", "localhost:x:y", "evil.example:localhost",
    "128.0.0.1", "localhostx",
])
@pytest.mark.parametrize("origin", [None, "same"])
def test_foreign_host_is_refused(host, origin):
    """A local request under a foreign name is how DNS rebinding looks, even from what calls itself the same origin."""
    environ = {**LOCAL, "HTTP_HOST": host}
    if origin and host:
        environ["HTTP_ORIGIN"] = f"http://{host}"
    reading, commanding = both(environ, NO_KEY)
    assert reading in ("foreign_host", "foreign_origin")
    assert commanding == reading
    assert verdict(environ, WITH_KEY, commands=False) == reading


def test_key_makes_the_host_irrelevant():
    """Who sends the key may use any name: a rebinding page does not have it."""
    assert both({**LOCAL, "HTTP_HOST": "hakgal.example", "HTTP_X_API_KEY": KEY}, WITH_KEY) == ("ok", "ok")


# -- addresses and proxies -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("address", "local"), [
    ("127.0.0.1", True), ("127.255.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
    ("::ffff:203.0.113.5", False), ("203.0.113.5", False), ("10.0.0.1", False), ("0.0.0.0", False), ("::", False),
    ("fe80::1", False), ("", False), ("unix:", False), ("128.0.0.1", False),
])
def test_peer_address(address, local):
    """This machine is 127.0.0.0/8 and ::1, also where IPv6 sockets show IPv4 peers; nothing else is."""
    assert guard.from_loopback({"REMOTE_ADDR": address}) is local


def test_no_peer_address_is_not_local():
    """A server that does not say who the peer is gets no trust for that."""
    assert not guard.from_loopback({})


ADDRESSES = [
    ("127.0.0.1", True), ("::1", True), ("[::1]", True), ("127.0.0.1:40000", True), ("[::1]:40000", True),
    ("203.0.113.5", False), ("203.0.113.5:443", False), ("2001:db8::1", False), ("[2001:db8::1]:443", False),
    ("unknown", False), ("", False), (" ", False), ("127.0.0.1.evil.example", False), ("garbage:1:2", False),
    ("-", False), ("_hidden", False),
]


@pytest.mark.parametrize(("address", "local"), ADDRESSES)
@pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED"])
@pytest.mark.parametrize("spoofed", ["", "127.0.0.1, ", "::1, 127.0.0.1,", "203.0.113.9, localhost, "])
def test_proxy_is_judged_by_the_address_it_wrote(header, spoofed, address, local):
    """Any address that is not of this machine makes a visitor one of another; what is no address is far."""
    if header == "HTTP_FORWARDED":
        left = ", ".join(f"for={part.strip()}" for part in spoofed.split(",") if part.strip())
        value = f'{left}, for="{address}"' if left else f'for="{address}"'
    else:
        value = spoofed + address
    assert guard.from_loopback({"REMOTE_ADDR": "127.0.0.1", header: value}) is (local and "203.0" not in spoofed)


@pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED"])
def test_headers_of_a_remote_peer_are_not_believed(header):
    """Who is not on this machine does not get here by claiming to be."""
    value = "for=127.0.0.1" if header == "HTTP_FORWARDED" else "127.0.0.1"
    assert not guard.from_loopback({"REMOTE_ADDR": "203.0.113.5", header: value})


@pytest.mark.parametrize(("value", "local"), [
    ("for=127.0.0.1", True), ("For=127.0.0.1", True), ('for="127.0.0.1:80"', True), ('for="[::1]:80"', True),
    ("proto=https;for=127.0.0.1;by=203.0.113.9", True), (" for=127.0.0.1 ; proto=http", True),
    ("for=203.0.113.5;by=127.0.0.1", False), ("by=127.0.0.1", False), ("for=", False), ("for", False), ("", False),
    (";;;", False), (",", False), ("127.0.0.1", False), ("for=unknown", False), ("for=_secret", False),
    ("for=127.0.0.1,", False), ("xfor=127.0.0.1", False),
    ('for=203.0.113.5;host="a,for=127.0.0.1"', False), ('host="a;for=127.0.0.1";for=203.0.113.5', False),
    ('host="a\\";for=127.0.0.1";for=203.0.113.5', False), ('for=203.0.113.5;host="a, for=127.0.0.1', False),
])
def test_forwarded(value, local):
    """Forwarded (RFC 7239) counts by the for= of its last element; what stands in quotes (a Host) is none."""
    assert guard.from_loopback({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": value}) is local


def test_every_forwarding_header_must_agree():
    """If a proxy writes several headers, one that names another machine is enough."""
    environ = {"REMOTE_ADDR": "::1", "HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_REAL_IP": "203.0.113.5"}
    assert not guard.from_loopback(environ)
    assert guard.from_loopback({**environ, "HTTP_X_REAL_IP": "127.0.0.1"})
    assert not guard.from_loopback({**environ, "HTTP_X_REAL_IP": "127.0.0.1", "HTTP_FORWARDED": "for=203.0.113.5"})


def test_client_behind_a_proxy_is_remote():
    """Seen through a proxy on this machine, another machine needs the key like any other."""
    proxied = {**LOCAL, "HTTP_X_FORWARDED_FOR": "127.0.0.1, 203.0.113.5"}
    assert both(proxied, NO_KEY) == ("loopback_only", "loopback_only")
    assert both(proxied, WITH_KEY) == ("key_required", "key_required")
    assert both({**proxied, "HTTP_X_API_KEY": KEY}, WITH_KEY) == ("ok", "ok")


@pytest.mark.parametrize(("host", "loopback"), [
    ("localhost", True), ("LOCALHOST", True), ("localhost.", True), (" localhost ", True), ("a.localhost", True),
    ("127.0.0.1", True), ("[::1]", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0:0:0:0:0:0:0:1", True),
    ("localhost.example", False), ("alocalhost", False), ("127.1", False), ("2130706433", False), ("0177.0.0.1", False),
    ("", False), (".", False), ("::2", False), ("\u0661\u0662\u0667.0.0.1", False),
])
def test_is_loopback(host, loopback):
    """Loopback is localhost, names below it, and addresses written in the ordinary way."""
    assert guard.is_loopback(host) is loopback


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(["REMOTE_ADDR", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_X_FORWARDED_FOR",
                                        "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_X_API_KEY"]),
                       st.text(max_size=12) | st.text("[]:.,;=\"/@1for\u0661 ", max_size=16)))
def test_nothing_makes_the_guard_stumble(environ):
    """Whatever stands in the headers, the answer is yes or a refusal, and never yes without a loopback peer."""
    reading, commanding = both(environ, NO_KEY)
    assert commanding == reading
    assert reading != "ok" or guard.is_loopback(environ["REMOTE_ADDR"])
    assert verdict(environ, WITH_KEY, commands=True) != "ok"


# -- content types ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON",
                                          " application/json ;charset=\"UTF-8\"", "application/json;",
                                          "application/json; a=b"])
def test_json_is_accepted(content_type):
    """A body that is declared as JSON passes, with any parameters."""
    guard.require_json({"CONTENT_TYPE": content_type})


@pytest.mark.parametrize("content_type", [
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "text/plain;application/json", "application/json; charset=latin-1", "application/json; charset=utf-16",
    "application/jsonx", "application/json, text/plain", "text/json", "json",
])
def test_what_a_form_could_send_is_refused(content_type):
    """What a cross-site form can send without asking is refused with 415."""
    with pytest.raises(RequestError) as caught:
        guard.require_json({"CONTENT_TYPE": content_type})
    assert (caught.value.status, caught.value.code) == (415, "not_json")


def test_no_content_type_is_refused():
    """So is a body of no declared type."""
    with pytest.raises(RequestError):
        guard.require_json({})
