"""The keyword arguments of a transport, for editors and type checkers: what :class:`.Settings` has, by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from . import Profile


class SettingsKeywords(TypedDict, total=False):
    """One keyword for each setting, with the type of its value; ``None`` stands for a keyword that is left out.

    Every value may also be a text, as the environment has it; that is not said here, so that slips are seen.
    """

    profile: Profile | str | None
    enable_sse: bool | None
    enable_control_http: bool | None
    enable_ws_special: bool | None
    api_key: str | None
    access: Literal["local", "app"] | None
    port: int | None
    origins: list[str] | tuple[str, ...] | str | None
    prefix: str | None
    log_events: int | None
    log_bytes: int | None
    max_event_bytes: int | None
    conflate: list[str] | tuple[str, ...] | str | None
    journal: str | os.PathLike[str] | None
    journal_flush_ms: float | None
    journal_max_bytes: int | None
    journal_max_age_s: float | None
    backplane: str | None
    backplane_name: str | None
    outbox_events: int | None
    outbox_bytes: int | None
    role: Literal["host", "edge"] | None
    governor_mode: Literal["here", "off", "desk"] | None
    flush_s: float | None
    retry_ms: int | None
    heartbeat_s: float | None
    interval_ms: int | None
    max_backlog_s: float | None
    stall_s: float | None
    drain_s: float | None
    resume_s: float | None
    socketio_recovery: Literal["off", "auto", "on"] | None
    connect_s: float | None
    max_streams: int | None
    max_streams_per_address: int | None
    connect_rate: float | None
    max_clients: int | None
    allow_blocking_call: bool | None
    max_rooms: int | None
    max_answer_bytes: int | None
    command_rate: float | None
    command_queue: int | None
    command_results: int | None
    threads: int | None
    extra_threads: int | None
    spool_bytes: int | None
    reserved_threads: int | None
    max_upgrades: int | None
    queue_requests: int | None
    queue_bytes: int | None
    queue_s: float | None
    max_body_bytes: int | None
    max_message_bytes: int | None
    max_head_bytes: int | None
    max_connections: int | None
    request_s: float | None
    switch_interval_ms: float | None
