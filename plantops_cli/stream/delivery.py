"""The way of a message from the socket to its acknowledgement.

    read --> take --> offered at once, if it is little and nothing waits before it --> acknowledged
                  `-> waits in the inbox --> yielded in a batch --> acknowledged when the next one is asked for

Messages keep their order on it, and so do their acknowledgements (MQTT 5, 4.6).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from plantops_cli.errors import BrokerError
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.exactly_once import ExactlyOnce, UnreleasedError
from plantops_cli.stream.inbox import Inbox, memory_of
from plantops_cli.stream.packets import QOS_2, Packet, puback, pubrec
from plantops_cli.stream.port import Line
from plantops_cli.stream.rates import Rates
from plantops_cli.stream.status import Paused, Status

logger = logging.getLogger("plantops.stream")

SLOW_SECONDS = 2.0
"""A batch that is handled for longer holds the stream up."""

AtOnce = Callable[[Batch], bool]
"""Handles a few messages of QoS 0 and 1 in no time, or refuses them."""

Claim = Callable[[Batch], bool]
"""Takes messages to acknowledge them and to let go of their memory when it is done with them, or refuses them."""

_PASSED_OVER = "message passed over: its topic is empty, no UTF-8, or holds a wildcard or NUL (MQTT 3.3.2.1)"
_TOPIC_BYTES = 80
_FEW_MESSAGES, _FEW_BYTES = 8, 2 * 1024
_TURN_SECONDS = 0.02


class Delivery:
    """The messages of one connection on their way to whoever handles them.

    Args:
        inbox: where they wait.
        exactly_once: what is known of messages of QoS 2.
        on_status: told when a batch holds the stream up.

    Attributes:
        inbox: as given.
        line: the connection, once there is one.
        reader: the task that iterates over ``batches``, or None.
        invalid: PUBLISH packets that carried no valid topic name.
        paused_seconds: how long batches held the stream up that took longer than ``SLOW_SECONDS``.
    """

    def __init__(self, inbox: Inbox, exactly_once: ExactlyOnce, on_status: Callable[[Status], None]) -> None:
        self.inbox = inbox
        self.line: Line | None = None
        self.reader: asyncio.Task[Any] | None = None
        self.invalid = 0
        self.paused_seconds = 0.0
        self._exactly_once = exactly_once
        self._epoch = exactly_once.epoch
        self._on_status = on_status
        self._at_once: AtOnce | None = None
        self._claim: Claim | None = None
        self._rates = Rates(logger)
        self._failure: Exception | None = None
        self._ended: BrokerError | None = None
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._held: Batch | None = None
        self._held_since = 0.0
        self._gave_way_at = 0.0
        self._next_notice = SLOW_SECONDS

    # From the socket

    def take(self, packets: list[Packet], size: int) -> None:
        """Hand messages to the reader: at once if they are few and it is free, else in its turn.

        Those without a valid topic name are counted and passed over; they are acknowledged in their turn.

        Args:
            packets: the messages, at least one.
            size: how many bytes they took, with all that came along.

        Raises:
            MalformedPacketError: the properties of one are not valid; those before it were handed over.
        """
        if self.inbox.is_closed:
            return
        if self.inbox.knows(packets):
            self._hand_over(packets, size)
            return
        portions, error = self.inbox.examine(packets, size)
        for portion in portions:
            (self._hand_over if portion.has_valid_topics else self._pass_over)(portion.packets, portion.size)
        if error is not None:
            raise error

    def take_exactly_once(self, packets: list[Packet], size: int) -> None:
        """Do what ``take`` does with messages among which some are of QoS 2, or with PUBRELs.

        Args:
            packets: the messages and PUBRELs, at least one.
            size: how many bytes they took, with all that came along.

        Raises:
            MalformedPacketError: as in ``take``.
        """
        new, answers = self._exactly_once.sift(packets)
        # at once: nobody has to handle anything before, and the broker waits with these identifiers
        if self.line and answers:
            self.line.writing.push(answers)
        if new:
            self.take(new, size)

    def _hand_over(self, packets: list[Packet], size: int) -> None:
        read = Read(time.time_ns(), packets)
        if self.inbox or self._held is not None or not self._offer(read, size):
            self._queue(read, size)

    def _pass_over(self, packets: list[Packet], size: int) -> None:
        """Count messages without a valid topic name, and acknowledge them behind what waits (MQTT 5, 4.6)."""
        self.invalid += len(packets)
        for packet in packets:
            if (more := self._rates.ask("messages passed over")) is not None:
                logger.warning("%s: %a%s", _PASSED_OVER, packet[1][:_TOPIC_BYTES], more)
        if self.inbox or self.inbox.has_in_hand:
            self._queue(Read(time.time_ns(), [], passed_over=packets), size)
        else:
            self.acknowledge(packets)

    def _offer(self, read: Read, size: int) -> bool:
        """Offer what was read, before which nothing waits, to ``claim`` or ``at_once``; True when taken."""
        if self._claim is not None:
            return self._offer_for_good(Batch([read], memory_of(read, size)))
        if self._at_once is None:
            return False
        # much of it is quicker in a batch, and would keep the event loop from its other work
        if size > _FEW_BYTES or len(read.packets) > _FEW_MESSAGES:
            return False
        if read.packets[0][0] & QOS_2:  # seldom: let many come together
            return False
        try:
            is_done = self._at_once(Batch([read]))
        except Exception as exc:
            self._failure, self._at_once = exc, None  # raised where the reader can catch it
            return False
        if is_done:
            self.acknowledge(read.packets)
        return is_done

    def _offer_for_good(self, batch: Batch) -> bool:
        assert self._claim is not None
        try:
            batch.is_claimed = self._claim(batch)
        except Exception as exc:
            self._failure, self._claim = exc, None
        if batch.is_claimed:
            self.inbox.claim(batch)
        return batch.is_claimed

    def _queue(self, read: Read, size: int) -> None:
        self.inbox.put(read, size)
        self._news.set()

    # To the reader

    async def batches(
        self, at_once: AtOnce | None = None, claim: Claim | None = None
    ) -> AsyncGenerator[Batch, None]:
        """Yield what has arrived, a non-empty batch at a time, until ``finish`` is called.

        The QoS 1 and 2 messages of a batch are acknowledged when the next one is asked for, or when ``finish``
        ends the iteration: whoever iterates is then done with them. After ``break`` they stay unacknowledged.

        Args:
            at_once: is offered a few messages that nothing waits before, in the very turn of the event loop in
                which they are read; True when it is done with them, so that they are acknowledged, not yielded.
            claim: is offered, instead, whatever nothing waits before, in that turn; True when it has taken it, so
                that it is neither acknowledged nor yielded here.

        Raises:
            BrokerError: the connection ended; everything that had arrived was yielded before.
            Exception: whatever ``at_once`` raised; its messages stay unacknowledged.
        """
        self._at_once, self._claim = at_once, claim
        self._watch()
        try:
            while True:
                self.reader = asyncio.current_task()  # each time, for tasks may take turns in asking
                if self._failure:
                    raise self._failure
                if not self.inbox:
                    if self.inbox.is_closed:
                        return
                    if self._ended:  # only now: what had come before the end is not lost
                        raise self._ended
                    self._news.clear()
                    await self._news.wait()
                    self._gave_way_at = self._loop.time()
                    continue
                batch = self.inbox.take()
                if not batch and not self.inbox.has_in_hand_beside(batch):  # but what was passed over
                    self.acknowledge(batch.acknowledgeable(0))
                    self.let_go(batch.size)
                    await self._give_way()
                    continue
                self._held, self._held_since = batch, self._loop.time()
                self._next_notice = SLOW_SECONDS
                try:
                    yield batch
                    if not batch.is_claimed:
                        self.acknowledge(batch.acknowledgeable(len(batch)))
                finally:
                    self._held = None
                    if not batch.is_claimed:
                        self._account_for(batch)
                await self._give_way()
        finally:
            self._at_once = self._claim = self.reader = None
            self._watcher.cancel()

    def _account_for(self, batch: Batch) -> None:
        self.let_go(batch.size)
        seconds = self._loop.time() - self._held_since
        if seconds >= SLOW_SECONDS:
            self.paused_seconds += seconds

    def finish(self) -> None:
        """Let ``batches`` end after what has arrived; messages that come later are dropped, unacknowledged."""
        self.inbox.close()
        self._rates.tell_left_out()
        if self.line:
            # handlers may still wait for answers of the broker
            self.line.reading.resume()
        self._news.set()

    def end(self, error: BrokerError) -> None:
        """Let ``batches`` raise this after what has arrived: nothing more comes."""
        self._ended = error
        self._rates.tell_left_out()
        self._news.set()

    async def _give_way(self) -> None:
        """Let others have their turn now and then: a reader that never waits would keep them waiting.

        Not after each batch: reading, which comes twice in a turn, would then run away from it.
        """
        if self._loop.time() - self._gave_way_at > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._gave_way_at = self._loop.time()

    def let_go(self, size: int) -> None:
        """Make room: something is done with.

        Args:
            size: bytes of memory that it took.
        """
        self.inbox.let_go(size)
        if self.line:
            self.line.reading.resume()

    def _watch(self) -> None:
        """Say that a batch is still being handled, ever more seldom; one timer for all, for each would cost."""
        is_held = self._held is not None and not self._held.is_claimed
        seconds = self._loop.time() - self._held_since if is_held else 0.0
        if seconds >= self._next_notice and not self.inbox.is_closed:
            self._next_notice = 2 * seconds
            self._on_status(Paused(seconds))
        self._watcher = self._loop.call_later(SLOW_SECONDS / 4, self._watch)

    # Back to the broker

    def acknowledge(self, packets: Iterable[Packet]) -> bool:
        """Tell the broker that these messages are done with, in this order (MQTT 5, 4.6).

        Args:
            packets: messages of this connection; those of QoS 0 are passed over.

        Returns:
            False when it cannot be told any more, so that it may send them again.
        """
        at_least_once: list[int] = []
        exactly_once: list[int] = []
        for first, topic, mid, _, payload in packets:
            if first & QOS_2:
                exactly_once.append(mid)
                # noted also when nobody can be told any more: on the next connection it is no new message; but
                # once that has begun, an identifier of this one may stand for something else
                if self._epoch == self._exactly_once.epoch:
                    self._exactly_once.handled(mid, len(topic) + len(payload))
            elif mid:
                at_least_once.append(mid)
        line = self.line
        if line is None or not line.is_open:
            return False
        if at_least_once:
            line.writing.push(puback(at_least_once))
        if exactly_once:
            line.writing.push(pubrec(exactly_once))
            self._look_for_pubrels(line)
        return True

    def _look_for_pubrels(self, line: Line) -> None:
        """Ask a broker that owes many a PUBREL for a sign behind them, and give it up when they do not come."""
        try:
            if self._exactly_once.is_to_be_asked():
                line.ask(lambda: self._look_after_pong(line))
        except UnreleasedError as exc:
            line.break_off(exc)

    def _look_after_pong(self, line: Line) -> None:
        try:
            self._exactly_once.answered()
        except UnreleasedError as exc:
            line.break_off(exc)
