"""Where the backplane is: the URLs that ``HYBRID_BACKPLANE`` takes, and what their parts mean."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .values import Refused

#: Schemes that name Sentinels, and clusters, each with the scheme of one of their servers.
SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
CLUSTER = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_ACCEPTED = ("redis://HOST:PORT/DB (redis:// means localhost:6379), rediss:// for TLS, unix:///PATH/OF/SOCKET, "
             "redis+sentinel://HOST,HOST/SERVICE/DB, redis+cluster://HOST,HOST, or an empty string for none; user and "
             "password before an @")
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_SECRET = re.compile(r"(?<=//)[^@/]*@")


def backplane_url(value: object) -> str | None:
    """Return the URL of a backplane, or ``None`` for an empty text.

    :param value: the URL.
    :raises Refused: for what is none.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value != value.strip() or not value.isprintable() or "://" not in value:
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
        good = bool(path)
    elif parts.scheme in ("redis", "rediss"):
        good = reachable and len(hosts) == 1 and (not path or path.isdigit())
    elif parts.scheme in SENTINEL:
        service, _, database = path.partition("/")
        good = named and reachable and bool(service) and (not database or database.isdigit())
    else:
        good = parts.scheme in CLUSTER and named and reachable and not path
    if not good:
        raise Refused(_ACCEPTED)
    return value


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
    return _SECRET.sub("***@", value) if isinstance(value, str) else value


def backplane_name(value: object) -> str | None:
    """Return the name of a log, or ``None`` for an empty text.

    :param value: the name.
    :raises Refused: for what cannot stand between braces in a key.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused("1 to 128 letters, digits and ._:/-, or an empty string for the app's import name")
    return value
