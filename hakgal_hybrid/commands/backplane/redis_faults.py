"""What the errors of Redis and its client mean: try again, on a new connection or not, or a person has to help."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as Disconnected,
)
from redis.sentinel import MasterNotFoundError

from ...broker.backplane.faults import Away, Misconfigured

#: What a user of Redis needs, besides its password and the keys.
RIGHTS = ("+ping +hello +client|setname +select +auth +info +time +exists +eval +evalsha +xadd +xread +xrange "
          "+xrevrange +xtrim +hset +hmget +hincrby +get +set +pexpire")

WRONG_USER = ("Redis refuses the user or the password ({error}); correct what stands "
              "before the @ in HYBRID_BACKPLANE, user and password with a colon between")
WRONG_RIGHTS = "the user of Redis lacks a right ({error}); it needs ~{{{name}}}:* " + RIGHTS
WRONG_TYPE = ("a key that begins with {{{name}}}: is none of ours ({error}); delete it, or set HYBRID_BACKPLANE_NAME "
              "to another name")
WRONG_APP = ("another application ({error}) uses the name {name!r} on this Redis; set HYBRID_BACKPLANE_NAME to a name "
             "of its own for each")
WRONG_VERSION = ("a newer version of this package (protocol {error}) uses the name {name!r} on this Redis; upgrade "
                 "this one, or set HYBRID_BACKPLANE_NAME to another name")
WRONG_DATABASE = ("Redis has no such database ({error}); correct the number at the end of HYBRID_BACKPLANE; there is "
                  "always 0")
WRONG_CERTIFICATE = ("the certificate of Redis cannot be trusted ({error}); name the file with its authority at the "
                     "end of HYBRID_BACKPLANE, ?ssl_ca_certs=FILE, and the host as the certificate does")
NO_TLS = "what answers there speaks no TLS ({error}); begin HYBRID_BACKPLANE with redis: in place of rediss:"
PROTECTED = ("Redis is in its protected mode ({error}); give it a password (requirepass, or a user), and write that "
             "into HYBRID_BACKPLANE")
TOO_OLD = "Redis {error} is too old; Redis 7.0 or newer, or Valkey, is needed"
NO_SENTINEL = ("what answers there is no Sentinel ({error}); begin HYBRID_BACKPLANE with redis: and leave the service "
               "out, or name the Sentinels' port")
A_SENTINEL = ("what answers there is a Sentinel; begin HYBRID_BACKPLANE with redis+sentinel:, and write the service "
              "after the address")
NO_CLUSTER = "what answers there is no cluster ({error}); begin HYBRID_BACKPLANE with redis: in place of redis+cluster:"
NO_COMMAND = ("what answers there does not know a command ({error}); if it is a Redis, rename none and turn none off "
              "of " + RIGHTS)
WRONG_FILE = ("a file of the certificates in HYBRID_BACKPLANE cannot be read, or holds something else ({error}); "
              "correct ssl_ca_certs, ssl_ca_path, ssl_certfile or ssl_keyfile, whichever stands after the ?")
WRONG_URL = "HYBRID_BACKPLANE cannot be used ({error}); correct the part that this names"

#: What only a person can mend, by words of the error.
_TO_MEND = (
    ("WRONGTYPE", WRONG_TYPE), ("DB index", WRONG_DATABASE), ("SELECT is not allowed", WRONG_DATABASE),
    ("CERTIFICATE_VERIFY_FAILED", WRONG_CERTIFICATE), ("WRONG_VERSION_NUMBER", NO_TLS), ("DENIED", PROTECTED),
    ("command 'SENTINEL'", NO_SENTINEL), ("nknown command", NO_COMMAND), ("nknown Redis command", NO_COMMAND),
    ("Cluster mode is not enabled", NO_CLUSTER))
#: What a person may have to mend, if the error stays: it may also be one that passes.
_MAY_STAY: tuple[tuple[type[Exception], str], ...] = (
    (ReadOnlyError, "a replica answers there; if it stays one, name the master in HYBRID_BACKPLANE, or the Sentinels"),
    (MovedError, "it is a node of a cluster; begin HYBRID_BACKPLANE with redis+cluster:"),
    (MasterNotFoundError, "no Sentinel knows a living master of that name, which is the part after the addresses in "
                          "HYBRID_BACKPLANE"))
#: The words of errors about a file that a URL with TLS names.
_OF_FILES = ("No such file", "Permission denied", "X509", "PEM", "KEY_VALUES")
#: What a person may have to mend, where a connection ends as it begins: by whether the URL says TLS, and the error.
_HINTS = ((True, ("imeout", "EOF", "closed"),
           "if that port has no TLS, begin HYBRID_BACKPLANE with redis: in place of rediss:"),
          (False, ("reset", "closed"), "if that port wants TLS, begin HYBRID_BACKPLANE with rediss:"))

#: The words with which an error begins after which the same connection may be used.
_PASSING = ("OOM", "BUSY ", "NOREPLICAS", "MISCONF")

#: What Redis says of a right that is missing, where its client has no class for the error, as in scripts.
_DENIED = ("NOPERM", "ACL failure", "The user executing the script can't")


def misconfigured(text: str, name: str, error: object) -> Misconfigured:
    """Return the error that says what a person has to do.

    :param text: one of the texts of this module.
    :param name: the name of the log.
    :param error: what Redis says.
    :return: the error.
    """
    return Misconfigured(text.format(error=error, name=name))


def fault_of(error: RedisError | RedisClusterException | OSError, name: str) -> Away | Misconfigured:
    """Return what an error means.

    :param error: what the client of Redis has raised.
    :param name: the name of the log.
    :return: the error of the log.
    """
    text = str(error)
    if isinstance(error, (AuthenticationError, AuthorizationError)) or text.startswith(("NOAUTH", "WRONGPASS")):
        return misconfigured(WRONG_USER, name, text)
    if isinstance(error, NoPermissionError) or any(words in text for words in _DENIED):
        return misconfigured(WRONG_RIGHTS, name, text)
    for words, remedy in _TO_MEND:
        if words in text:
            return misconfigured(remedy, name, text[:200])
    said = "; ".join([f"{type(error).__name__}: {text}"[:200],
                      *(advice for kind, advice in _MAY_STAY if isinstance(error, kind))])
    full = isinstance(error, OutOfMemoryError) or text.startswith("OOM")
    passing = isinstance(error, ResponseError) and not isinstance(error, Disconnected) and (
        full or text.startswith(_PASSING))
    return Away(said, connected=passing, full=full)


def fault_at(url: str, error: RedisError | RedisClusterException | OSError, name: str) -> Away | Misconfigured:
    """Return what an error means by which no connection could be made.

    :param url: where Redis should be.
    :param error: what the client of Redis has raised.
    :param name: the name of the log.
    :return: the error of the log.
    """
    tls, text = url.startswith("rediss"), str(error)
    if tls and any(words in text for words in _OF_FILES):
        return misconfigured(WRONG_FILE, name, text[:200])
    fault = fault_of(error, name)
    if isinstance(fault, Away):
        for for_tls, words, said in _HINTS:
            if tls is for_tls and any(word in text for word in words):
                return Away(f"{fault}; {said}")
    return fault
