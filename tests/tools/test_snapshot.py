"""Snapshots: taken from a running host and its database, written, read back, and compared."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hosts import example_host, free_port

from hakgal_hybrid import ConfigurationError
from hakgal_hybrid.tools.measure.snapshot import Change, Snapshot, diff, load
from hakgal_hybrid.tools.measure.snapshot_taking import take
from hakgal_hybrid.tools.remote.request import Base


def test_of_a_host_with_its_database(tmp_path: Path) -> None:
    """It has the figures of the migration report, agrees with the database, and sees a fact that was added."""
    db = tmp_path / "kb.db"
    with example_host(tmp_path) as server:
        before = take(f"http://127.0.0.1:{server.port}", db)
        assert server.post("/api/facts", {"statement": "Seen(Snapshot, Now)."}).status == 201
        after = take(f"127.0.0.1:{server.port}", str(db))
    assert before.healthy
    assert before.health == "operational"
    assert before.health_ms is not None
    assert before.health_ms > 0
    assert before.facts == 3776
    assert before.writes_enabled is True
    assert before.db_bytes
    assert before.db_bytes >= 3776 * len("A(B, C).")
    assert before.db_modified is not None
    assert datetime.fromisoformat(before.db_modified) <= datetime.now(timezone.utc)
    assert (before.profile, before.transport) == ("HYBRID", "sse")
    assert before.versions["tool.hakgal_hybrid"]
    assert datetime.fromisoformat(before.taken_at) < datetime.fromisoformat(after.taken_at)
    changes = {change.name: change for change in diff(before, after)}
    assert changes["facts"] == Change("facts", 3776, 3777, 1)
    assert changes["db_modified"].before < changes["db_modified"].after
    assert "health" not in changes
    assert not [name for name in changes if name.startswith("notes")]


def test_without_what_it_needs_it_says_why() -> None:
    """A host that does not answer and a database that was not named leave reasons, not figures."""
    snapshot = take(f"http://127.0.0.1:{free_port()}")
    assert not snapshot.healthy
    for name in ("health", "health_ms", "facts", "writes_enabled", "db_bytes", "db_modified", "profile", "transport"):
        assert getattr(snapshot, name) is None
        assert snapshot.notes[name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_database(tmp_path: Path) -> None:
    """A file that may not be written to means writes are not enabled."""
    db = tmp_path / "kb.db"
    db.write_bytes(b"")
    db.chmod(0o400)
    assert take(f"http://127.0.0.1:{free_port()}", db).writes_enabled is False


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    """A wrong path is an error, not a snapshot with a hole."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.db"):
        take("http://127.0.0.1", tmp_path / "nowhere.db")


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how busy the machine is proves nothing
@given(st.builds(Snapshot, url=ANY_TEXT, taken_at=ANY_TEXT, healthy=st.booleans(), health=st.none() | ANY_TEXT,
                 health_ms=st.none() | st.integers(0, 10**7).map(lambda tenths: tenths / 10),
                 facts=st.none() | st.integers(0), versions=st.dictionaries(ANY_TEXT, ANY_TEXT),
                 notes=st.dictionaries(st.sampled_from(["facts", "health"]), ANY_TEXT)))
def test_written_and_read_back(snapshot: Snapshot) -> None:
    """Both forms hold every member, whatever text is in it; the YAML is what a YAML parser takes for the same."""
    assert load(snapshot.to_json()) == snapshot
    assert load(snapshot.to_yaml()) == snapshot
    assert yaml.safe_load(snapshot.to_yaml()) == snapshot.to_dict()
    assert diff(snapshot, replace(snapshot, notes={})) == []


@pytest.mark.parametrize("text", ["", "- 1\n", "schema: 2\n", "schema: 1\n", '{"schema": 1}', "[]", "a: b\n", "\0"])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    """A file that is something else is refused with a sentence."""
    with pytest.raises(ConfigurationError):
        load(text)


def test_unknown_members_of_a_later_version_are_left_out() -> None:
    """A member that was added later does not keep a snapshot from being read."""
    document = {**Snapshot(url="u", taken_at="t", healthy=True).to_dict(), "moon": "full"}
    assert load(json.dumps(document)).url == "u"


@pytest.mark.parametrize(("text", "url", "netloc"), [
    ("http://127.0.0.1:5001/", "http://127.0.0.1:5001", "127.0.0.1:5001"),
    ("localhost:5001", "http://localhost:5001", "localhost:5001"),
    ("https://[::1]", "https://[::1]", "[::1]"),
    ("http://[::1]:80/kb/", "http://[::1]/kb", "[::1]"),
])
def test_urls_as_operators_type_them(text: str, url: str, netloc: str) -> None:
    """The scheme may be left out; a default port is not named; a path in front stays."""
    base = Base.of(text)
    assert (base.url, base.netloc) == (url, netloc)


@pytest.mark.parametrize("text", ["", "ftp://x", "http://", "http://h:port", "http://user:secret@h/", "http://[::1"])
def test_what_is_no_url_is_refused(text: str) -> None:
    """It is told what is accepted, and a password is not repeated."""
    with pytest.raises(ConfigurationError, match="URL") as told:
        Base.of(text)
    assert "secret" not in str(told.value)
