"""What a check has found: a level, the evidence for it, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import partial
from typing import Any

#: Version of the written form; it changes when a member is renamed or means something else.
SCHEMA = 1


class Level(str, Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One check.

    :ivar check: its name, which does not change.
    :ivar says: one sentence; of a check that was not made the reason.
    :ivar evidence: what was measured or seen.
    :ivar remedy: what to do, for warnings and problems.
    :ivar cause: name of what is wrong, which does not change; nothing if nothing is.
    :ivar data: the figures behind it; durations in milliseconds.
    """

    check: str
    level: Level
    says: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    cause: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def ok(check: str, says: str, *evidence: str, **data: Any) -> Finding:
    """Return a finding that is as it should be.

    :param check: the name of the check.
    :param says: one sentence.
    :param evidence: what was measured or seen.
    :param data: the figures behind it.
    """
    return Finding(check, Level.OK, says, evidence, data=data)


def not_checked(check: str, because: str, *evidence: str, **data: Any) -> Finding:
    """Return a finding that there is none, and why.

    :param check: the name of the check.
    :param because: why, as the end of a sentence.
    :param evidence: what was measured or seen.
    :param data: the figures behind it.
    """
    return Finding(check, Level.NOT_CHECKED, f"not checked because {because}", evidence, data=data)


def amiss(level: Level, check: str, cause: str, says: str, *evidence: str, remedy: str, **data: Any) -> Finding:
    """Return a finding of something that is not as it should be.

    :param level: whether it may hurt or does.
    :param check: the name of the check.
    :param cause: the name of what is wrong.
    :param says: one sentence.
    :param evidence: what was measured or seen.
    :param remedy: what to do.
    :param data: the figures behind it.
    """
    return Finding(check, level, says, evidence, remedy, cause, data)


warning, problem = partial(amiss, Level.WARNING), partial(amiss, Level.PROBLEM)


@dataclass(frozen=True)
class Report:
    """All findings about one host, in the order in which they were made."""

    url: str
    taken_at: str
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def causes(self) -> list[str]:
        """The causes of all problems."""
        return [finding.cause for finding in self.findings if finding.level is Level.PROBLEM]

    @property
    def known(self) -> bool:
        """Whether there is a problem, or the host has served a stream, or a probe where it has no stream to refuse."""
        found = {finding.check: finding for finding in self.findings}
        stream, health = found.get("stream"), found.get("health")
        if self.causes or (stream is not None and stream.level is Level.OK):
            return True
        refused = stream is not None and stream.data.get("status") in (401, 403)
        return health is not None and health.level is Level.OK and not refused

    @property
    def verdict(self) -> str:
        """The causes of all problems, else ``healthy``, or ``not known`` where that cannot be said."""
        return ", ".join(dict.fromkeys(self.causes)) or ("healthy" if self.known else "not known")

    def of(self, check: str) -> Finding:
        """Return the finding of one check.

        :param check: the name of the check.
        :raises KeyError: if there is none.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {"schema": SCHEMA, "url": self.url, "taken_at": self.taken_at, "seconds": self.seconds,
                "verdict": self.verdict, "causes": self.causes,
                "findings": [{**asdict(finding), "level": finding.level.value} for finding in self.findings]}
