"""What has been read and is not done with yet, and what of it may pass: pure, and bounded by the memory it takes.

Of a flood nobody knows how many messages there are, nor whether the broker keeps to the Receive Maximum; so the
bound is in bytes. Below it everything is read, and with it whatever else the broker says.
"""

from collections import deque
from itertools import groupby, takewhile
from typing import NamedTuple

from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.packets import (
    LONGEST_TOPIC_KEPT,
    QOS_1_OR_2,
    MalformedPacketError,
    Packet,
    parse_properties,
)

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""How much memory messages take by default that wait or are being handled, but for a single larger one."""

MESSAGE_BYTES = 256
"""What the objects of a message take beside the bytes in which it came."""

READ_OVERHEAD_BYTES = 256
"""What the objects of one read take."""

EXTENSION_FACTOR = 2
"""How many times that much they may take while somebody waits for an answer that lies behind them."""

BATCH_MESSAGES = 500
"""Messages in a batch at most, and in one step of reading."""


_TOPICS_KEPT = 100_000
_FORBIDDEN_IN_TOPICS = "+#\0"


class InHand:
    """The memory of what was taken and is not done with, over all connections of a client.

    Attributes:
        size: in bytes.
    """

    def __init__(self) -> None:
        self.size = 0


class Portion(NamedTuple):
    """Messages that came one behind the other, and are to be treated alike.

    Attributes:
        packets: the messages, at least one.
        size: the bytes in which they came.
        has_valid_topics: False when each has a topic that may not stand in a message, so that it is none.
    """

    packets: list[Packet]
    size: int
    has_valid_topics: bool


class Inbox:
    """The messages of one connection on their way to the reader, oldest first.

    Args:
        max_bytes: bytes of memory that they may take, objects included. The last read may go a little beyond, and
            a single message be larger.
        in_hand: what was taken, of this connection and of earlier ones; default: nothing.

    Attributes:
        room: how many more messages may come, at most those of a batch.
        count: messages that wait to be taken.
        is_closed: True once nothing more is to be put in.
    """

    def __init__(self, max_bytes: int, in_hand: InHand | None = None) -> None:
        self.count = 0
        self.is_closed = False
        self._topics: set[bytes] = set()
        self._max_bytes = self._usual_bytes = max_bytes
        self._waiting: deque[tuple[Read, int]] = deque()
        self._waiting_bytes = 0
        self._in_hand = in_hand or InHand()
        self.room = 0
        self._measure()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def has_in_hand(self) -> bool:
        """Whether something was taken that is not done with."""
        return self._in_hand.size > 0

    def has_in_hand_beside(self, batch: Batch) -> bool:
        """Tell whether something was taken beside one batch."""
        return self._in_hand.size > batch.size

    def close(self) -> None:
        """Want nothing more: what still comes is dropped, so that there is room for it without end."""
        self.is_closed = True
        self._measure()

    def extend(self, *, is_extended: bool) -> None:
        """Take up to ``EXTENSION_FACTOR`` times as much as usual, or no more than that again."""
        self._max_bytes = self._usual_bytes * (EXTENSION_FACTOR if is_extended else 1)
        self._measure()

    def knows(self, packets: list[Packet]) -> bool:
        """Tell whether messages need no examination: their topics are known, and they have no properties.

        Nearly all pass here, each with a look-up and no call.

        Args:
            packets: the messages.
        """
        topics = self._topics
        for packet in packets:  # noqa: SIM110  # all() would cost a turn of a generator for each message
            if packet[3] or packet[1] not in topics:
                return False
        return True

    def examine(self, packets: list[Packet], size: int) -> tuple[list[Portion], MalformedPacketError | None]:
        """Return what may pass, in its order, and what is wrong with the message behind it, or None.

        A message without a valid topic is one packet too many, to be passed over; one with malformed properties
        is the end of the connection (MQTT 5, 4.13).

        Args:
            packets: the messages.
            size: the bytes in which they came, with all that came along.
        """
        error = None
        malformed = _find_malformed({packet[3] for packet in packets})
        if malformed:
            before = list(takewhile(lambda packet: packet[3] not in malformed, packets))
            packets, error = before, malformed[packets[len(before)][3]]
        wrong = self._find_wrong_topics(packets)
        if not wrong:
            return ([Portion(packets, size, has_valid_topics=True)] if packets else []), error
        groups = [
            (is_wrong, list(group)) for is_wrong, group in groupby(packets, lambda packet: packet[1] in wrong)
        ]
        return [Portion(some, _size(some), not is_wrong) for is_wrong, some in groups], error

    def put(self, read: Read, size: int) -> None:
        """Let messages wait.

        Args:
            read: the messages.
            size: the bytes in which they came.
        """
        size = memory_of(read, size)
        self._waiting.append((read, size))
        self._waiting_bytes += size
        self.count += len(read.packets) + len(read.passed_over)
        self._measure()

    def claim(self, batch: Batch) -> None:
        """Take note of messages that never waited, and are in hand until ``let_go``."""
        self._in_hand.size += batch.size
        self._measure()

    def take(self) -> Batch:
        """Return the oldest messages that wait, a batch of them; they count until ``let_go``."""
        reads: list[Read] = []
        count = taken_bytes = 0
        while self._waiting:
            read, size = self._waiting[0]
            count += len(read.packets) + len(read.passed_over)
            if reads and count > BATCH_MESSAGES:
                break
            self._waiting.popleft()
            reads.append(read)
            self.count -= len(read.packets) + len(read.passed_over)
            taken_bytes += size
        self._waiting_bytes -= taken_bytes
        self._in_hand.size += taken_bytes
        return Batch(reads, taken_bytes)

    def let_go(self, size: int) -> None:
        """Forget what was taken: it is done with.

        Args:
            size: the bytes of a batch.
        """
        self._in_hand.size -= size
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
        if self.is_closed or (not self._waiting_bytes and not self._in_hand.size):
            return False  # what is dropped takes no room; and where nothing waits, nobody would make any
        return not self.room or self._free_bytes <= partial_bytes

    @property
    def _free_bytes(self) -> int:
        return self._max_bytes - self._waiting_bytes - self._in_hand.size

    def _measure(self) -> None:
        if self.is_closed:
            self.room = BATCH_MESSAGES
            return
        room = self._free_bytes // MESSAGE_BYTES
        if not self._waiting_bytes and not self._in_hand.size:
            room = max(room, 1)
        self.room = min(max(room, 0), BATCH_MESSAGES)

    def _find_wrong_topics(self, packets: list[Packet]) -> set[bytes]:
        """Find topics that are no valid topic names, and remember those that are, but for the long ones."""
        unknown = {packet[1] for packet in packets} - self._topics
        wrong = {topic for topic in unknown if not _is_topic(topic)}
        if len(self._topics) > _TOPICS_KEPT:
            self._topics.clear()
        self._topics |= {topic for topic in unknown - wrong if len(topic) <= LONGEST_TOPIC_KEPT}
        return wrong


class Grants:
    """Which QoS a broker may use: one that it was asked for, or has granted (MQTT 5, 3.8.4-8)."""

    def __init__(self) -> None:
        self._asked: list[int] = []
        self._highest_granted = -1

    @property
    def max_qos(self) -> int:
        """The highest QoS that a message may have; 2 where nobody has asked for anything yet."""
        highest = max(self._highest_granted, *self._asked, -1)
        return 2 if highest < 0 else highest

    def ask(self, qos: int) -> None:
        """Take note of a subscription: the broker may use its QoS before it has answered (MQTT 5, 3.8.4).

        Args:
            qos: what is asked for.
        """
        self._asked.append(qos)

    def answer(self, qos: int, codes: list[int]) -> None:
        """Take note of an answer.

        Args:
            qos: what ``ask`` was called with.
            codes: the reason codes of the SUBACK; from 0x80 on they grant nothing.
        """
        self._asked.remove(qos)
        self._highest_granted = max(self._highest_granted, *(code for code in codes if code < 0x80), -1)


def memory_of(read: Read, size: int) -> int:
    """Return the bytes of memory that messages take, objects included.

    Args:
        read: the messages.
        size: the bytes in which they came.
    """
    return size + READ_OVERHEAD_BYTES + MESSAGE_BYTES * (len(read.packets) + len(read.passed_over))


def _size(packets: list[Packet]) -> int:
    return sum(len(packet[1]) + len(packet[3]) + len(packet[4]) for packet in packets)


def _find_malformed(blocks: set[bytes]) -> dict[bytes, MalformedPacketError]:
    """Find properties that nobody may send, and what is wrong with them."""
    found = {}
    for block in blocks:
        try:
            parse_properties(block)
        except MalformedPacketError as exc:
            found[block] = exc
    return found


def _is_topic(topic: bytes) -> bool:
    """Tell whether a topic name may stand in a message (MQTT 5, 3.3.2.1)."""
    try:
        return bool(topic) and not any(character in topic.decode() for character in _FORBIDDEN_IN_TOPICS)
    except UnicodeDecodeError:
        return False
