"""Where the backplane is: the URLs that ``HYBRID_BACKPLANE`` takes, and what their parts mean."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..logs import redacted
from .values import Refused

#: Schemes that name Sentinels, and clusters, each with the scheme of one of their servers.
SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
CLUSTER = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_ACCEPTED = ("redis://HOST:PORT/DB (redis:// means localhost:6379), rediss:// for TLS, unix:///PATH/OF/SOCKET?db=DB, "
             "redis+sentinel://HOST,HOST/SERVICE/DB, redis+cluster://HOST,HOST, or an empty string for none; user and "
             "password before an @, with special characters percent-encoded; for TLS ?ssl_ca_certs=FILE at its end")
#: What may stand behind the ``?``, for TLS; ``None`` for any value.
_OPTIONS: dict[str, tuple[str, ...] | None] = {
    "ssl_ca_certs": None, "ssl_ca_path": None, "ssl_certfile": None, "ssl_keyfile": None, "ssl_password": None,
    "ssl_cert_reqs": ("none", "optional", "required"), "ssl_check_hostname": ("true", "false")}
#: What can be the name of a log.
NAMES = "1 to 128 letters, digits and ._:/-"
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
#: All before the last @, because a password may hold what should have been encoded.
_SECRET = re.compile(r"(?<=//).*@", re.DOTALL)


def backplane_url(value: object) -> str | None:
    """Return the URL of a backplane, or ``None`` for an empty text.

    :param value: the URL.
    :raises Refused: for what is none.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable() or "://" not in value or " " in value:
        raise Refused(_ACCEPTED)
    try:
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        named = all(urlsplit(f"//{host}").hostname for host in hosts)
        reachable = all(urlsplit(f"//{host}").port != 0 for host in hosts)
    except ValueError:
        raise Refused(_ACCEPTED) from None
    path = parts.path.strip("/")
    if parts.scheme == "unix":
        good = bool(path) and hosts == [""]  # in unix://run/x.sock, run would be a host
    elif parts.scheme in ("redis", "rediss"):
        good = reachable and len(hosts) == 1 and (not path or path.isdigit())
    elif parts.scheme in SENTINEL:
        service, _, database = path.partition("/")
        good = named and reachable and bool(service) and (not database or database.isdigit())
    else:
        good = parts.scheme in CLUSTER and named and reachable and not path
    if not good or not value.startswith(f"{parts.scheme}://") or not _options_are_good(parts):
        raise Refused(_ACCEPTED)
    return value


def _options_are_good(parts: SplitResult) -> bool:
    given = parse_qsl(parts.query, keep_blank_values=True)
    known = all(name in _OPTIONS and value and (_OPTIONS[name] is None or value in (_OPTIONS[name] or ()))
                for name, value in given)
    if parts.scheme == "unix":
        return not parts.fragment and re.fullmatch(r"(db=\d+)?", parts.query) is not None
    return not parts.fragment and (not parts.query or (parts.scheme.startswith("rediss") and known))


def service_of(url: str) -> str:
    """Return the name under which Sentinels know the server.

    :param url: a URL that names Sentinels.
    """
    return urlsplit(url).path.strip("/").partition("/")[0]


def without_secret(value: object) -> object:
    """Return a URL as it may be shown.

    :param value: the URL, or anything else.
    :return: the same without user and password.
    """
    return _SECRET.sub("***@", redacted(value)) if isinstance(value, str) else value


def backplane_name(value: object) -> str | None:
    """Return the name of a log, or ``None`` for an empty text.

    :param value: the name.
    :raises Refused: for what cannot stand between braces in a key.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused(f"{NAMES}, or an empty string for the app's import name")
    return value
