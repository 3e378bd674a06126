"""What was published and subscribed on one connection and is not answered yet, and who waits for that."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import cast

UNTOLD_MOST = 20
"""How many messages may be on their way to a broker that does not say; Mosquitto takes as many by default."""

MOST = 100
"""How many messages may be on their way, however many the broker takes."""


class Unanswered(Enum):
    """Why there is no reason code for a message."""

    LOST = auto()
    """It went out, and the connection ended before the broker had acknowledged it."""

    NOT_SENT = auto()
    """The connection ended before it went out."""


def most_on_their_way(granted: Mapping[str, object], *, is_v5: bool) -> int:
    """Return how many messages of QoS 1 and 2 may be unacknowledged (MQTT 5, 3.2.2.3.3).

    Args:
        granted: the properties of the CONNACK, by paho's names.
        is_v5: whether the connection speaks MQTT 5.
    """
    # 0 is nothing that a broker may say; taken at its word, nothing would ever go out
    return min(cast("int", granted.get("ReceiveMaximum", 0)) or MOST, MOST) if is_v5 else UNTOLD_MOST


class Receipts:
    """The messages of one connection that are on their way, and who waits for their acknowledgement.

    Args:
        most: how many of QoS 1 and 2 may be on their way; more have to wait for their turn.
    """

    def __init__(self, most: int) -> None:
        self._turns = asyncio.Semaphore(most)
        self._expected: dict[int, tuple[asyncio.Future[int | Unanswered], int]] = {}

    async def turn(self, qos: int) -> None:
        """Wait until another message may go out.

        Args:
            qos: of the message; at QoS 0 nothing is waited for.
        """
        if qos:
            await self._turns.acquire()

    def give_back(self, qos: int) -> None:
        """Let somebody else have the turn: the message did not go out, or is acknowledged."""
        if qos:
            self._turns.release()

    async def in_turn(
        self, qos: int, send: Callable[[], "asyncio.Future[int | Unanswered] | int | Unanswered"]
    ) -> int | Unanswered:
        """Send a message when its turn has come, and return its receipt.

        Args:
            qos: of the message.
            send: sends it, and returns the receipt to come, or what is known already.
        """
        await self.turn(qos)
        outcome: asyncio.Future[int | Unanswered] | int | Unanswered = Unanswered.NOT_SENT
        try:
            outcome = send()
        finally:
            if not isinstance(outcome, asyncio.Future):
                self.give_back(qos)
        return await outcome if isinstance(outcome, asyncio.Future) else outcome

    def expect(self, mid: int, qos: int) -> asyncio.Future[int | Unanswered]:
        """Take note of a message that went out, and return its receipt: the reason code, when it has come.

        Its turn lasts until then, whether somebody still waits for it or not.

        Args:
            mid: its packet identifier, or what paho has instead at QoS 0.
            qos: its QoS.
        """
        receipt: asyncio.Future[int | Unanswered] = asyncio.get_running_loop().create_future()
        self._expected[mid] = receipt, qos
        return receipt

    def came(self, mid: int, outcome: int | Unanswered) -> bool:
        """Settle a receipt, and tell whether it was one of ours.

        Args:
            mid: as in ``expect``.
            outcome: the reason code (MQTT 5, 3.4.2.1), 0 where there is none; or why there will be none.
        """
        if mid not in self._expected:
            return False
        receipt, qos = self._expected.pop(mid)
        self.give_back(qos)
        if not receipt.done():
            receipt.set_result(outcome)
        return True

    def end(self) -> None:
        """Let nobody wait any longer: the connection has ended."""
        for mid in tuple(self._expected):
            self.came(mid, Unanswered.LOST)


class Subacks:
    """The SUBSCRIBEs of one connection that are on their way, and who waits for the answers."""

    def __init__(self) -> None:
        self._expected: dict[int, asyncio.Future[Sequence[int]]] = {}

    def expect(self, mid: int) -> asyncio.Future[Sequence[int]]:
        """Take note of a SUBSCRIBE, and return its answer: a reason code for each filter.

        Args:
            mid: its packet identifier.
        """
        suback: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
        self._expected[mid] = suback
        return suback

    def came(self, mid: int, codes: Sequence[int]) -> bool:
        """Settle an answer, and tell whether it was to one of ours.

        Args:
            mid: as in ``expect``.
            codes: the reason codes (MQTT 5, 3.9.3).
        """
        if mid not in self._expected:
            return False
        suback = self._expected.pop(mid)
        if not suback.done():
            suback.set_result(codes)
        return True
