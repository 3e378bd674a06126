"""What was taken of one connection and is not acknowledged yet: pure.

Acknowledgements go out in the order in which the messages came (MQTT 5, 4.6), whatever the order in which they are
handled. So one that is not done with holds up those behind it, which wait here.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime

from plantops_cli.messages import Message, Publish
from plantops_cli.stream.batch import message_of
from plantops_cli.stream.handling.handlers import NOBODY, Call, Part
from plantops_cli.stream.packets import DUP, Packet

Failure = tuple[Call, BaseException]
"""A handler that has failed, and what it has raised."""

ACKNOWLEDGED_TOGETHER = 20
"""Messages that are done with are acknowledged at the latest when there are so many of them."""


class Work:
    """One message, and what is left to be done with it.

    Args:
        packet: the message.
        received_at: when it was read, in UTC.
        ledger: of the connection on which it came.
        part: the handlers that are to be called one after the other; ``NOBODY`` for a whole of several parts.
        parent: what this is a part of; None for a whole message.

    Attributes:
        message: made when the first handler is called, and kept for the next one.
        calls: the handlers still to be called.
        key: its key in its lane, once that was asked for.
        holds_key: True while others of its key wait for it.
        attempts: how often its handlers were called.
        failed: the handlers that have failed and are to be called again, and what they raised.
        is_last: True when no further attempt is to be made.
        wants_keep: True when a handler has failed that keeps its messages, and another is called again before.
        outstanding: parts that are not done with.
        is_settled: True when it may be acknowledged as far as it is concerned.
        is_kept: True when it is to come again, and so is never settled.
        heir: the same message, sent again on the next connection, which is settled together with this one.
    """

    __slots__ = (
        "attempts",
        "calls",
        "failed",
        "heir",
        "holds_key",
        "is_kept",
        "is_last",
        "is_settled",
        "key",
        "ledger",
        "message",
        "outstanding",
        "packet",
        "parent",
        "part",
        "received_at",
        "wants_keep",
    )

    def __init__(
        self,
        packet: Packet,
        received_at: datetime,
        ledger: "Ledger",
        part: Part = NOBODY,
        parent: "Work | None" = None,
    ) -> None:
        self.packet = packet
        self.received_at = received_at
        self.ledger = ledger
        self.part = part
        self.parent = parent
        self.is_settled = self.is_kept = False
        self.outstanding = 0
        self.heir: Work | None = None
        self.calls = part.calls
        self.message: Message | None = None
        self.key: Hashable = None
        self.attempts = 0
        self.failed: Sequence[Failure] = ()
        self.holds_key = self.is_last = self.wants_keep = False

    def message_for(self, call: Call, publish: Publish) -> Message:
        """Return the message, with what the pattern of a handler captures of its topic.

        Args:
            call: the handler.
            publish: what it replies by.
        """
        message = self.message
        if message is None or message.captures is not call.captures:
            message = self.message = message_of(self.packet, self.received_at, call.captures, publish)
        return message

    def settle(self) -> None:
        """Take note that it is done with; with its last part the message is, and may be acknowledged."""
        work = self
        if self.parent is not None:
            work = self.parent
            work.outstanding -= 1
            if work.outstanding > 0:
                return
        work.is_settled = True
        work.ledger.note(work)

    @property
    def root(self) -> "Work":
        """The message that is acknowledged for it: the whole, and as it was sent last."""
        work = self.parent or self
        while work.heir is not None:
            work = work.heir
        return work

    def bequeath(self, heir: "Work") -> None:
        """Let the same message, sent again, be done with when this one is.

        Args:
            heir: the message, of the next connection.
        """
        if self.is_settled:
            heir.settle()
        else:
            self.heir = heir

    def keep(self) -> None:
        """Take note that it is to come again; where it came on an earlier connection nothing waits for that."""
        self.is_kept = True
        work: Work | None = self.parent or self
        while work is not None:
            work.is_kept = True
            if work.ledger.is_closed:
                work.is_settled = True
                work.ledger.flush()
            work = work.heir


class Ledger:
    """The messages of one connection that are in hand, oldest first.

    Args:
        acknowledge: tells the broker of messages that are done with, in their order; False when it cannot be told.
        release: called with the bytes of memory that have become free.
        on_due: called when something is done with, and nothing was before; ``flush`` must follow soon.
        earlier: what was not acknowledged on the connection before, of a session that is resumed.

    Attributes:
        is_closed: True when the connection has ended, and nobody can be told any more.
        is_lost: True when the session has ended, too, so that nothing of it comes again.
        entries: the messages, oldest first; those that come are appended.
    """

    def __init__(
        self,
        acknowledge: Callable[[list[Packet]], bool],
        release: Callable[[int], None],
        on_due: Callable[[], None],
        earlier: Iterable[Work] = (),
    ) -> None:
        self.is_closed = self.is_lost = False
        self._acknowledge = acknowledge
        self._release = release
        self._on_due = on_due
        self.entries: deque[Work] = deque()
        self._due: list[Work] = []
        self._batches: deque[tuple[int, int]] = deque()
        self._leaving = self._news = 0
        self._is_due = False
        self._earlier = {work.packet[2]: work for work in earlier}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def head(self) -> Work | None:
        """The oldest message that is not done with, or None."""
        return self.entries[0] if self.entries else None

    def begin(self, count: int, size: int) -> None:
        """Take note of a batch, all the messages of which are to be appended to ``entries``.

        Args:
            count: how many there are.
            size: bytes of memory that they take, released when all of them are done with.
        """
        self._batches.append((count, size))

    def find_earlier(self, packet: Packet) -> Work | None:
        """Find the message of the connection before that a packet brings once more, or None.

        The broker had no acknowledgement of it, so that its identifier stands for nothing else (MQTT 5, 4.4);
        topic and payload are compared all the same, for a broker that crashed may have forgotten what it sent.
        """
        if not self._earlier or not packet[0] & DUP:
            return None
        earlier = self._earlier.pop(packet[2], None)
        if earlier is None or earlier.is_kept:
            return None
        is_same = (packet[1], packet[4]) == (earlier.packet[1], earlier.packet[4])
        return earlier if is_same else None

    def note(self, work: Work) -> None:
        """Take note that a message is done with; what may be acknowledged soon is, many at a time."""
        if work.heir is not None:
            work.heir.settle()
        self._news += 1
        if self._news >= ACKNOWLEDGED_TOGETHER:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._on_due()

    def flush(self) -> None:
        """Acknowledge what is done with, as far as nothing before it is not."""
        self._news, self._is_due = 0, False
        entries, due = self.entries, self._due
        while entries and entries[0].is_settled:
            due.append(entries.popleft())
        if due and (self.is_closed or self._acknowledge([work.packet for work in due])):
            self._leave(len(due))
            due.clear()

    def close(self) -> list[Work]:
        """Acknowledge nothing more, and return what the broker may send again although it is in hand.

        That includes what came on earlier connections, and was not sent again on this one before it ended.
        """
        open_ones = (*self._earlier.values(), *self._due, *self.entries)
        unacknowledged = [work for work in open_ones if work.packet[2] and not work.is_kept]
        for work in self.entries:
            work.is_settled = work.is_settled or work.is_kept
        self.is_closed = True
        self.flush()
        return unacknowledged

    def end(self) -> None:
        """Acknowledge nothing more, and let go of all the memory: who handles messages is dismissed."""
        self.close()
        batches, self._batches = self._batches, deque()
        for _, size in batches:
            self._release(size)

    def _leave(self, count: int) -> None:
        """Let go of the memory of the batches that are done with."""
        self._leaving += count
        while self._batches and self._leaving >= self._batches[0][0]:
            count, size = self._batches.popleft()
            self._leaving -= count
            self._release(size)
