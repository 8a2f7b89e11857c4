"""Settings: where each value comes from, what is refused, and what never shows."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest
from support.log_records import own_records

from hakgal_hybrid.errors import ConfigurationError
from hakgal_hybrid.settings import Profile, Settings, current_profile, load_settings


@pytest.mark.parametrize("setting", dataclasses.fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_is_a_typed_keyword(setting):
    """The keywords that editors and type checkers know take what the settings hold; there are no others."""
    from hakgal_hybrid.settings import keywords

    keywords.Profile = Profile  # imported for type checkers only
    known = get_type_hints(keywords.SettingsKeywords)
    assert list(known) == [item.name for item in dataclasses.fields(Settings)]
    held = get_type_hints(Settings)[setting.name]
    accepted = set(get_args(known[setting.name]))
    assert {NoneType, *(get_args(held) if isinstance(held, UnionType) else (held,))} <= accepted
    assert accepted <= {held, NoneType, str, list[str], *get_args(held), os.PathLike[str]}


@pytest.mark.once
@pytest.mark.long
def test_a_misspelt_keyword_is_found_by_a_type_checker(tmp_path):
    """Keywords and their types are checked where a transport is made."""
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom hakgal_hybrid import HybridTransport\n"
        "HybridTransport(Flask('a'), heartbeat_s=1, origins=['http://a.example'], profile='DUAL', journal=None)\n"
        "HybridTransport(Flask('b'), hartbeat_s=1)\nHybridTransport(Flask('c'), threads='many')\n")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "app.py"],
                          cwd=tmp_path, env={**os.environ, "MYPYPATH": str(Path(__file__).resolve().parents[1])},
                          capture_output=True, text=True, timeout=110, check=False)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[1] for line in lines] == ["4", "5"], done.stdout
    assert "hartbeat_s" in lines[0]


class Variable(NamedTuple):
    """One setting: its names, its default, and two texts with what they mean."""

    field: str
    env: str
    config: str
    default: Any
    text: str
    value: Any
    other_text: str
    other: Any


VARIABLES = [
    Variable("profile", "APP_PROFILE", "HYBRID_PROFILE", Profile.HYBRID,
             "websocket", Profile.WEBSOCKET, "HYBRID", Profile.HYBRID),
    Variable("enable_sse", "ENABLE_SSE", "HYBRID_ENABLE_SSE", True, "false", False, "on", True),
    Variable("enable_control_http", "ENABLE_CONTROL_HTTP", "HYBRID_ENABLE_CONTROL_HTTP", True, "0", False, "Yes", True),
    Variable("enable_ws_special", "ENABLE_WS_SPECIAL", "HYBRID_ENABLE_WS_SPECIAL", False,
             "off", False, " NO ", False),
    Variable("api_key", "HAKGAL_API_KEY", "HYBRID_API_KEY", None, "k-1", "k-1", "k-2", "k-2"),
    Variable("access", "HYBRID_ACCESS", "HYBRID_ACCESS", "local", "app", "app", " Local ", "local"),
    Variable("port", "HAKGAL_PORT", "HYBRID_PORT", 5001, "0", 0, "65535", 65535),
    Variable("origins", "HYBRID_ORIGINS", "HYBRID_ORIGINS", None, "https://Dash.example:8443, http://a.example",
             ("https://dash.example:8443", "http://a.example"), "", ()),
    Variable("prefix", "HYBRID_PREFIX", "HYBRID_PREFIX", "", "/live/", "/live", "a/b.c", "/a/b.c"),
    Variable("log_events", "HYBRID_LOG_EVENTS", "HYBRID_LOG_EVENTS", 10_000, "1", 1, "7", 7),
    Variable("log_bytes", "HYBRID_LOG_BYTES", "HYBRID_LOG_BYTES", 32 << 20, "2097152", 2 << 20, "1048576", 1 << 20),
    Variable("max_event_bytes", "HYBRID_MAX_EVENT_BYTES", "HYBRID_MAX_EVENT_BYTES", 1 << 20, "64", 64, "100", 100),
    Variable("conflate", "HYBRID_CONFLATE", "HYBRID_CONFLATE",
             ("kb_update", "kb_metrics", "system_load_update", "gpu_update"), "", (), "a*, b", ("a*", "b")),
    Variable("journal", "HYBRID_JOURNAL", "HYBRID_JOURNAL", None, "a/b.sqlite3", "a/b.sqlite3", "", None),
    Variable("journal_flush_ms", "HYBRID_JOURNAL_FLUSH_MS", "HYBRID_JOURNAL_FLUSH_MS", 50, "1", 1, "2.5", 2.5),
    Variable("journal_max_bytes", "HYBRID_JOURNAL_MAX_BYTES", "HYBRID_JOURNAL_MAX_BYTES", 64 << 20,
             "65536", 1 << 16, "1048576", 1 << 20),
    Variable("journal_max_age_s", "HYBRID_JOURNAL_MAX_AGE_S", "HYBRID_JOURNAL_MAX_AGE_S", 86_400, "1", 1, "9", 9),
    Variable("backplane", "HYBRID_BACKPLANE", "HYBRID_BACKPLANE", None, "redis://a:1/2", "redis://a:1/2", "", None),
    Variable("backplane_name", "HYBRID_BACKPLANE_NAME", "HYBRID_BACKPLANE_NAME", None, "a.b", "a.b", "", None),
    Variable("outbox_events", "HYBRID_OUTBOX_EVENTS", "HYBRID_OUTBOX_EVENTS", 10_000, "1", 1, "9", 9),
    Variable("outbox_bytes", "HYBRID_OUTBOX_BYTES", "HYBRID_OUTBOX_BYTES", 16 << 20, "1024", 1024, "2048", 2048),
    Variable("role", "HYBRID_ROLE", "HYBRID_ROLE", "host", "edge", "edge", " Edge ", "edge"),
    Variable("governor_mode", "HYBRID_GOVERNOR", "HYBRID_GOVERNOR", "desk", "here", "here", " OFF ", "off"),
    Variable("flush_s", "HYBRID_FLUSH_S", "HYBRID_FLUSH_S", 5, "0", 0, "600", 600),
    Variable("retry_ms", "HYBRID_RETRY_MS", "HYBRID_RETRY_MS", 3000, "1", 1, "500", 500),
    Variable("heartbeat_s", "HYBRID_HEARTBEAT_S", "HYBRID_HEARTBEAT_S", 15, "0.05", 0.05, "3600", 3600),
    Variable("interval_ms", "HYBRID_INTERVAL_MS", "HYBRID_INTERVAL_MS", 0, "0", 0, "10000", 10_000),
    Variable("max_backlog_s", "HYBRID_MAX_BACKLOG_S", "HYBRID_MAX_BACKLOG_S", 60, "0.5", 0.5, "30", 30),
    Variable("stall_s", "HYBRID_STALL_S", "HYBRID_STALL_S", 20, "1.5", 1.5, "2", 2),
    Variable("drain_s", "HYBRID_DRAIN_S", "HYBRID_DRAIN_S", 2, "0", 0, "600", 600),
    Variable("resume_s", "HYBRID_RESUME_S", "HYBRID_RESUME_S", 60, "0", 0, "86400", 86400),
    Variable("socketio_recovery", "HYBRID_SOCKETIO_RECOVERY", "HYBRID_SOCKETIO_RECOVERY", "off",
             "auto", "auto", " On ", "on"),
    Variable("connect_s", "HYBRID_CONNECT_S", "HYBRID_CONNECT_S", 30, "0.05", 0.05, "3600", 3600),
    Variable("max_clients", "HYBRID_MAX_CLIENTS", "HYBRID_MAX_CLIENTS", 50_000, "1", 1, "9", 9),
    Variable("allow_blocking_call", "HYBRID_ALLOW_BLOCKING_CALL", "HYBRID_ALLOW_BLOCKING_CALL", False,
             "true", True, "0", False),
    Variable("max_streams", "HYBRID_MAX_STREAMS", "HYBRID_MAX_STREAMS", 10_000, "0", 0, "5", 5),
    Variable("max_streams_per_address", "HYBRID_MAX_STREAMS_PER_ADDRESS", "HYBRID_MAX_STREAMS_PER_ADDRESS", 1000,
             "3", 3, "4", 4),
    Variable("connect_rate", "HYBRID_CONNECT_RATE", "HYBRID_CONNECT_RATE", 100, "0.5", 0.5, "7", 7),
    Variable("max_rooms", "HYBRID_MAX_ROOMS", "HYBRID_MAX_ROOMS", 1000, "1", 1, "9", 9),
    Variable("max_answer_bytes", "HYBRID_MAX_ANSWER_BYTES", "HYBRID_MAX_ANSWER_BYTES", 4 << 20, "64", 64, "99", 99),
    Variable("command_rate", "HYBRID_COMMAND_RATE", "HYBRID_COMMAND_RATE", 2000, "0.5", 0.5, "7", 7),
    Variable("max_head_bytes", "HYBRID_MAX_HEAD_BYTES", "HYBRID_MAX_HEAD_BYTES", 64 << 10, "1024", 1024,
             "2048", 2048),
    Variable("max_connections", "HYBRID_MAX_CONNECTIONS", "HYBRID_MAX_CONNECTIONS", 4096, "1", 1, "9", 9),
    Variable("command_queue", "HYBRID_COMMAND_QUEUE", "HYBRID_COMMAND_QUEUE", 100, "1", 1, "2", 2),
    Variable("command_results", "HYBRID_COMMAND_RESULTS", "HYBRID_COMMAND_RESULTS", 1000, "1", 1, "2", 2),
    Variable("threads", "HYBRID_THREADS", "HYBRID_THREADS", 32, "1", 1, "4096", 4096),
    Variable("extra_threads", "HYBRID_EXTRA_THREADS", "HYBRID_EXTRA_THREADS", 256, "0", 0, "65536", 65536),
    Variable("spool_bytes", "HYBRID_SPOOL_BYTES", "HYBRID_SPOOL_BYTES", 256 << 20, "0", 0, "1099511627776", 1 << 40),
    Variable("reserved_threads", "HYBRID_RESERVED_THREADS", "HYBRID_RESERVED_THREADS", 4, "1", 1, "64", 64),
    Variable("max_upgrades", "HYBRID_MAX_UPGRADES", "HYBRID_MAX_UPGRADES", 64, "0", 0, "9", 9),
    Variable("queue_requests", "HYBRID_QUEUE_REQUESTS", "HYBRID_QUEUE_REQUESTS", 512, "0", 0, "9", 9),
    Variable("queue_bytes", "HYBRID_QUEUE_BYTES", "HYBRID_QUEUE_BYTES", 256 << 20, "0", 0, "9", 9),
    Variable("queue_s", "HYBRID_QUEUE_S", "HYBRID_QUEUE_S", 30, "0.01", 0.01, "3600", 3600),
    Variable("max_body_bytes", "HYBRID_MAX_BODY_BYTES", "HYBRID_MAX_BODY_BYTES", 64 << 20, "0", 0, "9", 9),
    Variable("max_message_bytes", "HYBRID_MAX_MESSAGE_BYTES", "HYBRID_MAX_MESSAGE_BYTES", 1 << 20, "64", 64, "99", 99),
    Variable("request_s", "HYBRID_REQUEST_S", "HYBRID_REQUEST_S", 30, "0.05", 0.05, "5", 5),
    Variable("switch_interval_ms", "HYBRID_SWITCH_INTERVAL_MS", "HYBRID_SWITCH_INTERVAL_MS", 0.5,
             "0.01", 0.01, "1000", 1000),
]

every_variable = pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.field)


def test_the_table_above_is_complete():
    """Every field of Settings stands in the table of this file, so that none goes untested."""
    assert {variable.field for variable in VARIABLES} == {field.name for field in dataclasses.fields(Settings)}


@every_variable
def test_default(variable):
    """Without any source a setting has its documented default."""
    assert getattr(load_settings({}, {}), variable.field) == variable.default


@every_variable
def test_environment(variable):
    """A setting is read from its environment variable."""
    settings = load_settings({}, {variable.env: variable.text})
    assert getattr(settings, variable.field) == variable.value


@every_variable
def test_app_config_key(variable):
    """A setting is read from its key of app.config, which always begins with HYBRID_."""
    assert variable.config.startswith("HYBRID_")
    assert getattr(load_settings({variable.config: variable.text}, {}), variable.field) == variable.value


@every_variable
def test_keyword(variable):
    """A setting is taken from the keyword of its field's name."""
    assert getattr(load_settings({}, {}, **{variable.field: variable.text}), variable.field) == variable.value


@every_variable
def test_precedence(variable):
    """A keyword wins over app.config, and app.config wins over the environment."""
    environ = {variable.env: variable.text}
    config = {variable.config: variable.other_text}
    assert getattr(load_settings(config, environ), variable.field) == variable.other
    config = {variable.config: variable.text}
    assert getattr(load_settings(config, environ, **{variable.field: variable.other_text}),
                   variable.field) == variable.other


@every_variable
def test_none_is_no_value(variable):
    """A key that holds None says nothing, so the next source is asked."""
    settings = load_settings({variable.config: None}, {variable.env: variable.text}, **{variable.field: None})
    assert getattr(settings, variable.field) == variable.value


@every_variable
def test_parsed_values_are_accepted_again(variable):
    """What a setting is once parsed is accepted as a keyword as well: numbers, tuples, booleans, profiles."""
    assert getattr(load_settings({}, {}, **{variable.field: variable.value}), variable.field) == variable.value


def test_process_environment_is_the_default(monkeypatch):
    """Without an explicit environment the one of the process is read."""
    monkeypatch.setenv("HYBRID_RETRY_MS", "1234")
    assert load_settings().retry_ms == 1234


@pytest.mark.parametrize("name", ["PATH", "ENABLE_WHATEVER", "HAKGAL_OTHER", "APP_PROFILES"])
def test_foreign_variables_are_left_alone(name):
    """Variables that do not begin with HYBRID_ may be anybody's and are not looked at."""
    assert load_settings({name: "x"}, {name: "x"}) == load_settings({}, {})


BOOLEAN = "one of true, false, 1, 0, yes, no, on, off"
ORIGINS = "a comma-separated list of origins such as https://dash.example:8443"

WRONG = [
    ("APP_PROFILE", "HYBIRD", "HYBRID, WEBSOCKET or DUAL"),
    ("ENABLE_SSE", "flase", BOOLEAN),
    ("ENABLE_SSE", "", BOOLEAN),
    ("ENABLE_SSE", "2", BOOLEAN),
    ("ENABLE_CONTROL_HTTP", "enabled", BOOLEAN),
    ("ENABLE_WS_SPECIAL", "maybe", BOOLEAN),
    ("HAKGAL_PORT", "http", "a whole number from 0 to 65535"),
    ("HAKGAL_PORT", "-1", "a whole number from 0 to 65535"),
    ("HAKGAL_PORT", "65536", "a whole number from 0 to 65535"),
    ("HAKGAL_PORT", "8_0", "a whole number from 0 to 65535"),
    ("HAKGAL_PORT", "\u0668\u0660", "a whole number from 0 to 65535"),
    ("HYBRID_STALL_S", "2_0", "a number from 0.05 to 3600"),
    ("HAKGAL_PORT", "80.0", "a whole number from 0 to 65535"),
    ("HAKGAL_PORT", "", "a whole number from 0 to 65535"),
    ("HYBRID_ORIGINS", "dash.example", ORIGINS),
    ("HYBRID_ORIGINS", "https://*.dash.example", ORIGINS),
    ("HYBRID_ORIGINS", "https://dash.example/", ORIGINS),
    ("HYBRID_ORIGINS", "https://dash.example?x=1", ORIGINS),
    ("HYBRID_ORIGINS", "ftp://dash.example", ORIGINS),
    ("HYBRID_ORIGINS", "https://ok.example,null", ORIGINS),
    ("HYBRID_ORIGINS", "http://[::1", ORIGINS),
    ("HYBRID_LOG_EVENTS", "0", "a whole number from 1 to"),
    ("HYBRID_LOG_EVENTS", "1e3", "a whole number from 1 to"),
    ("HYBRID_LOG_BYTES", "1023", "a whole number from 1024 to"),
    ("HYBRID_MAX_EVENT_BYTES", "63", "a whole number from 64 to"),
    ("HYBRID_MAX_EVENT_BYTES", "33554433", "at most HYBRID_LOG_BYTES"),
    ("HYBRID_RETRY_MS", "0", "a whole number from 1 to 3.6e+06"),
    ("HYBRID_HEARTBEAT_S", "nan", "a number from 0.05 to 3600"),
    ("HYBRID_HEARTBEAT_S", "inf", "a number from 0.05 to 3600"),
    ("HYBRID_HEARTBEAT_S", "0", "a number from 0.05 to 3600"),
    ("HYBRID_HEARTBEAT_S", "15s", "a number from 0.05 to 3600"),
    ("HYBRID_MAX_BACKLOG_S", "-1", "a number from 0.05 to 86400"),
    ("HYBRID_DRAIN_S", "601", "a number from 0 to 600"),
    ("HYBRID_MAX_STREAMS", "many", "a whole number from 0 to 1e+06"),
    ("HYBRID_COMMAND_QUEUE", "0", "a whole number from 1 to 100000"),
    ("HYBRID_THREADS", "0", "a whole number from 1 to 4096"),
]


@pytest.mark.parametrize(("variable", "value", "accepted"), WRONG)
def test_wrong_value_is_refused_at_start(variable, value, accepted):
    """A wrong value is a ConfigurationError that names the variable, quotes the value and says what is accepted."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings({}, {variable: value})
    quoted = {"33554433": "33554433"}.get(value, repr(value))  # what parses is told as what it means
    assert f"{variable}={quoted} is not accepted" in str(caught.value)
    assert accepted in str(caught.value)
    assert caught.value.problem()["code"] == "configuration"


@pytest.mark.parametrize(("key", "value"), [
    ("HYBRID_PORT", True), ("HYBRID_PORT", [1]), ("HYBRID_ENABLE_SSE", 2), ("HYBRID_ENABLE_SSE", []),
    ("HYBRID_ENABLE_SSE", 1.0), ("HYBRID_CONFLATE", 5), ("HYBRID_CONFLATE", [1]), ("HYBRID_CONFLATE", {"a": 1}),
    ("HYBRID_PROFILE", 3), ("HYBRID_HEARTBEAT_S", object()), ("HYBRID_API_KEY", 12345),
])
def test_wrong_type_in_app_config_is_refused(key, value):
    """A value of a type that makes no sense in app.config is a ConfigurationError that names its key."""
    with pytest.raises(ConfigurationError, match=key):
        load_settings({key: value}, {})


def test_error_names_the_source_it_came_from():
    """The error names the key that holds the value: of app.config, of the environment, or the keyword."""
    with pytest.raises(ConfigurationError, match=r"^HAKGAL_PORT="):
        load_settings({}, {"HAKGAL_PORT": "x"})
    with pytest.raises(ConfigurationError, match=r"^HYBRID_PORT="):
        load_settings({"HYBRID_PORT": "x"}, {"HAKGAL_PORT": "1"})
    with pytest.raises(ConfigurationError, match=r"^port="):
        load_settings({"HYBRID_PORT": "1"}, {}, port="x")


@pytest.mark.parametrize("profile", list(Profile))
def test_every_profile_allows_ws_special(profile):
    """ENABLE_WS_SPECIAL is accepted in every profile, also where it means nothing."""
    assert load_settings({}, {"APP_PROFILE": profile.value, "ENABLE_WS_SPECIAL": "true"}).enable_ws_special


@pytest.mark.parametrize(("name", "meant"), [
    ("HYBRID_HEARTBEATS", "HYBRID_HEARTBEAT_S"), ("HYBRID_retry_ms", "HYBRID_RETRY_MS"),
    ("HYBRID_DRAIN_SECONDS", "HYBRID_DRAIN_S"), ("HYBRID_THREAD", "HYBRID_THREADS"), ("HYBRID_PORT", "HAKGAL_PORT"),
    ("HYBRID_APIKEY", "HAKGAL_API_KEY"), ("HYBRID_RETRY", "HYBRID_RETRY_MS"), ("HYBRID_STALL", "HYBRID_STALL_S"),
    ("HYBRID_MAX_STREAM", "HYBRID_MAX_STREAMS"), ("HYBRID_HARTBEAT_S", "HYBRID_HEARTBEAT_S"),
    ("HYBRID_RETRY_MSEC", "HYBRID_RETRY_MS"), ("hybrid_threads", "HYBRID_THREADS"),
    ("Hybrid_Stall_S", "HYBRID_STALL_S"),
    ("HYBRID-STALL-S", "HYBRID_STALL_S"), ("HAKGAL_APIKEY", "HAKGAL_API_KEY"), ("hakgal_api_key", "HAKGAL_API_KEY")])
def test_misspelt_variable_is_refused(name, meant):
    """A variable that is nearly a setting is refused with that one, not silently ignored; its key is masked."""
    with pytest.raises(ConfigurationError, match=rf"did you mean {meant}\?") as caught:
        load_settings({}, {name: "hush"})
    assert name in str(caught.value)
    assert ("hush" in str(caught.value)) == ("KEY" not in name.upper())


#: What Kubernetes sets in every container beside a service that is called "hybrid", and one called "hakgal".
KUBERNETES = {
    "HYBRID_THREADS_SERVICE_PORT": "1", "HYBRID_STALL_S_PORT_80_UDP": "udp://10.0.0.9:80",
    "HYBRID_SERVICE_HOST": "10.0.0.7", "HYBRID_SERVICE_PORT": "80", "HYBRID_SERVICE_PORT_HTTP": "80",
    "HYBRID_PORT": "tcp://10.0.0.7:80", "HYBRID_PORT_80_TCP": "tcp://10.0.0.7:80", "HYBRID_PORT_80_TCP_PROTO": "tcp",
    "HYBRID_PORT_80_TCP_PORT": "80", "HYBRID_PORT_80_TCP_ADDR": "10.0.0.7", "HAKGAL_SERVICE_HOST": "10.0.0.8",
    "HAKGAL_PORT": "tcp://10.0.0.8:80"}


def test_foreign_variables_are_named_once(caplog, monkeypatch):
    """Variables that are somebody else's change no setting; one warning of the process names them all."""
    monkeypatch.setattr("hakgal_hybrid.settings.environ._warned", set())
    for _ in range(3):
        assert load_settings({}, {**KUBERNETES, "HYBRID_THREADS": "7"}) == load_settings({}, {"HYBRID_THREADS": "7"})
    [record] = own_records(caplog)
    ours = {name for name in KUBERNETES if name != "HAKGAL_SERVICE_HOST"}
    assert {name.strip(",") for name in record.getMessage().split() if name.startswith("H")} == ours


@pytest.mark.parametrize("name", ["HYBRID_LOG_LEVEL", "HYBRID_LOG", "HYBRID_LOG_FILE", "HYBRID_HOST", "HYBRID_DEBUG",
                                  "HYBRID_CLOUD_REGION", "HYBRID_MODE", "HYBRID_DATABASE_URL"])
def test_another_word_is_no_misspelt_one(name):
    """A variable of somebody else, whose name begins like a setting's, does not stop the app."""
    assert load_settings({}, {name: "x"}) == load_settings({}, {})


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_profile_is_as_none(value):
    """``APP_PROFILE=`` in a service file or a compose file means nothing."""
    assert load_settings({}, {"APP_PROFILE": value}) == load_settings({}, {})
    assert current_profile({"APP_PROFILE": value}) is Profile.HYBRID


@pytest.mark.parametrize("name", ["HYBRID_HEARTBEATS", "HYBRID_", "HYBRID_retry_ms", "HYBRID_SERVICE_HOST"])
def test_unknown_key_of_app_config_is_refused(name):
    """A HYBRID_ key of app.config that no setting has is refused with the ones that exist."""
    with pytest.raises(ConfigurationError, match=r"HYBRID_HEARTBEAT_S") as caught:
        load_settings({name: "1"}, {})
    assert name in str(caught.value)


def test_config_key_is_no_environment_variable():
    """The HYBRID_ forms of the three migration variables belong to app.config; in the environment they are refused."""
    with pytest.raises(ConfigurationError, match=r"HYBRID_ENABLE_SSE.*did you mean ENABLE_SSE\?"):
        load_settings({}, {"HYBRID_ENABLE_SSE": "true"})


def test_unknown_keyword_is_refused():
    """A keyword that is no setting is refused with the ones that are."""
    with pytest.raises(ConfigurationError, match=r"heartbeat=1 .*heartbeat_s"):
        load_settings({}, {}, heartbeat=1)


def test_key_is_masked_in_repr():
    """The API key never shows in the repr of the settings, and its absence does."""
    assert "hush" not in repr(load_settings({}, {}, api_key="hush"))
    assert "***" in repr(load_settings({}, {}, api_key="hush"))
    assert "api_key=None" in repr(load_settings({}, {}))


@pytest.mark.parametrize(("config", "environ", "keywords"), [
    ({}, {"HAKGAL_API_KEY": "hüsh"}, {}),
    ({"HYBRID_API_KEY": "hüsh"}, {}, {}),
    ({"HYBRID_API_KEY": b"h\xc3\xbcsh"}, {}, {}),
    ({}, {}, {"api_key": "hüsh"}),
    ({}, {"HYBRID_API_KEY": "hüsh"}, {}),
    ({"HYBRID_APIKEY": "hüsh"}, {}, {}),
    ({}, {}, {"apikey": "hüsh"}),
], ids=["env", "config", "bytes", "keyword", "config key in env", "misspelt in config", "misspelt keyword"])
def test_key_is_masked_in_errors(config, environ, keywords):
    """A key that is refused, or stands under a name that is, is not repeated in the error, which gets logged."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, environ, **keywords)
    assert "sh'" not in str(caught.value)
    assert "sh'" not in str(caught.value.problem())


@pytest.mark.parametrize("key", ["tab\there", "new\nline", "sn\u00f6", "\x7f", " ", " key", "key "])
def test_key_that_cannot_travel_in_a_header_is_refused(key):
    """A key is printable ASCII text without spaces around it, because it is sent as a header."""
    with pytest.raises(ConfigurationError, match="printable ASCII"):
        load_settings({}, {"HAKGAL_API_KEY": key})


def test_empty_key_is_no_key():
    """An empty HAKGAL_API_KEY means that there is none."""
    assert load_settings({}, {"HAKGAL_API_KEY": ""}).api_key is None


@every_variable
def test_frozen(variable):
    """Settings cannot be changed once they are made."""
    settings = load_settings({}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, variable.field, variable.value)


def test_whole_numbers_of_seconds_are_told_as_such():
    """Fifteen seconds are 15, not 15.0, wherever they are shown."""
    assert repr(load_settings({}, {"HYBRID_HEARTBEAT_S": "15.0"}).heartbeat_s) == "15"


def test_every_setting_is_documented():
    """Every setting carries the sentence that the docs print."""
    assert all(field.metadata["doc"].endswith(".") for field in dataclasses.fields(Settings))


@pytest.mark.parametrize(("environ", "profile"), [
    ({}, Profile.HYBRID), ({"APP_PROFILE": "hybrid"}, Profile.HYBRID), ({"APP_PROFILE": " WebSocket "},
                                                                       Profile.WEBSOCKET),
])
def test_current_profile(environ, profile):
    """The profile alone can be read before anything else, by the same rules."""
    assert current_profile(environ) is profile


def test_current_profile_refuses_what_settings_refuse():
    """A profile that does not exist is refused there too, naming the variable."""
    with pytest.raises(ConfigurationError, match="APP_PROFILE='nope'"):
        current_profile({"APP_PROFILE": "nope"})
