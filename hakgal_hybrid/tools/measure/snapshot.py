"""A snapshot of a host: what its knowledge base and it itself are like at one moment, from outside.

Nothing in it is guessed: ``notes`` says of each figure where it came from, or why there is none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ...errors import ConfigurationError
from .extras import need

#: Version of the written form; it changes when a member is renamed or means something else.
SCHEMA = 1

_YAML = "write and read snapshots as YAML (JSON needs nothing)"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One host at one moment. What could not be taken is ``None`` and has its reason in ``notes``.

    :ivar taken_at: ISO 8601, UTC.
    :ivar health: the host's own word for it (``status`` of ``/health``); ``healthy`` is true if it answered 200.
    :ivar health_ms: how long that answer took, connecting included.
    :ivar facts: facts in the knowledge base.
    :ivar writes_enabled: whether the knowledge base can be written to.
    :ivar db_bytes: size of the database file, without its write-ahead log; ``db_modified``: ISO 8601, UTC, the later
        one of the file's and its write-ahead log's.
    :ivar versions: names and versions: those of this tool begin with ``tool.``, those the host tells with ``host.``.
    :ivar notes: by member: how it was taken, or why it could not be.
    """

    schema: int = SCHEMA
    taken_at: str
    url: str
    healthy: bool
    health: str | None = None
    health_ms: float | None = None
    facts: int | None = None
    writes_enabled: bool | None = None
    db_path: str | None = None
    db_bytes: int | None = None
    db_modified: str | None = None
    profile: str | None = None
    transport: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Every member, as JSON values."""
        return asdict(self)

    def to_json(self) -> str:
        """The snapshot as a JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_yaml(self) -> str:
        """Return the snapshot as a YAML document.

        :raises ConfigurationError: if PyYAML is not installed; names the extra.
        """
        # Not allow_unicode: PyYAML then writes line separators such as U+0085 that it does not read back.
        text: str = need("yaml", _YAML).safe_dump(self.to_dict(), sort_keys=False, width=1000)
        return text


@dataclass(frozen=True, slots=True)
class Change:
    """A member in which two snapshots differ; ``by`` is the difference of two numbers."""

    name: str
    before: Any
    after: Any
    by: float | None = None


def load(text: str) -> Snapshot:
    """Read what :meth:`Snapshot.to_json` or :meth:`Snapshot.to_yaml` wrote.

    :param text: the whole document.
    :raises ConfigurationError: if it is something else, or of another version.
    """
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else _of_yaml(text)
        if document.get("schema") != SCHEMA:
            raise ConfigurationError.bad_value("schema", document.get("schema"), str(SCHEMA))
        known = {item.name for item in fields(Snapshot)}
        return Snapshot(**{name: value for name, value in document.items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError("this is no snapshot; make one with hakgal-hybrid snapshot URL") from error


def _of_yaml(text: str) -> Any:
    yaml = need("yaml", _YAML)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError from error


def diff(before: Snapshot, after: Snapshot) -> list[Change]:
    """Return what differs between two snapshots, in the order of their members; notes are not compared.

    :param before: the earlier snapshot.
    :param after: the later snapshot.
    """
    changes = []
    old, new = _flat(before), _flat(after)
    for name in dict.fromkeys([*old, *new]):
        was, now = old.get(name), new.get(name)
        if was != now:
            changes.append(Change(name, was, now, _difference(was, now)))
    return changes


def _difference(was: Any, now: Any) -> float | None:
    if isinstance(was, bool) or isinstance(now, bool):
        return None
    if not isinstance(was, (int, float)) or not isinstance(now, (int, float)):
        return None
    return round(now - was, 3)


def _flat(snapshot: Snapshot) -> dict[str, Any]:
    """Members by dotted name, without the notes."""
    flat: dict[str, Any] = {}
    for name, value in snapshot.to_dict().items():
        if name == "versions":
            flat.update({f"versions.{key}": item for key, item in value.items()})
        elif name != "notes":
            flat[name] = value
    return flat
