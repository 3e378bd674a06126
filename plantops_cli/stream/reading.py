"""When a socket is read, and when it is left alone: because too much waits, or because a rest brings more at once.

Each turn of the event loop reads once, hands the messages on, and lets paho have the rest. Whoever may be sending
without end thus never keeps the others of the event loop waiting.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from plantops_cli.stream.answers import Answers
from plantops_cli.stream.hearing import Hearing
from plantops_cli.stream.packets import Packet
from plantops_cli.stream.port import Receiver
from plantops_cli.stream.tap import READ_BYTES, Tap

# the answers to pings, two bytes each, do not show that a packet makes headway
_HEADWAY_BYTES = 1024
_PAHO_SECONDS = 0.02

# Sixteen reads in a row, of less than 16 KiB each and less than 0.3 ms apart, are a flood in small pieces; a rest
# was worth it when it brought 2 KiB
_CLOSE_READS, _SMALL_BYTES, _CLOSE_SECONDS = 16, 16 * 1024, 0.000_3
_REST_SECONDS, _WORTH_A_REST_BYTES = 0.001, 2 * 1024


class PahoReader(Protocol):
    """As much of a ``paho.mqtt.client.Client`` as is needed to read."""

    def socket(self) -> object | None: ...
    def loop_read(self) -> object: ...


class Reading:
    """The reading of one connection.

    Args:
        paho: gets all that is no message; its socket is the tap that ``begin`` gets, or None once it is closed.
        receiver: gets the messages, and says by its inbox how many there is room for.
        answers: are told when the socket is left unread, and with it the answers in it.
        on_broken: called with what made no sense, or what the receiver has raised.

    Attributes:
        hearing: when the broker was heard.
        read_at: when something was read last, by the clock of the event loop; 0 before.
        is_paused: True while the socket is left unread, whatever comes.
    """

    def __init__(
        self, paho: PahoReader, receiver: Receiver, answers: Answers, on_broken: Callable[[Exception], None]
    ) -> None:
        self.hearing = Hearing()
        self.read_at = 0.0
        self.is_paused = False
        self._paho = paho
        self._receiver = receiver
        self._inbox = receiver.inbox
        self._answers = answers
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._tap: Tap | None = None
        self._has_heard = False
        self._heard_bytes = 0
        self._waiting_count = 0
        self._partial_bytes = 0
        self._close_reads = 0
        self._is_rested = False

    def begin(self, tap: Tap) -> None:
        """Read from now on.

        Args:
            tap: what to read.
        """
        self._tap = tap
        self._loop.add_reader(tap.fileno(), self._read)

    def pause(self) -> None:
        """Leave the socket unread until ``resume``."""
        if self._tap is not None and self._paho.socket() is not None and not self.is_paused:
            self.is_paused = True
            self._loop.remove_reader(self._tap.fileno())
            self._answers.stop_coming()

    def resume(self) -> None:
        """Read the socket again."""
        if not self.is_paused:
            return
        self.is_paused = False
        self._answers.come_again()
        if self._tap is not None and self._paho.socket() is not None:
            self._loop.add_reader(self._tap.fileno(), self._read)
            # TLS may hold decrypted bytes of which the selector knows nothing
            self._loop.call_soon(self._read)

    @contextmanager
    def read_on(self) -> Iterator[None]:
        """Read beyond what usually may wait in the block, for an answer is waited for that lies behind it."""
        self._waiting_count += 1
        self._inbox.extend(is_extended=True)
        if self._inbox.room:
            self.resume()
        try:
            yield
        finally:
            self._waiting_count -= 1
            if not self._waiting_count:
                self._inbox.extend(is_extended=False)

    def has_headway(self) -> bool:
        """Tell whether something has come since the last call: a message, a good piece of one, or bytes unread."""
        tap = self._tap
        if tap is None:
            return False
        (self.hearing.saw_end if self.is_end_unread else self.hearing.looked)()
        headway = tap.partial_bytes - self._partial_bytes
        has_headway = self._has_heard or headway < 0 or headway >= _HEADWAY_BYTES or tap.has_unread
        self._has_heard = False
        if has_headway:
            self._partial_bytes = tap.partial_bytes
        return has_headway

    @property
    def is_end_unread(self) -> bool:
        """Whether the end of the connection waits behind messages that are left unread."""
        return self._tap is not None and self.is_paused and self._tap.is_hung_up

    def silent_since(self, *, is_given_up: bool) -> float:
        """Return since when nothing can have been heard, now that the connection has ended.

        Args:
            is_given_up: whether it was this side that ended it.
        """
        is_told = not is_given_up and self._tap is not None and self._tap.is_end_told
        return self.hearing.silent_since(is_told=is_told)

    def _read(self) -> None:
        tap, receiver = self._tap, self._receiver
        if tap is None or self.is_paused or self._paho.socket() is None:
            return
        try:
            # what is for paho goes first: a read with more of it would let it grow without bound
            packets, size = ([], 0) if tap.has_foreign else self._fill(tap)
            try:
                if packets:
                    self._has_heard = True
                    (receiver.take_exactly_once if tap.is_exactly_once else receiver.take)(packets, size)
            finally:
                self._let_paho_read(tap)
        except Exception as exc:  # paho raises whatever its parser trips over
            self._on_broken(exc)
            return
        moment = self._loop.time()
        seconds = moment - self.read_at
        if size:
            self.read_at = moment
        self._go_on_after(tap, size, seconds)

    def _fill(self, tap: Tap) -> tuple[list[Packet], int]:
        try:
            return tap.fill(self._inbox.room)
        finally:
            if tap.heard_bytes != self._heard_bytes:
                self._heard_bytes = tap.heard_bytes
                self.hearing.heard()

    def _go_on_after(self, tap: Tap, size: int, seconds: float) -> None:
        """Decide what follows on a read: another one, a pause, a rest, or whatever the selector says."""
        if tap.has_news:
            self._loop.call_soon(self._read)
        elif self._inbox.is_full(tap.partial_bytes):
            self.pause()
        elif tap.has_more or tap.pending():
            self._loop.call_soon(self._read)
        elif self._is_hurried(size, seconds):
            self._rest()

    def _let_paho_read(self, tap: Tap) -> None:
        """Hand on what is no message, for no longer than others can wait."""
        if not tap.has_news:
            return
        until = self._loop.time() + _PAHO_SECONDS
        while tap.has_news and self._paho.socket() is not None and self._loop.time() < until:
            self._paho.loop_read()

    def _is_hurried(self, size: int, seconds: float) -> bool:
        """Tell whether a flood comes in small pieces, each of which costs a turn of the event loop.

        Args:
            size: bytes that the last read has brought.
            seconds: time from the one before it.
        """
        if self._is_rested:
            self._is_rested = False
            is_close = _WORTH_A_REST_BYTES <= size < READ_BYTES
        else:
            is_close = 0 < size < _SMALL_BYTES and seconds < _CLOSE_SECONDS
        self._close_reads = self._close_reads + 1 if is_close else 0
        return self._close_reads >= _CLOSE_READS

    def _rest(self) -> None:
        """Leave the socket alone for a moment, so that the next read finds more."""
        if self._tap is not None and self._paho.socket() is not None:
            self._loop.remove_reader(self._tap.fileno())
            self._loop.call_later(_REST_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        if self._tap is not None and self._paho.socket() is not None and not self.is_paused:
            self._is_rested = True
            self._loop.add_reader(self._tap.fileno(), self._read)
            self._read()
