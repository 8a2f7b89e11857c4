"""Hosts, as an edge knows them: the processes that decide who may connect, and run the handlers of its clients."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from ...broker.backplane.peers import MAX_PEERS
from ...broker.payload import payload_text, restore_binary
from ...broker.shared_broker import SharedBroker
from ...errors import AccessDenied, HybridError, Overloaded, RequestError
from ...logs import get_logger
from .requests import ADMIT, GUEST, LOOK, Answer, Request, RequestForwarding

logger = get_logger(__name__)

#: How long a request waits for some host to be found, in seconds: longer than a new log takes nothing, and processes
#: put back what a lost one had. Where one has waited in vain, those after it do not wait for so long.
FIND_S = 6.0
IN_VAIN_S = 2.0
#: How often the hosts are asked who they are, in seconds.
FIND_EACH_S = 0.5
#: How long a host may take to say that it has been asked whether a client may connect, in seconds.
TAKEN_S = 3.0
#: What a problem document has besides its members of our own.
_MEMBERS = ("type", "title", "status", "code", "detail")


class Hosts:
    """Finds a host, and asks it. A host that has not answered is asked again only when it has been heard of.

    :param requests: asks other processes.
    :param broker: the log that this process has in common with the hosts.
    :param answer_s: how long a handler may take, in seconds.
    """

    def __init__(self, requests: RequestForwarding, broker: SharedBroker, answer_s: float) -> None:
        self._requests, self._broker, self._answer_s = requests, broker, answer_s
        self._known: dict[str, bool] = {}
        self._changed = threading.Condition()
        self._asked_at = self._in_vain_at = float("-inf")
        requests.heard["host"] = self.heard
        requests.heard[LOOK] = lambda edge: None  # a host looks whether this edge is still there

    def forked(self) -> None:
        """Begin with a lock of this process' own."""
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def decide(self) -> bool:
        """True if the application has a function that decides what clients may do, as far as is known."""
        known = list(self._known.values())
        return not known or any(known)

    def heard(self, process: str, decides: bool) -> None:
        """Note that a host is there.

        :param process: the name of the process.
        :param decides: true if its application has a function that decides what clients may do.
        """
        with self._changed:
            self._known[str(process)] = bool(decides)
            if len(self._known) > MAX_PEERS:
                del self._known[next(iter(self._known))]
            self._changed.notify_all()

    def find(self) -> None:
        """Have all hosts say that they are there."""
        self._asked_at = time.monotonic()
        self._broker.elsewhere("find_hosts", process=self._broker.process)

    def ask(self, question: dict[str, Any], host: str = "", *, admit: bool = False) -> tuple[str, Any]:
        """Have a host do something.

        :param question: what.
        :param host: the name of the process; empty for any.
        :param admit: true for a question that any host may be asked: one that does not take it is not waited for.
        :return: the name of the host, and what it says.
        :raises Overloaded: if no host is there, too many requests wait, or such a question was not answered in time.
        :raises HybridError: what the host has refused it with; 410 if the process that was named is gone; 504 if it
            has not answered in time: then it is not known whether it has done it.
        """
        body, until = payload_text("question", (question,)), time.monotonic() + self._answer_s
        while True:
            asked = host or self.any()
            request = self._requests.ask(asked, Request(self._broker.process, ADMIT if admit else GUEST, "", body,
                                                        max(0.1, until - time.monotonic()), {}))
            try:
                said = _said(request.wait(TAKEN_S if admit else float("inf")))
            except HybridError as error:
                if error.code not in ("gone", "unknown"):
                    raise
                self._forget(asked)
                if error.code == "unknown" and question["do"] == "connect":  # nobody will be who it lets in
                    self._tell(asked, {"do": "disconnect", "sid": question["sid"], "reason": "transport close"})
                if host or not admit:
                    raise
                if time.monotonic() >= until:
                    raise _nobody("no host has answered in time") from None
            else:
                self.heard(asked, said["decides"])
                return asked, said["value"]

    def _tell(self, host: str, question: dict[str, Any]) -> None:
        """Have a host do something, and do not wait for it."""
        body = payload_text("question", (question,))
        self._requests.tell(host, Request(self._broker.process, GUEST, "", body, self._answer_s, {}))

    def any(self) -> str:
        """Return the name of a host, of several by turns.

        :raises Overloaded: if there is none.
        """
        if not self._broker.reachable:
            raise _nobody("the backplane is away, and with it the hosts")
        with self._changed:
            if not self._known:
                if time.monotonic() >= self._asked_at + FIND_EACH_S:
                    self.find()
                if time.monotonic() >= self._in_vain_at + IN_VAIN_S:
                    self._changed.wait_for(lambda: self._known, FIND_S)
            if not self._known:
                self._in_vain_at = time.monotonic()
                logger.warning("no host has answered: is one running, with the same HYBRID_BACKPLANE_NAME?")
                raise _nobody("no host is there to let clients in")
            process = next(iter(self._known))
            self._known[process] = self._known.pop(process)
            return process

    def _forget(self, process: str) -> None:
        with self._changed:
            self._known.pop(process, None)


def _nobody(why: str) -> Overloaded:
    return Overloaded(why, code="no_host", retry_after=2)


def _said(answer: Answer) -> dict[str, Any]:
    """Return what a host has said.

    :raises HybridError: what it has refused it with.
    """
    said: dict[str, Any] = restore_binary(json.loads(answer.text))
    if answer.status < 400:
        return said
    more = {name: member for name, member in said.items() if name not in _MEMBERS}
    detail, code = str(said["detail"]), str(said["code"])
    if answer.status in (429, 503):
        raise Overloaded(detail, code=code, status=answer.status, **more)
    kind = AccessDenied if answer.status in (401, 403) else RequestError
    raise kind(detail, code=code, status=answer.status, **more)
