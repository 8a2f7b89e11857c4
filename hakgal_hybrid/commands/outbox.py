"""Outbox: what is sent to one client besides events, each item in its place among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..broker.engineio.packets import Framing
from ..broker.engineio.socketio_packets import Kind, ack_block, control_packet

#: How many items may wait, and how many bytes of them, about, before no more is to be added by what a client sends.
MAX_ITEMS, MAX_BYTES = 64, 1 << 20


class Item(NamedTuple):
    """Something to be sent.

    :ivar after: the number of the event that it comes after.
    :ivar block: returns its bytes: called with how packets are carried, and how many there may be at most.
    :ivar size: how many bytes that are, about.
    :ivar done: returns false while there are more bytes of it to be had.
    :ivar kept: how many bytes are kept for it because of what the client has sent.
    """

    after: int
    block: Callable[[Framing, int], bytes]
    size: int
    done: Callable[[], bool] = lambda: True
    kept: int = 0


class Outbox:
    """Items in the order in which they are sent.

    :param free: called with the size of each acknowledgement that does not wait any more.
    :ivar size: how many bytes wait, about.
    """

    __slots__ = ("_free", "_items", "size")

    def __init__(self, free: Callable[[int], object] = lambda size: None) -> None:
        self._items: deque[Item] = deque()
        self._free, self.size = free, 0

    @property
    def full(self) -> bool:
        """True while the client fetches nothing of much that waits."""
        return len(self) > MAX_ITEMS or self.size > MAX_BYTES

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    @property
    def after(self) -> int | None:
        """The number of the event that the next item comes after; ``None`` if there is no item."""
        return self._items[0].after if self._items else None

    def take(self, framing: Framing, packets: int) -> bytes:
        """Return the bytes of the next item, which is then gone unless there is more of it.

        :param framing: how packets are carried.
        :param packets: how many there may be at most.
        """
        item = self._items[0]
        block = item.block(framing, packets)
        if item.done():
            self._items.popleft()
            self.size -= item.size
            self._free(item.kept)
        return block

    def clear(self) -> None:
        """Send nothing more."""
        self._free(sum(item.kept for item in self._items))
        self._items.clear()
        self.size = 0

    def put_control(self, after: int, kind: Kind, namespace: str, data: dict[str, object] | None = None) -> None:
        """Add a packet that is no event.

        :param after: the number of the event that it comes after.
        :param kind: what it is.
        :param namespace: the namespace.
        :param data: what it says.
        """
        text = control_packet(kind, namespace, data)
        self.put(Item(after, lambda framing, packets: framing.packet(text), len(text)))

    def put_ack(self, after: int, namespace: str, number: int, args_text: str) -> None:
        """Add an acknowledgement.

        :param after: the number of the event that it comes after.
        :param namespace: the namespace.
        :param number: the id that the client has given its event.
        :param args_text: the arguments, the JSON text of an array.
        """
        self.put(Item(after, lambda framing, packets: ack_block(namespace, number, args_text, framing),
                      len(args_text), kept=len(args_text)))

    def put(self, item: Item) -> None:
        """Add an item.

        :param item: the item.
        """
        self._items.append(item)
        self.size += item.size
