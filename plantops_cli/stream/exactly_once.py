"""The messages of QoS 2 of one client, by their packet identifiers: pure.

A message is handed on when its PUBLISH comes, and the PUBREC goes out when it has been handled, so that a crash
between the two loses nothing. From then on the identifier alone is kept, until the PUBREL: a PUBLISH that repeats
it is no new message (MQTT 5, 4.3.3).
"""

from plantops_cli.stream.packets import DUP, PUBREL, QOS_2, MalformedPacketError, Packet, pubcomp, pubrec

LEAST_BYTES = 1024 * 1024
"""What a broker may owe a PUBREL for, however little may wait: it sends them in their turn."""

UNRELEASED_FACTOR = 4
"""How many times the bytes that may wait a broker may owe a PUBREL for, whatever it answers."""


class UnreleasedError(MalformedPacketError):
    """More of QoS 2 came without its PUBREL than any broker that sends PUBREL leaves open (MQTT 5, 4.9)."""

    reason_code = 0x93


class ExactlyOnce:
    """What is known of packet identifiers; outlives a connection when the broker keeps the session.

    A broker may send many messages before the first PUBREL, for it answers in its turn. Past a bound it is pinged,
    and the PUBRELs have to come before its answer.

    Args:
        max_bytes: bytes of messages without PUBREL, past which the broker is asked.

    Attributes:
        epoch: how many connections have begun.
    """

    def __init__(self, max_bytes: int) -> None:
        self.epoch = 0
        self._max_bytes = max_bytes
        self._in_hand: set[int] = set()
        self._handled: dict[int, int] = {}
        self._handled_bytes = 0
        self._earlier: set[int] = set()
        self._asked: set[int] | None = None

    def begin(self) -> None:
        """Begin a connection: what was not handled comes again, and for the rest the broker owes nothing yet."""
        self.epoch += 1
        self._in_hand.clear()
        self._handled = dict.fromkeys(self._handled, 0)
        self._handled_bytes = 0
        self._earlier = set(self._handled)
        self._asked = None

    def forget(self) -> None:
        """Forget what was handled: the broker has not kept the session, and will use each identifier anew."""
        self._handled.clear()
        self._handled_bytes = 0
        self._earlier.clear()

    def sift(self, packets: list[Packet]) -> tuple[list[Packet], bytes]:
        """Take note of what was read; return the messages that are new, and what is to be answered at once.

        A message that was handled and comes again has lost its PUBREC, so that it gets another one; one that is
        still being handled gets its PUBREC in its turn. Each PUBREL gets its PUBCOMP, also for an identifier that
        is not known (MQTT 5, 4.3.3).

        Args:
            packets: messages of any QoS, and PUBRELs.
        """
        new: list[Packet] = []
        repeated: list[int] = []
        released: list[int] = []
        for packet in packets:
            first, mid = packet[0], packet[2]
            if first == PUBREL:
                self.released(mid)
                released.append(mid)
            elif not first & QOS_2 or self.came(mid, is_dup=bool(first & DUP)):
                new.append(packet)
            elif self.is_handled(mid):
                repeated.append(mid)
        return new, pubrec(repeated) + pubcomp(released) if repeated or released else b""

    def came(self, mid: int, *, is_dup: bool) -> bool:
        """Take note of a PUBLISH, and tell whether it brings a new message.

        A broker that crashed may have lost what it knew of an identifier, and use it anew; what it sends again
        has the DUP flag (MQTT 5, 3.3.1-1).

        Args:
            mid: its packet identifier.
            is_dup: whether it has the DUP flag.
        """
        if mid in self._earlier:
            self._earlier.discard(mid)
            if not is_dup:
                self._handled.pop(mid, None)
        if mid in self._in_hand or mid in self._handled:
            return False
        self._in_hand.add(mid)
        return True

    def is_handled(self, mid: int) -> bool:
        """Tell whether a message was handled whose PUBREL has not come."""
        return mid in self._handled

    def handled(self, mid: int, size: int) -> None:
        """Take note that a message has been handled, and its PUBREC goes out.

        Args:
            mid: its packet identifier.
            size: its bytes.
        """
        self._in_hand.discard(mid)
        if mid not in self._handled:
            self._handled[mid] = size
            self._handled_bytes += size

    def released(self, mid: int) -> None:
        """Take note of a PUBREL; the identifier may be used again."""
        self._handled_bytes -= self._handled.pop(mid, 0)
        self._earlier.discard(mid)
        if self._asked:
            self._asked.discard(mid)

    def is_to_be_asked(self) -> bool:
        """Tell whether the broker is to be pinged now, to show that it sends PUBREL; ``answered`` is called then.

        Raises:
            UnreleasedError: so much came without PUBREL that no answer is waited for.
        """
        if self._handled_bytes > UNRELEASED_FACTOR * self._max_bytes:
            raise self._unreleased()
        if self._handled_bytes <= self._max_bytes or self._asked is not None:
            return False
        self._asked = self._handled.keys() - self._earlier
        return True

    def answered(self) -> None:
        """Look whether the PUBRELs have come before the answer to a ping that was sent behind their PUBRECs.

        Raises:
            UnreleasedError: they have not.
        """
        asked, self._asked = self._asked, None
        if self._handled_bytes > self._max_bytes and asked:
            raise self._unreleased()

    def _unreleased(self) -> UnreleasedError:
        return UnreleasedError(
            f"{len(self._handled):,} messages of QoS 2 without their PUBREL, {self._handled_bytes:,} bytes "
            "(MQTT 5, 4.9)"
        )
