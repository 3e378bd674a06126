"""Messages as they are read: many at a time, and made into objects only when somebody looks at them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, overload

from plantops_cli.messages import Message, Publish, answerable, in_utc
from plantops_cli.stream.packets import FLAGS, Packet, parse_properties

_NO_PROPERTIES: Mapping[str, object] = {}
_NO_CAPTURES: Mapping[str, str] = {}


class Read(NamedTuple):
    """The messages of one read of the socket.

    Attributes:
        received_ns: when it was read, in nanoseconds since 1970.
        packets: the messages, oldest first.
        passed_over: what came behind them and is no message, and yet has to be acknowledged in its turn.
    """

    received_ns: int
    packets: list[Packet]
    passed_over: Sequence[Packet] = ()

    @property
    def received_at(self) -> datetime:
        """When it was read, in UTC."""
        return in_utc(self.received_ns)


class Batch(Sequence[Message]):
    """Messages that are handled, and then acknowledged, together.

    A sequence of ``Message`` objects, which are made when they are asked for; ``reads`` is the same without. Who
    iterates gets one at a time, and no other is kept: properties take many times the memory of their bytes.

    Args:
        reads: what was read, oldest first.
        size: bytes of memory that they take.

    Attributes:
        acknowledged: how many of the packets of ``in_turn``, from the first, have been acknowledged already.
        is_claimed: True when somebody else acknowledges it, and lets go of its memory.
        publish: what its messages reply by, or None.
    """

    __slots__ = ("_count", "_messages", "acknowledged", "is_claimed", "publish", "reads", "size")

    def __init__(self, reads: list[Read], size: int = 0) -> None:
        self.reads = reads
        self.size = size
        self.acknowledged = 0
        self.is_claimed = False
        self.publish: Publish | None = None
        self._messages: list[Message] | None = None
        self._count = 0
        for read in reads:
            self._count += len(read.packets)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages) if self._messages is not None else self._one_by_one()

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._all()[index]

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} messages>"

    @property
    def packet_count(self) -> int:
        """How many there are, those included that were passed over."""
        return self._count + sum(len(read.passed_over) for read in self.reads)

    @property
    def packets(self) -> list[Packet]:
        """The messages as packets, oldest first."""
        return [packet for read in self.reads for packet in read.packets]

    def acknowledgeable(self, handled: int) -> list[Packet]:
        """Return what may be acknowledged and is not yet, in the order in which it came (MQTT 5, 4.6).

        Args:
            handled: how many of the messages, from the first, are done with.
        """
        packets: list[Packet] = []
        for read in self.reads:
            packets += read.packets[:handled]
            handled -= len(read.packets)
            if handled < 0:
                break
            packets += read.passed_over
        return packets[self.acknowledged :] if self.acknowledged else packets

    def in_turn(self) -> Iterator[tuple[Message, list[Packet]]]:
        """Iterate over each message, and what may be acknowledged as soon as it is done with.

        What was passed over behind the last one is not among it; ``acknowledgeable`` has it.
        """
        passed_over: list[Packet] = []
        for read in self.reads:
            received_at = read.received_at
            for packet in read.packets:
                yield message_of(packet, received_at, _NO_CAPTURES, self.publish), [*passed_over, packet]
                passed_over.clear()
            passed_over += read.passed_over

    def _all(self) -> list[Message]:
        if self._messages is None:
            self._messages = list(self._one_by_one())
        return self._messages

    def _one_by_one(self) -> Iterator[Message]:
        for read in self.reads:
            received_at = read.received_at
            for packet in read.packets:
                yield message_of(packet, received_at, _NO_CAPTURES, self.publish)


def message_of(
    packet: Packet,
    received_at: datetime,
    captures: Mapping[str, str] = _NO_CAPTURES,
    publish: Publish | None = None,
) -> Message:
    """Make a message of a packet whose topic and properties are valid.

    Args:
        packet: the packet.
        received_at: when it was read, in UTC.
        captures: what its topic has where the pattern of a handler has names.
        publish: what it replies by, if it names a response topic.
    """
    first, topic, mid, properties, payload = packet
    qos, is_retained, is_dup = FLAGS[first]
    message = Message(
        topic.decode(),
        payload,
        qos,
        is_retained,
        is_dup,
        mid,
        parse_properties(properties) if properties else _NO_PROPERTIES,
        received_at,
        captures,
    )
    return answerable(message, publish) if properties and publish is not None else message
