"""Many messages in hand at once, those of one device in order, acknowledged in MQTT's order. Pure."""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


class Message(NamedTuple):
    """A message to be handled.

    Attributes:
        mid: its packet identifier.
        number: which counts up within a device.
        device: whose it is.
        seconds: how long its handling lasts.
    """

    mid: bytes
    number: int
    device: int
    seconds: float


@dataclass(slots=True)
class _Entry:
    message: Message
    is_done: bool = False


@dataclass(slots=True)
class Hands:
    """What waits, what is in hand, and what waits to be acknowledged behind it.

    Attributes:
        limit: messages in hand at once.
    """

    limit: int
    _waiting: deque[_Entry] = field(default_factory=deque)
    _lanes: dict[int, deque[_Entry]] = field(default_factory=dict)
    _in_hand: list[tuple[float, int, _Entry]] = field(default_factory=list)
    _ledger: deque[_Entry] = field(default_factory=deque)

    @property
    def is_hungry(self) -> bool:
        """Whether more messages should be read."""
        return not self._waiting

    @property
    def next_due(self) -> float | None:
        """When the next one in hand is done, or None."""
        return self._in_hand[0][0] if self._in_hand else None

    def add(self, message: Message) -> None:
        """Take in a message that was read."""
        entry = _Entry(message)
        self._ledger.append(entry)
        self._waiting.append(entry)

    def begin(self, now: float) -> list[Message]:
        """Begin what may begin now, and return it; one whose device is in hand waits behind it."""
        begun = list[Message]()
        while self._waiting and len(self._in_hand) < self.limit:
            entry = self._waiting.popleft()
            lane = self._lanes.get(entry.message.device)
            if lane is None:
                self._lanes[entry.message.device] = deque()
                begun.append(self._take(entry, now))
            else:
                lane.append(entry)
        return begun

    def finish(self, now: float) -> tuple[Message, Message | None] | None:
        """End the next one that is due; return it, with the one that begins in its place, or None when none is."""
        if not self._in_hand or self._in_hand[0][0] > now:
            return None
        _, _, entry = heapq.heappop(self._in_hand)
        entry.is_done = True
        if lane := self._lanes[entry.message.device]:
            return entry.message, self._take(lane.popleft(), now)
        del self._lanes[entry.message.device]
        return entry.message, None

    def acknowledged(self) -> list[bytes]:
        """The packet identifiers that may be acknowledged now: those done with none before them that is not."""
        free = list[bytes]()
        while self._ledger and self._ledger[0].is_done:
            free.append(self._ledger.popleft().message.mid)
        return free

    def _take(self, entry: _Entry, now: float) -> Message:
        heapq.heappush(self._in_hand, (now + entry.message.seconds, entry.message.number, entry))
        return entry.message
