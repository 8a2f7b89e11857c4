"""Environment: which variables are settings, which are misspelt ones, and which are somebody else's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from ..errors import ConfigurationError
from ..logs import get_logger
from .backplane_url import without_secret

logger = get_logger(__name__)

PREFIX = "HYBRID_"
#: What Kubernetes gives a variable that is named after a service and ends in ``_PORT``, and its other variables.
_ADDRESSES = ("tcp://", "udp://", "sctp://")
_OF_A_SERVICE = re.compile(r".*(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
#: How much a name must be like a setting's to be taken for it: HARTBEAT_S is, LOG_LEVEL is not LOG_EVENTS.
_ALIKE = 0.8
#: The units of settings, and how else they are written; both are easily left out.
_UNITS = {"S": ("SEC", "SECS", "SECOND", "SECONDS"), "MS": ("MSEC", "MILLISECONDS")}
#: The variables that a warning has named: settings are read more than once.
_warned: set[str] = set()


def variables_of_ours(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are settings. Names those that look like ours and are not in one warning.

    An empty ``APP_PROFILE`` is as none.

    :param environ: the environment.
    :param variables: the name of each setting's variable, by its key in ``app.config``.
    :return: names and values.
    :raises ConfigurationError: for a ``HYBRID_*`` variable that is nearly a setting: a misspelt one; and for one that
        is a setting but for its case and underscores.
    """
    known, ours, foreign = set(variables.values()), {}, set()
    spelt = {_letters(name): name for name in known if name.startswith((PREFIX, "HAKGAL_"))}
    for name, value in environ.items():
        otherwise = None if name in known else spelt.get(_letters(name))
        if name not in known and not name.startswith(PREFIX) and otherwise is None:
            continue
        if (name.endswith("_PORT") and value.startswith(_ADDRESSES)) or _OF_A_SERVICE.fullmatch(name):
            foreign.add(name)
        elif name in known:
            if name != "APP_PROFILE" or value.strip():
                ours[name] = value
        else:
            meant = otherwise or _meant(name, variables)
            if meant is not None:
                shown = "***" if "KEY" in name.upper() else without_secret(value)
                raise ConfigurationError(f"{name}={shown!r} in the environment is no setting; did you mean {meant}?",
                                         variable=name, accepted=meant)
            foreign.add(name)
    if foreign - _warned:
        logger.warning("the environment has %s, which no setting has; ignored", ", ".join(sorted(foreign - _warned)))
        _warned.update(foreign)
    return ours


def _letters(name: str) -> str:
    return name.upper().replace("_", "").replace("-", "")


def _meant(name: str, variables: Mapping[str, str]) -> str | None:
    """Return the variable that somebody may have meant; a key of ``app.config`` stands for its variable."""
    by_word = {key.removeprefix(PREFIX): variable for key, variable in variables.items()}
    word = name.removeprefix(PREFIX).upper()
    stem, _, end = word.rpartition("_")
    tried = [f"{start}_{unit}" for unit, others in _UNITS.items() for start in (word, stem if end in others else word)]
    found = [one for one in tried if one in by_word] or difflib.get_close_matches(word, by_word, n=1, cutoff=_ALIKE)
    return by_word[found[0]] if found else None
