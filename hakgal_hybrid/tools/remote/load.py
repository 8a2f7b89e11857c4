"""Many readers of one event stream, in one thread: what they get, how late, and what they miss.

Works with any server of event streams. What an event costs here is one decoding a client, and one look at its text for
all clients together; :attr:`Result.own_cpu` says when this program itself was what limited the rates.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping

from ...broker.sse import Decoder, Message
from .exchange import TINY, HTTPExchange, begin
from .limits import allow_files, time_of
from .losses import LossCounter, ReceivedIds
from .request import Address, connected, resolve
from .results import Result, Spread
from .stream import Source

_TEXTS = 4096


class _Client:
    """One reader.

    :param sock: its connection.
    :param exchange: its request and answer.
    :param asked_at: when it was asked, of :func:`time.perf_counter`.
    """

    def __init__(self, sock: socket.socket, exchange: HTTPExchange, asked_at: float) -> None:
        self.sock, self.exchange, self.asked_at = sock, exchange, asked_at
        self.decoder = Decoder()
        self.first_at: float | None = None
        self.last_id = ""
        self.ids = ReceivedIds()


class Load:
    """The readers and what they have got.

    :param source: where the stream is.
    :param headers: sent with each request.
    :param stamp: member of an event's data that holds when it was emitted, for streams whose events are no envelopes.
    :param on_progress: called with ``"clients"`` and how many have been opened, then with ``"seconds"`` and how many
        have passed.
    """

    def __init__(self, source: Source, *, headers: Mapping[str, str] | None = None, stamp: str = "timestamp",
                 on_progress: Callable[[str, int], None] = lambda phase, done: None) -> None:
        self._source, self._headers, self._stamp = source, dict(headers or {}), stamp
        self._on_progress = on_progress
        self._selector = selectors.DefaultSelector()
        self._clients: list[_Client] = []
        self._stalled: list[socket.socket] = []
        self._refused: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._counter = LossCounter()
        self._read: OrderedDict[str, tuple[str, float | None, bool, int, int]] = OrderedDict()
        self._latency: list[float] = []
        self._events: set[str] = set()
        self._deliveries = self._bytes = 0

    def run(self, clients: int, seconds: float, *, stalled: int = 0) -> Result:
        """Open the clients, read for ``seconds``, close them.

        :param clients: how many clients read.
        :param seconds: for how long they read once all are open.
        :param stalled: how many more connect and stop reading.
        :raises ConfigurationError: if the system does not allow so many connections.
        :raises OSError: if the first client cannot even connect.
        """
        allow_files(clients + stalled + 64)
        try:
            return self._run(clients, seconds, stalled)
        finally:
            for sock in [*(client.sock for client in self._clients), *self._stalled]:
                sock.close()
            self._selector.close()

    def _run(self, clients: int, seconds: float, stalled: int) -> Result:
        address = _first_that_accepts(self._source)
        for number in range(clients):
            self._open(address)
            self._pump(0)
            self._on_progress("clients", number + 1)
        for _ in range(stalled):
            self._stall(address)
        self._reset()
        started, burnt = time.monotonic(), time.process_time()
        while (passed := time.monotonic() - started) < seconds and self._selector.get_map():
            self._pump(min(0.2, seconds - passed))
            self._on_progress("seconds", int(passed))
        took = time.monotonic() - started
        return self._result(clients, stalled, took, (time.process_time() - burnt) / took)

    def _open(self, address: Address) -> None:
        try:
            sock = connected(self._source.base, address)
        except OSError as error:
            self._refused[type(error).__name__] += 1
            return
        client = _Client(sock, self._exchange(), time.perf_counter())
        self._clients.append(client)
        self._selector.register(sock, selectors.EVENT_READ, client)
        try:
            sock.sendall(client.exchange.request)
            sock.setblocking(False)
        except OSError as error:
            self._end(client, type(error).__name__)

    def _stall(self, address: Address) -> None:
        """Open a client that stops reading once it is answered."""
        sock = connected(self._source.base, address, receive_buffer=TINY)
        self._stalled.append(sock)
        begin(sock, self._exchange())

    def _exchange(self) -> HTTPExchange:
        return HTTPExchange(self._source.base, self._source.target, {"Accept": "text/event-stream", **self._headers})

    def _reset(self) -> None:
        """Begin to count: what came while the clients were being opened depends on when each was."""
        self._latency.clear()
        self._events.clear()
        self._deliveries = self._bytes = 0

    # -- reading -------------------------------------------------------------------------------------------------

    def _pump(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            client = key.data
            try:
                for data in _received(client.sock):
                    self._take(client, data)
            except (OSError, ValueError) as error:
                self._end(client, type(error).__name__)

    def _take(self, client: _Client, data: bytes) -> None:
        if not data:
            self._end(client, "end of stream")
            return
        self._bytes += len(data)
        text = client.exchange.feed(data)
        status = client.exchange.status
        if status is not None and not client.exchange.is_stream:
            self._end(client, f"status {status}" if status != 200 else "no event stream")
            return
        now = time.perf_counter()
        for message in client.decoder.feed(text):
            if client.first_at is None:
                client.first_at = now
            self._note(client, message)
        if client.exchange.ended:
            self._end(client, "end of stream")

    def _note(self, client: _Client, message: Message) -> None:
        name, ts, for_all, conflated, missed = self._parse(message)
        client.ids.conflated += conflated
        if name.startswith("hybrid_"):
            client.ids.in_gaps += missed
            if name in ("hybrid_bye", "hybrid_busy"):
                self._end(client, name)
            return
        self._deliveries += 1
        if ts is not None:
            self._latency.append(time.time() * 1000 - ts)
        if message.id and message.id != client.last_id:
            client.last_id = message.id
            self._events.add(message.id)
            if for_all:
                self._counter.note(client.ids, message.id)

    def _parse(self, message: Message) -> tuple[str, float | None, bool, int, int]:
        """Return name, time stamp (ms), whether it is for everybody, what it stands for, and what it says is missing.

        Every client gets the same text, so that each is parsed once.
        """
        key = message.data
        if (found := self._read.get(key)) is not None and message.event == "message":
            return found
        try:
            data = json.loads(message.data)
        except ValueError:
            data = None
        fields = data if isinstance(data, dict) else {}
        if self._source.ours and message.event == "message" and isinstance(fields.get("event"), str):
            inner = fields.get("data")
            missed = (inner.get("missed") or 0) if fields["event"] == "hybrid_gap" and isinstance(inner, dict) else 0
            read = (fields["event"], time_of(fields.get("ts")), "to" not in fields,
                    int(fields.get("conflated") or 0), missed)
        else:
            read = (message.event, time_of(fields.get(self._stamp)), True, 0, 0)
        if message.event == "message":
            self._read[key] = read
            if len(self._read) > _TEXTS:
                self._read.popitem(last=False)
        return read

    def _end(self, client: _Client, why: str) -> None:
        if client.sock.fileno() < 0:
            return
        self._selector.unregister(client.sock)
        client.sock.close()
        opened = client.exchange.is_stream
        (self._ended if opened and why != "hybrid_busy" else self._refused)[why] += 1

    # -- what it comes to ----------------------------------------------------------------------------------------

    def _result(self, clients: int, stalled: int, took: float, own_cpu: float) -> Result:
        opened = [client for client in self._clients if client.exchange.is_stream]
        delays = [(client.first_at - client.asked_at) * 1000 for client in opened if client.first_at is not None]
        events = len(self._events)
        return Result(
            url=self._source.base.url, clients=clients, opened=len(opened), stalled=stalled,
            refused=dict(self._refused), ended=dict(self._ended), seconds=round(took, 3), events=events,
            deliveries=self._deliveries, bytes=self._bytes, events_per_s=round(events / took, 2),
            deliveries_per_s=round(self._deliveries / took, 2), first_event=Spread.of(delays),
            latency=Spread.of(self._latency), losses=self._counter.losses([client.ids for client in self._clients]),
            own_cpu=round(own_cpu, 3))



def _first_that_accepts(source: Source) -> Address:
    error: OSError | None = None
    for address in resolve(source.base):
        try:
            connected(source.base, address).close()
            return address
        except OSError as refused:
            error = refused
    raise error or OSError(f"{source.base.host} has no address")


def _received(sock: socket.socket) -> Iterator[bytes]:
    """Yield what has come; an empty piece is the end. TLS may hold more than the selector knows of."""
    try:
        while sock.fileno() >= 0:
            data = sock.recv(65536)
            yield data
            if not data or not isinstance(sock, ssl.SSLSocket):
                return
    except (BlockingIOError, ssl.SSLWantReadError):
        return
