"""What has been read and is not done with yet: pure, and bounded by the memory that it takes.

Of a flood nobody knows how many messages there are, nor whether the broker keeps to the Receive Maximum; so the
bound is in bytes. Below it everything is read, and with it whatever else the broker says.
"""

from collections import deque

from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.packets import QOS_1_OR_2

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""How much memory messages take by default that wait or are being handled, but for a single larger one."""

MESSAGE_BYTES = 256
"""What the objects of a message take beside the bytes in which it came."""

READ_BYTES = 256
"""What the objects of one read take."""

BATCH_MESSAGES = 500
"""Messages in a batch at most, and in one step of reading."""


class Inbox:
    """The messages of one connection on their way to the reader, oldest first.

    Args:
        max_bytes: bytes of memory that they may take, objects included. The last read may go a little beyond, and
            a single message be larger.

    Attributes:
        room: how many more messages may come, at most those of a batch.
        count: messages that wait to be taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self.count = 0
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Read, int]] = deque()
        self._waiting_bytes = 0
        self._in_hand_bytes = 0
        self.room = 0
        self._measure()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, read: Read, size: int) -> None:
        """Let messages wait.

        Args:
            read: the messages.
            size: the bytes in which they came.
        """
        count = len(read.packets) + len(read.passed_over)
        size += READ_BYTES + MESSAGE_BYTES * count
        self._waiting.append((read, size))
        self._waiting_bytes += size
        self.count += count
        self._measure()

    def take(self) -> Batch:
        """Return the oldest messages that wait, a batch of them; they count until ``let_go``."""
        reads: list[Read] = []
        count = 0
        while self._waiting:
            read, size = self._waiting[0]
            count += len(read.packets) + len(read.passed_over)
            if reads and count > BATCH_MESSAGES:
                break
            self._waiting.popleft()
            reads.append(read)
            self.count -= len(read.packets) + len(read.passed_over)
            self._waiting_bytes -= size
            self._in_hand_bytes += size
        return Batch(reads)

    def let_go(self) -> None:
        """Forget what was taken: it is done with."""
        self._in_hand_bytes = 0
        self._measure()

    def drop_what_comes_again(self) -> None:
        """Drop the messages that wait and were not sent at QoS 0: a broker that keeps the session has them too."""
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = self.count = 0
        for read, _ in waiting:
            kept = [packet for packet in read.packets if not packet[0] & QOS_1_OR_2]
            if kept:
                self.put(read._replace(packets=kept, passed_over=()), sum(len(packet[4]) for packet in kept))
        self._measure()

    def is_full(self, partial_bytes: int = 0) -> bool:
        """Tell whether nothing more is to be read until the reader has done with something.

        Args:
            partial_bytes: what has come of a packet that is not whole yet.
        """
        if not self._waiting_bytes and not self._in_hand_bytes:
            return False  # nobody would make room
        return not self.room or self._free_bytes <= partial_bytes

    @property
    def _free_bytes(self) -> int:
        return self._max_bytes - self._waiting_bytes - self._in_hand_bytes

    def _measure(self) -> None:
        room = self._free_bytes // MESSAGE_BYTES
        if not self._waiting_bytes and not self._in_hand_bytes:
            room = max(room, 1)
        self.room = min(max(room, 0), BATCH_MESSAGES)
