"""From batches to handlers: what is in hand, who handles it, and what is acknowledged.

    take --> ledger, in the order of arrival --------------------------> acknowledged in that order
        `--> lanes, in the order of each key --> workers --> done with --'
                             ^                      |
                             `---- put off <--------'  a handler that has failed, and is called again

Whoever reads waits for none of this until as many messages are in hand as may be.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Hashable, Set
from contextlib import suppress
from itertools import takewhile
from typing import Protocol

from plantops_cli.messages import Publish
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.handling.bounds import Bounds
from plantops_cli.stream.handling.handlers import Handlers, Part
from plantops_cli.stream.handling.holdup import Holdup
from plantops_cli.stream.handling.lane import Lane
from plantops_cli.stream.handling.ledger import Ledger, Work
from plantops_cli.stream.handling.registration import Registration
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.handling.team import Team
from plantops_cli.stream.handling.threads import Threads
from plantops_cli.stream.handling.turns import Turns
from plantops_cli.stream.packets import DUP, LONGEST_TOPIC_KEPT, QOS_1_OR_2, Packet
from plantops_cli.stream.status import Paused, Status

logger = logging.getLogger("plantops.stream")

# who publishes chooses the topics, and so could fill our memory with ways
_TOPICS_KEPT = 10_000
# to take each that has become free at once would cost a turn of the event loop for each
_WORTH_TAKING = 50
_LAST_SECONDS, _CANCEL_SECONDS = 0.5, 0.5


Way = tuple[tuple[Part, Callable[[Work], None]], ...]
"""The parts of the handling of a topic, and where each of them waits."""


class Connection(Protocol):
    """The session on which messages have come."""

    is_resumed: bool

    @property
    def has_ended(self) -> bool: ...
    @property
    def has_properties(self) -> bool: ...
    def acknowledge(self, packets: list[Packet]) -> bool: ...
    def let_go(self, size: int) -> None: ...
    def when_ended(self, told: Callable[[], None]) -> None: ...
    def give_up(self) -> None: ...


class Source(Protocol):
    """Where messages wait until they are taken."""

    @property
    def held(self) -> int: ...
    def leave_to_broker(self) -> None: ...


class Dispatcher:
    """Hands messages to workers, and acknowledges what they are done with; used once, on one event loop.

    Args:
        handlers: who gets what.
        tally: counts what failed.
        publish: as ``MQTTSubscriber.publish``.
        source: has messages that wait to be taken.
        on_status: told of a message that takes long.
        bounds: how much may be in hand at once.
        is_durable: whether the broker keeps what is not acknowledged.
    """

    def __init__(
        self,
        handlers: Handlers,
        tally: Tally,
        publish: Publish,
        source: Source,
        on_status: Callable[[Status], None],
        *,
        bounds: Bounds,
        is_durable: bool,
    ) -> None:
        self.tally = tally
        self.publish = publish
        self.threads = Threads(bounds.max_threads)
        self.turns = Turns()
        self._handlers = handlers
        self._source = source
        self._is_durable = is_durable
        self._bound = bounds.max_unacknowledged
        self._worth_taking = min(_WORTH_TAKING, max(self._bound // 10, 1))
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._ledgers: list[Ledger] = []
        self._backlog: deque[tuple[Ledger, Read]] = deque()
        self._ways: dict[bytes, Way] = {}
        self._version = 0
        self._teams: dict[Registration | None, Team] = {}
        self._put_off: dict[Work, asyncio.TimerHandle] = {}
        self._kept: list[tuple[Team, Work]] = []
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._is_full = self._is_finishing = self.is_leaving = False
        self._failure: BaseException | None = None
        self._on_status = on_status
        self._holdup = Holdup(self._oldest, self._tell_of_holdup, tally)

    @property
    def in_hand(self) -> int:
        """How many messages are in hand: being handled, waiting for it, or for their acknowledgement."""
        return sum(map(len, self._ledgers))

    @property
    def has_properties(self) -> bool:
        """Whether what is published may have properties (MQTT 5)."""
        return self._connection is None or self._connection.has_properties

    # Taking

    async def take(self, batch: Batch, connection: Connection) -> None:
        """Take a batch, and return when more may be taken, or when its connection has ended.

        Args:
            batch: messages that were yielded just now.
            connection: the session that has yielded them.
        """
        batch.is_claimed = True
        if self._gone.is_set():
            connection.let_go(batch.size)
            _tell_of_dropped(len(batch))
            return
        ledger = self._begin(batch, connection)
        self._backlog.extend((ledger, read) for read in batch.reads)
        self._feed()
        if self._kept:
            self._look()
        while self._backlog and not connection.has_ended and not self.is_leaving:
            self._is_full = True
            await self._change_of_state()
            self._feed()
        self._is_full = False
        if self._failure is not None:
            raise self._failure

    def claim(self, batch: Batch, connection: Connection) -> bool:
        """Take a batch in the turn in which it was read, if there is room for all of it; True when it was taken.

        Args:
            batch: messages that were read just now, before which nothing waits.
            connection: the session that has read them.
        """
        if self._is_finishing or self._backlog or self._kept or self._failure or self._room() < len(batch):
            return False
        ledger = self._begin(batch, connection)
        for read in batch.reads:
            self._enter(ledger, read)
        for team in self._teams.values():
            team.rouse()
        return True

    def _begin(self, batch: Batch, connection: Connection) -> Ledger:
        if connection is not self._connection:
            self._change(connection)
        ledger = self._ledgers[-1]
        ledger.begin(batch.packet_count, batch.size)
        return ledger

    def _change(self, connection: Connection) -> None:
        """Go on with another connection."""
        earlier: list[Work] = []
        if self._ledgers:
            earlier = self._ledgers[-1].close()
        self._connection = connection
        connection.when_ended(self._changed.set)
        made = Ledger(
            lambda packets: self._acknowledge(connection, packets),
            lambda size: self._release(connection, size),
            lambda: self._flush_soon(made),
            earlier if connection.is_resumed else (),
        )
        in_use = [
            ledger for ledger in self._ledgers if len(ledger) or any(ledger is each for each, _ in self._backlog)
        ]
        self._ledgers = [*in_use, made]
        if not connection.is_resumed:
            for ledger in in_use:
                ledger.is_lost = True
        self._let_go_of_kept()

    async def _change_of_state(self) -> None:
        self._changed.clear()
        self._look()  # which may change it at once
        await self._changed.wait()

    def _feed(self) -> None:
        """Let as much of what was taken be handled as there is room for."""
        backlog = self._backlog
        while backlog:
            ledger, read = backlog[0]
            room, count = self._room(), len(read.packets)
            if room < min(count, self._worth_taking):
                break
            backlog.popleft()
            if room < count:
                backlog.appendleft((ledger, read._replace(packets=read.packets[room:])))
                read = Read(read.received_ns, read.packets[:room])
            self._enter(ledger, read)
        for team in self._teams.values():
            team.rouse()

    def _room(self) -> int:
        # of a session that the broker keeps, it must be known what is in hand before it is resumed
        if self._is_durable and self._connection is not None and self._connection.has_ended:
            return sys.maxsize
        return self._bound - self.in_hand

    def _enter(self, ledger: Ledger, read: Read) -> None:
        if self._version != self._handlers.version:
            self._version = self._handlers.version
            self._ways.clear()
        entries, ways = ledger.entries, self._ways
        received_at = read.received_at
        for packet in read.packets:
            if packet[0] & DUP and (earlier := ledger.find_earlier(packet)):
                work = Work(packet, received_at, ledger)
                entries.append(work)
                earlier.bequeath(work)
                continue
            way = ways.get(packet[1])
            if way is None:
                way = self._find_way(packet[1])
            if len(way) == 1:
                part, put = way[0]
                work = Work(packet, received_at, ledger, part)
                entries.append(work)
                put(work)
            else:
                self._enter_parts(Work(packet, received_at, ledger), way)
        for packet in read.passed_over:
            self._enter_parts(Work(packet, received_at, ledger), ())

    def _enter_parts(self, work: Work, way: "Way") -> None:
        work.outstanding = len(way)
        work.ledger.entries.append(work)
        for part, put in way:
            put(Work(work.packet, work.received_at, work.ledger, part, work))
        if not way:
            work.settle()

    def _find_way(self, topic: bytes) -> "Way":
        """Find out who handles the messages of a topic, and remember it, but for long ones."""
        if len(self._ways) >= _TOPICS_KEPT:
            self._ways.clear()
        parts = self._handlers.route(topic.decode())
        way = tuple((part, self._team_of(part.owner).lane.put) for part in parts)
        if len(topic) <= LONGEST_TOPIC_KEPT:
            self._ways[topic] = way
        return way

    def _team_of(self, owner: Registration | None) -> Team:
        team = self._teams.get(owner)
        if team is None:
            lane = Lane(1 if owner is None else owner.concurrency, self._key_of)
            team = self._teams[owner] = Team(lane, self, self._rested, self._failed)
        return team

    def _key_of(self, work: Work) -> Hashable:
        """Tell the key of a message, be it that of its topic when the function that tells it fails."""
        call = work.calls[0]
        if call.registration.key is None:
            return work.part.key
        message = work.message_for(call, self.publish)
        try:
            key: Hashable = call.registration.key(message)
            hash(key)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # whatever the user's function does
            self.tally.fail(f"key= of handler {call.registration.name}", message, exc, ": the default key is used")
            return work.part.key
        return key

    # Acknowledging

    def _acknowledge(self, connection: Connection, packets: list[Packet]) -> bool:
        is_told = connection.acknowledge(packets)
        if self._room() >= self._worth_taking:
            self._changed.set()
        return is_told

    def _release(self, connection: Connection, size: int) -> None:
        self._changed.set()
        connection.let_go(size)

    def _flush_soon(self, ledger: Ledger) -> None:
        self._loop.call_soon(ledger.flush)

    # What has failed

    def put_off(self, team: Team, work: Work, seconds: float) -> None:
        """Let a message be handled once more after a while.

        Args:
            team: who had it in hand.
            work: the message.
            seconds: how long to wait.
        """
        team.lane.put_off(work)
        self._put_off[work] = self._loop.call_later(seconds, self._resume, team, work)
        if self._is_finishing:
            self._end_putting_off()

    def _resume(self, team: Team, work: Work) -> None:
        self._put_off.pop(work).cancel()
        if not work.is_last:
            self.tally.retries += 1
        team.lane.resume(work)
        team.rouse()

    def _expedite(self, works: list[Work]) -> None:
        """Make no further attempt: what follows on the last one is done now."""
        for work in works:
            work.is_last = True
            self._resume(self._teams[work.part.owner], work)

    def keep(self, team: Team, work: Work) -> None:
        """Let a message come again with the next connection; this one is given up when nothing else goes on."""
        if self.is_leaving or work.root.ledger.is_closed:  # there is no connection to be given up for it
            self._leave_behind(team)
            work.keep()
            team.lane.done(work)
            return
        team.lane.put_off(work)
        work.keep()
        # who takes one at a time takes them in order
        team.lane.is_blocked = team.lane.concurrency == 1
        self._kept.append((team, work))

    def _look(self) -> None:
        """Go on where nothing else can: make no further attempt, or give up the connection."""
        if self.is_leaving or any(team.lane.has_work for team in self._teams.values()):
            return
        connection = self._connection
        if self._kept:
            if connection and not connection.has_ended and (self._is_full or not self._source.held):
                self._give_up(connection)
        elif self._is_full and self._put_off:
            heads = [ledger.head for ledger in self._ledgers]
            oldest = [work for work in self._put_off if work.root in heads]
            # while the oldest is in the hands of its handler no other one holds up anything
            if oldest or not any(team.lane.in_hand for team in self._teams.values()):
                self._expedite(oldest or list(self._put_off))

    def _give_up(self, connection: Connection) -> None:
        self._ledgers[-1].flush()
        if self._is_durable:
            self._leave_to_broker()
        connection.give_up()
        if not self._is_durable:  # it will not come again
            self._let_go_of_kept()

    def _let_go_of_kept(self) -> None:
        kept, self._kept = self._kept, []
        for team, work in kept:
            self._leave_behind(team)
            team.lane.is_blocked = False
            team.lane.let_go(work)
            team.rouse()

    def _comes_again(self, work: Work) -> bool:
        """Tell whether the broker sends a message again that is left unacknowledged."""
        return self._is_durable and bool(work.packet[0] & QOS_1_OR_2) and not work.root.ledger.is_lost

    def _leave_to_broker(self, but: Set[Work] = frozenset()) -> None:
        """Drop what was not begun, and comes again.

        Args:
            but: what is handled all the same.
        """

        def stays(work: Work) -> bool:
            # a message that one handler has had already is not left to come again for another
            return bool(work.parent) or work.root in but or not self._comes_again(work)

        self._source.leave_to_broker()
        for team in self._teams.values():
            for work in team.lane.discard(stays):
                work.keep()
        backlog, self._backlog = self._backlog, deque()
        for ledger, read in backlog:
            left = [packet for packet in read.packets if packet[0] & QOS_1_OR_2] if not ledger.is_lost else []
            for packet in (*left, *read.passed_over):
                work = Work(packet, read.received_at, ledger)
                ledger.entries.append(work)
                work.keep()
            if len(left) < len(read.packets):
                rest = [packet for packet in read.packets if packet not in left]
                self._backlog.append((ledger, read._replace(packets=rest, passed_over=())))

    def _overtaken(self) -> set[Work]:
        """Find what was not begun and came before what was, which could not be acknowledged without it."""
        lanes = [team.lane for team in self._teams.values()]
        waiting = {work.root for lane in lanes for work in lane.waiting if not work.parent}
        left = {work.root for work in self._put_off if self._comes_again(work)}
        entries = self._ledgers[-1].entries if self._ledgers else ()
        begun = list(takewhile(lambda work: not work.is_kept and work not in left, entries))
        while begun and begun[-1] in waiting:
            begun.pop()
        return waiting.intersection(begun)

    def _leave_behind(self, team: Team) -> None:
        """Drop what was not begun, and comes again, lest it overtake a message that is kept.

        What came on the connection at hand does so only when that ends.
        """

        def stays(work: Work) -> bool:
            return not self._comes_again(work) or not (self._is_finishing or work.root.ledger.is_closed)

        for work in team.lane.discard(stays):
            work.keep()

    def abandon(self) -> None:
        """Leave everything as it is: the event loop has ended."""
        self.threads.close()

    # The end

    async def finish(self) -> None:
        """Wait until everything is done with that was taken."""
        self._is_full = self._is_finishing = True  # nothing more is taken
        self._end_putting_off()
        while not self.is_leaving and (self._put_off or not self._is_quiet()):
            await self._change_of_state()
            self._feed()

    async def leave(self, seconds: float) -> None:
        """Finish what is in hand, leave the rest to a broker that keeps it, and dismiss the workers.

        What came before something that is in hand, or handled, is handled too: without its acknowledgement there
        is none of that (MQTT 5, 4.6).

        Args:
            seconds: how long handlers may take; what was not begun shortly before is not begun any more.
        """
        if self.is_leaving:
            await self._gone.wait()
            return
        self.is_leaving = self._is_finishing = True
        self._changed.set()
        try:
            if self._is_durable:
                self._leave_to_broker(but=self._overtaken())
            self._let_go_of_kept()
            self._end_putting_off()
            if not await self._is_quiet_within(seconds - _LAST_SECONDS):
                self._drop_what_waits()
                await self._is_quiet_within(_LAST_SECONDS)
            await self._dismiss()
        finally:  # cancelled, too: who comes later must not wait for what nobody does
            self._end()

    def _end_putting_off(self) -> None:
        """Let nothing be called again: the broker keeps it, or what follows on the last attempt is done now."""
        for work in [work for work in self._put_off if self._comes_again(work)]:
            self._put_off.pop(work).cancel()
            work.keep()
            team = self._teams[work.part.owner]
            self._leave_behind(team)
            team.lane.let_go(work)
            team.rouse()
        self._expedite(list(self._put_off))

    def _drop_what_waits(self) -> None:
        if self._is_durable:
            self._leave_to_broker()
        dropped = sum(len(read.packets) for _, read in self._backlog)
        self._backlog.clear()
        for team in self._teams.values():
            dropped += len(team.lane.discard(lambda _: False))
        _tell_of_dropped(dropped)

    async def _is_quiet_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_quiet():
                    await self._change_of_state()
                    self._feed()
        return self._is_quiet()

    def _is_quiet(self) -> bool:
        """Tell whether nobody has anything to do, but for a handler that asks."""
        current = asyncio.current_task()
        return (
            not self._source.held
            and not self._backlog
            and all(team.is_quiet(current) for team in self._teams.values())
        )

    async def _dismiss(self) -> None:
        self._tell_of_cut_short()
        tasks = [task for team in self._teams.values() for task in team.dismiss()]
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
            for task in stuck:
                logger.error("a handler does not end although it was cancelled: %s", task.get_name())

    def _tell_of_cut_short(self) -> None:
        current = asyncio.current_task()
        workers = [w for team in self._teams.values() if not team.is_quiet(current) for w in team.workers]
        names = {w.call.registration.name for w in workers if w.work and w.call and w.task is not current}
        if names:
            logger.warning(
                "handlers did not end in time, and their messages are not acknowledged: %s",
                ", ".join(sorted(names)),
            )

    def _end(self) -> None:
        for team in self._teams.values():
            team.dismiss()
        for ledger in self._ledgers:
            ledger.flush()
            ledger.end()
        self.threads.close()
        self._holdup.end()
        self._gone.set()

    def _oldest(self) -> Work | None:
        """The oldest message that is being handled."""
        heads = [ledger.head for ledger in self._ledgers if ledger.head is not None]
        if not heads or any(work.root is heads[0].root for work in self._put_off):
            return None
        return heads[0]

    def _tell_of_holdup(self, work: Work, seconds: float) -> None:
        workers = [worker for team in self._teams.values() for worker in team.workers]
        names = [w.call.registration.name for w in workers if w.call and w.work and w.work.root is work.root]
        self._on_status(Paused(seconds, *names[:1]))

    def _rested(self) -> None:
        for ledger in self._ledgers:
            ledger.flush()
        self._changed.set()
        if self._is_full or self._kept:
            self._look()

    def _failed(self, failure: BaseException) -> None:
        self._failure = failure
        self._changed.set()


def _tell_of_dropped(count: int) -> None:
    if count:
        logger.warning("messages had arrived and were not handled before the end: %d", count)
