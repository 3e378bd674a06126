"""Pings: ours and paho's, in one line, and the end of a connection on which nothing at all comes."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from plantops_cli.stream.hearing import Hearing

_PINGREQ = b"\xc0\x00"
_PINGRESP_BYTES = 2
_LOOK_SECONDS = 1.0

_Code = TypeVar("_Code", bound=int)


class Heard(Protocol):
    """What is known of what comes; ``Reading`` is it."""

    @property
    def is_end_unread(self) -> bool: ...
    def has_headway(self) -> bool: ...


class HeardFrom(Heard, Protocol):
    """The same, with when something came; ``Reading`` is it, too."""

    @property
    def hearing(self) -> Hearing: ...


class KeepAlive(Generic[_Code]):
    """The pings of one connection, whose answers come in their order (MQTT 5, 3.12).

    Args:
        send: paho's way to send a ping.
        answered: paho's way to take an answer.
        push: sends a packet of ours.

    Attributes:
        heard_bytes: how many bytes of answers have come.
    """

    def __init__(
        self, send: Callable[[], _Code], answered: Callable[[], _Code], push: Callable[[bytes], None]
    ) -> None:
        self._send = send
        self._answered = answered
        self._push = push
        self.heard_bytes = 0
        self._asked: deque[Callable[[], None]] = deque()

    def ask(self, answered: Callable[[], None]) -> None:
        """Send a ping of our own.

        Args:
            answered: called when the broker has answered, and so has dealt with all that was sent before.
        """
        self._asked.append(answered)
        self._push(_PINGREQ)

    def ping(self) -> _Code:
        """Send a ping of paho's."""
        self._asked.append(_do_nothing)
        return self._send()

    def ponged(self) -> _Code:
        """Take an answer, and tell whoever asked."""
        self.heard_bytes += _PINGRESP_BYTES
        code = self._answered()
        if self._asked:
            self._asked.popleft()()
        return code


class Vigil:
    """Looks after one connection, and asks at once whether it has outlived a gap in which nobody looked.

    Args:
        reading: of the connection.
        look: as in ``keep_alive``.
        note_headway: as in ``keep_alive``.
        ask: sends a ping, unless one is on its way.
    """

    def __init__(
        self,
        reading: HeardFrom,
        *,
        look: Callable[[], int],
        note_headway: Callable[[], None],
        ask: Callable[[], None],
    ) -> None:
        self._reading = reading
        self._look = look
        self._note_headway = note_headway
        self._ask = ask
        self._gap_count = 0

    async def keep(self, connected: asyncio.Future[None]) -> None:
        """Look after it until paho gives it up; as ``keep_alive``."""
        await keep_alive(connected, self._reading, note_headway=self._note_headway, look=self._look_on)

    def ping(self, send: Callable[[], _Code]) -> _Code:
        """Send a ping of paho's, and take note of when.

        Args:
            send: sends it.
        """
        self._reading.hearing.asked()
        return send()

    def _look_on(self) -> int:
        gap_count = self._reading.hearing.gap_count
        if gap_count != self._gap_count:
            self._gap_count = gap_count
            # stopped or asleep, we may have been given up: to ask now tells sooner than to wait for the next ping
            self._ask()
        return self._look()


async def keep_alive(
    connected: asyncio.Future[None], reading: Heard, *, note_headway: Callable[[], None], look: Callable[[], int]
) -> None:
    """Look after a connection each second, until paho gives it up.

    Args:
        connected: done when the CONNACK has come; paho would give up a connection without one.
        reading: tells whether something has come, or the end waits behind messages.
        note_headway: lets paho know of it, for a PINGRESP may lie behind messages, read or unread, without end.
        look: lets paho send a ping, or give the connection up; 0: it goes on.
    """
    await asyncio.wait((connected,))
    while True:
        if reading.has_headway():
            note_headway()
        # over a ping that fails paho would close the socket, and with it what is still to be read
        if not reading.is_end_unread and look():
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _do_nothing() -> None: ...
