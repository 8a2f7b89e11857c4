"""Profiles and settings: read once, strictly, then frozen.

A value comes from, in this order: a keyword argument of :class:`~hakgal_hybrid.HybridTransport`, ``app.config``
(every key begins with ``HYBRID_``), the environment, the default. Every field of :class:`Settings` names its keys
and what it accepts; a wrong value is a :class:`~hakgal_hybrid.errors.ConfigurationError` at start, never a guess.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ..errors import ConfigurationError
from .backplane_url import backplane_name, backplane_url, without_secret
from .environ import variables_of_ours
from .values import (
    Refused,
    choice,
    count,
    file_path,
    key_text,
    names,
    number,
    origin_list,
    parse_boolean,
    url_prefix,
)

#: How long two batches of one stream may be apart (milliseconds): more is no live update.
MAX_INTERVAL_MS = 10_000


class Profile(str, enum.Enum):
    """What ``APP_PROFILE`` chooses; see the table in ``docs/settings.md``."""

    HYBRID = "HYBRID"
    WEBSOCKET = "WEBSOCKET"
    DUAL = "DUAL"


def _profile(value: object) -> Profile:
    name = value.value if isinstance(value, Profile) else str(value).strip().upper()
    try:
        return Profile(name)
    except ValueError:
        raise Refused("HYBRID, WEBSOCKET or DUAL") from None


def _setting(env: str, parse: Callable[[object], Any], default: Any, doc: str, *, secret: bool = False) -> Any:
    """Declare one setting: its environment variable, parser, default and the sentence the docs print."""
    config = env if env.startswith("HYBRID_") else "HYBRID_" + env.removeprefix("HAKGAL_").removeprefix("APP_")
    return field(default=default, metadata={
        "env": env, "config": config, "parse": parse, "doc": doc, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one transport. Times are seconds, sizes are bytes, unless the name says otherwise."""

    profile: Profile = _setting("APP_PROFILE", _profile, Profile.HYBRID,
                                "HYBRID, DUAL for clients of Socket.IO too, or WEBSOCKET for rollback.")
    enable_sse: bool = _setting("ENABLE_SSE", parse_boolean, True,
                                "Serve the stream, and the URLs by which clients connect, acknowledge and leave.")
    enable_control_http: bool = _setting("ENABLE_CONTROL_HTTP", parse_boolean, True, "Serve the URLs for commands.")
    enable_ws_special: bool = _setting("ENABLE_WS_SPECIAL", parse_boolean, False,
                                      "Serve clients of Socket.IO, and `/api/events/ws`, a WebSocket.")
    api_key: str | None = _setting("HAKGAL_API_KEY", key_text, None, "Key that commands and remote readers must send.",
                                   secret=True)
    access: Literal["local", "app"] = _setting(
        "HYBRID_ACCESS", choice("local", "app"), "local",
        "Who may be a client: `local`, this machine and who has the key or a ticket; `app`, whom the app lets in.")
    port: int = _setting("HAKGAL_PORT", count(0, 65535), 5001,
                         "Port of `hakgal-hybrid run` and `transport.run`; where `flask hybrid` looks.")
    origins: tuple[str, ...] | None = _setting(
        "HYBRID_ORIGINS", origin_list, None,
        "Other web origins whose pages may use our URLs; `*`: every page may be a client. By default those of the "
        "app's `cors_allowed_origins`.")
    prefix: str = _setting("HYBRID_PREFIX", url_prefix, "",
                           "What our URLs begin with, before `/api/`. By default what the app's `path` says.")

    log_events: int = _setting("HYBRID_LOG_EVENTS", count(1, 10_000_000), 10_000, "Events kept for late readers.")
    log_bytes: int = _setting("HYBRID_LOG_BYTES", count(1024, 1 << 40), 32 << 20, "Bytes kept for late readers.")
    max_event_bytes: int = _setting("HYBRID_MAX_EVENT_BYTES", count(64, 1 << 30), 1 << 20, "Largest encoded event.")
    conflate: tuple[str, ...] = _setting(
        "HYBRID_CONFLATE", names, ("kb_update", "kb_metrics", "system_load_update", "gpu_update"),
        "Event names (with `*` globs) of which a client that is behind gets only the newest.")

    journal: str | None = _setting("HYBRID_JOURNAL", file_path, None, "SQLite file that keeps events over restarts.")
    journal_flush_ms: float = _setting("HYBRID_JOURNAL_FLUSH_MS", number(1, 60_000), 50,
                                       "How old an event may become before it is in the journal, in ms.")
    journal_max_bytes: int = _setting("HYBRID_JOURNAL_MAX_BYTES", count(1 << 16, 1 << 40), 64 << 20,
                                      "Size of the journal.")
    journal_max_age_s: float = _setting("HYBRID_JOURNAL_MAX_AGE_S", number(1, 31_536_000), 86_400,
                                        "Age of the oldest event in the journal.")

    backplane: str | None = _setting(
        "HYBRID_BACKPLANE", backplane_url, None,
        "Redis, where several processes have one log, as `redis://host:6379/0`.", secret=True)
    backplane_name: str | None = _setting("HYBRID_BACKPLANE_NAME", backplane_name, None,
                                          "Name of that log; by default the app's import name.")
    outbox_events: int = _setting("HYBRID_OUTBOX_EVENTS", count(1, 10_000_000), 10_000,
                                  "Events that wait for the backplane; the oldest is dropped for one more.")
    outbox_bytes: int = _setting("HYBRID_OUTBOX_BYTES", count(1024, 1 << 40), 16 << 20, "Their bytes, together.")
    role: Literal["host", "edge"] = _setting(
        "HYBRID_ROLE", choice("host", "edge"), "host",
        "With a backplane: `host`, whose handlers run, or `edge`, which serves streams and asks a host.")
    governor_mode: Literal["here", "off", "desk"] = _setting(
        "HYBRID_GOVERNOR", choice("here", "off", "desk"), "desk",
        "With a backplane, whose governor carries out commands: of one process at a time (`desk`), this one never "
        "(`off`), of the process that gets the command (`here`).")
    flush_s: float = _setting("HYBRID_FLUSH_S", number(0, 600), 5, "Time to send what waits for it, at the end.")

    retry_ms: int = _setting("HYBRID_RETRY_MS", count(1, 3_600_000), 3000, "Reconnect delay of clients, in ms.")
    heartbeat_s: float = _setting("HYBRID_HEARTBEAT_S", number(0.05, 3600), 15, "Idle time before a heartbeat.")
    interval_ms: int = _setting("HYBRID_INTERVAL_MS", count(0, MAX_INTERVAL_MS), 0,
                                "Least time between two batches of events of one stream, in ms; 0 for none.")
    max_backlog_s: float = _setting("HYBRID_MAX_BACKLOG_S", number(0.05, 86400), 60,
                                    "Oldest event an open stream still gets; older ones become a gap.")
    stall_s: float = _setting("HYBRID_STALL_S", number(0.05, 3600), 20, "Close a client that accepts no byte so long.")
    drain_s: float = _setting("HYBRID_DRAIN_S", number(0, 600), 2, "Time to flush streams and requests at stop.")
    resume_s: float = _setting("HYBRID_RESUME_S", number(0, 86400), 60,
                               "Time after a stream's end in which its clients may come back.")
    socketio_recovery: Literal["off", "auto", "on"] = _setting(
        "HYBRID_SOCKETIO_RECOVERY", choice("off", "auto", "on"), "off",
        "Which clients of Socket.IO may come back within that time: none, those that seem to be socket.io-client, all.")
    connect_s: float = _setting("HYBRID_CONNECT_S", number(0.05, 3600), 30,
                                "Time a client that has connected by POST has to open its stream.")
    max_streams: int = _setting("HYBRID_MAX_STREAMS", count(0, 1_000_000), 10_000, "Open streams in total.")
    max_streams_per_address: int = _setting("HYBRID_MAX_STREAMS_PER_ADDRESS", count(0, 1_000_000), 1000,
                                            "Open streams of one address; an IPv6 /64 counts as one.")
    connect_rate: float = _setting("HYBRID_CONNECT_RATE", number(0.01, 10**6), 100, "New clients a second by address.")
    max_clients: int = _setting("HYBRID_MAX_CLIENTS", count(1, 10_000_000), 50_000,
                                "Clients in total, including those that may come back.")
    allow_blocking_call: bool = _setting("HYBRID_ALLOW_BLOCKING_CALL", parse_boolean, False,
                                         "Let `call` wait for a client inside a request.")

    max_rooms: int = _setting("HYBRID_MAX_ROOMS", count(1, 1_000_000), 1000, "Rooms of one client.")
    max_answer_bytes: int = _setting("HYBRID_MAX_ANSWER_BYTES", count(64, 1 << 30), 4 << 20,
                                     "Largest sum of events in the answer to an event without `sid`.")

    command_rate: float = _setting("HYBRID_COMMAND_RATE", number(0.01, 1_000_000), 2000,
                                   "Commands a second from one address; as many may come at once.")
    command_queue: int = _setting("HYBRID_COMMAND_QUEUE", count(1, 100_000), 100, "Governor commands waiting.")
    command_results: int = _setting("HYBRID_COMMAND_RESULTS", count(1, 100_000), 1000, "Command outcomes remembered.")

    threads: int = _setting("HYBRID_THREADS", count(1, 4096), 32, "Native threads for the host's handlers.")
    extra_threads: int = _setting("HYBRID_EXTRA_THREADS", count(0, 65536), 256,
                                  "Threads more, in place of those that streamed answers or departed clients hold.")
    spool_bytes: int = _setting("HYBRID_SPOOL_BYTES", count(0, 1 << 40), 256 << 20,
                                "Temporary files for what slow clients have still to get of streamed answers.")
    reserved_threads: int = _setting("HYBRID_RESERVED_THREADS", count(1, 64), 4,
                                     "Threads for opening streams, and as many for control and status.")
    max_upgrades: int = _setting("HYBRID_MAX_UPGRADES", count(0, 10_000), 64, "Open WebSockets of the host.")
    queue_requests: int = _setting("HYBRID_QUEUE_REQUESTS", count(0, 1_000_000), 512,
                                   "Requests waiting for a thread; streams to be opened: eight times as many.")
    queue_bytes: int = _setting("HYBRID_QUEUE_BYTES", count(0, 1 << 40), 256 << 20, "Their bodies, together.")
    queue_s: float = _setting("HYBRID_QUEUE_S", number(0.01, 3600), 30, "Longest wait for a thread, then 503.")
    max_body_bytes: int = _setting("HYBRID_MAX_BODY_BYTES", count(0, 1 << 40), 64 << 20, "Largest request body.")
    max_message_bytes: int = _setting("HYBRID_MAX_MESSAGE_BYTES", count(64, 1 << 30), 1 << 20,
                                      "Largest request body for our own URLs.")
    max_head_bytes: int = _setting("HYBRID_MAX_HEAD_BYTES", count(1024, 1 << 20), 64 << 10,
                                   "Largest head of a request: its first line and its headers.")
    max_connections: int = _setting("HYBRID_MAX_CONNECTIONS", count(1, 1_000_000), 4096,
                                    "Connections besides streams and WebSockets; idle ones are closed for new ones.")
    request_s: float = _setting("HYBRID_REQUEST_S", number(0.05, 3600), 30,
                                "Time for a request's head, for each 64 KiB of its body, and between requests.")
    switch_interval_ms: float = _setting("HYBRID_SWITCH_INTERVAL_MS", number(0.01, 1000), 0.5,
                                         "Python's thread switch interval while streams are open, in ms.")

    def __post_init__(self) -> None:
        if self.max_event_bytes > self.log_bytes:
            raise ConfigurationError.bad_value(
                "HYBRID_MAX_EVENT_BYTES", self.max_event_bytes, f"at most HYBRID_LOG_BYTES ({self.log_bytes})")
        if self.backplane is not None and self.journal is not None:
            raise ConfigurationError.bad_value(
                "HYBRID_JOURNAL", self.journal, "an empty string with HYBRID_BACKPLANE, whose log outlives a process")

    def check_edge(self) -> None:
        """Check that an edge knows where its hosts are.

        :raises ConfigurationError: if it does not, or serves no streams.
        """
        if self.backplane is None:
            raise ConfigurationError.bad_value("HYBRID_BACKPLANE", "", "the URL of the Redis that the hosts of this "
                                               "edge have, as redis://host:6379/0")
        if self.backplane_name is None:
            raise ConfigurationError.bad_value("HYBRID_BACKPLANE_NAME", "", "what the hosts of this edge have: their "
                                               "HYBRID_BACKPLANE_NAME, or else their app's import name")
        if self.profile is Profile.WEBSOCKET:
            raise ConfigurationError.bad_value("APP_PROFILE", self.profile.value, "HYBRID or DUAL for an edge")

    @property
    def is_edge(self) -> bool:
        """True if hosts run the handlers of this process' clients."""
        return self.role == "edge"

    @property
    def serves_socketio(self) -> bool:
        """True if clients of Socket.IO are to be served."""
        wanted = self.profile is Profile.DUAL or (self.profile is Profile.HYBRID and self.enable_ws_special)
        return wanted and self.enable_sse

    def __repr__(self) -> str:
        shown = (f"{f.name}={'***' if f.metadata['secret'] and getattr(self, f.name) else getattr(self, f.name)!r}"
                 for f in fields(self))
        return f"Settings({', '.join(shown)})"


def load_settings(
    config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    otherwise: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Settings:
    """Read every setting from keyword arguments, ``app.config`` and the environment, in this order of precedence.

    :param config: the app's config; ``None`` for an empty one.
    :param environ: the environment; ``None`` for that of the process.
    :param otherwise: what counts in place of the defaults, by field; it is not parsed.
    :param overrides: the keyword arguments, named like the fields of :class:`Settings`.
    :return: the settings.
    :raises ConfigurationError: for a value that is not accepted, a keyword that is no setting, a ``HYBRID_*`` key of
        ``app.config`` that no setting has, or one of the environment that is nearly a setting (a misspelt one would
        otherwise be ignored). Others of the environment are somebody else's: they are named in a warning.
    """
    config = {} if config is None else config
    environ = variables_of_ours(os.environ if environ is None else environ, _variables())
    known = fields(Settings)
    _refuse_unknown(config, overrides)
    values: dict[str, Any] = dict(otherwise or {})
    for item in known:
        env, key, parse = (item.metadata[name] for name in ("env", "config", "parse"))
        for source, name in ((overrides, item.name), (config, key), (environ, env)):
            if name in source and source[name] is not None:
                values[item.name] = _parsed(name, source[name], parse)
                break
    return Settings(**values)


def current_profile(environ: Mapping[str, str] | None = None) -> Profile:
    """Return the profile that the environment asks for. It is needed before anything else is imported.

    :param environ: the environment; ``None`` for that of the process.
    :return: the profile.
    :raises ConfigurationError: for a value that is not accepted.
    """
    environ = os.environ if environ is None else environ
    value = environ.get("APP_PROFILE", "")
    return Profile.HYBRID if not value.strip() else Profile(_parsed("APP_PROFILE", value, _profile))


def _parsed(name: str, value: object, parse: Callable[[object], Any]) -> Any:
    try:
        return parse(value)
    except Refused as refused:
        raise ConfigurationError.bad_value(name, _shown(name, value), str(refused)) from None


def _shown(name: str, value: object) -> object:
    """Return ``value`` as an error may show it: never a key, however its name is spelt, or a password."""
    return "***" if "KEY" in name.upper() else without_secret(value)


def _variables() -> dict[str, str]:
    return {item.metadata["config"]: item.metadata["env"] for item in fields(Settings)}


def _refuse_unknown(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    names = {item.name for item in fields(Settings)}
    for name in overrides:
        if name not in names:
            raise ConfigurationError.bad_value(name, _shown(name, overrides[name]),
                                               "a keyword among " + ", ".join(sorted(names)))
    accepted = sorted(_variables())
    for name in config:
        if name.startswith("HYBRID_") and name not in accepted:
            raise ConfigurationError.bad_value(name, _shown(name, config[name]),
                                               f"a key among {', '.join(accepted)} in the app.config")
