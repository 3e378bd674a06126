"""What the tests of the handling share: packets, a connection, and a broker that sends again what it must."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from plantops_cli.messages import now
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.handling.bounds import Bounds
from plantops_cli.stream.handling.dispatcher import Dispatcher
from plantops_cli.stream.handling.handlers import NOBODY, Call, Handlers, Part
from plantops_cli.stream.handling.ledger import Ledger, Work
from plantops_cli.stream.handling.registration import Registration
from plantops_cli.stream.handling.tally import Tally
from plantops_cli.stream.packets import DUP, PUBLISH, QOS_1_OR_2, Packet
from plantops_cli.stream.status import Status
from plantops_cli.topics import parse_pattern

NOW = now()


def packet(topic: str = "a", payload: bytes = b"", *, mid: int = 0, qos: int | None = None) -> Packet:
    """A PUBLISH, of QoS 1 when it has an identifier."""
    return PUBLISH | (qos if qos is not None else bool(mid)) << 1, topic.encode(), mid, b"", payload


def again(sent: Packet) -> Packet:
    """The same, as it is sent a second time."""
    return (sent[0] | DUP, *sent[1:])


def registration(handler: Callable[..., Any] = print, *, pattern: str = "#", **options: Any) -> Registration:
    """A handler with its options."""
    return Registration(parse_pattern(pattern), handler, **options)


def part_of(*registrations: Registration, key: str = "k") -> Part:
    """The part of the handling that these handlers have."""
    return Part(tuple(Call(each, {}) for each in registrations), None, key, None)


def ledger(
    acknowledge: Callable[[list[Packet]], bool] = lambda _: True,
    release: Callable[[int], None] = lambda _: None,
    earlier: Iterable[Work] = (),
) -> Ledger:
    """A ledger that somebody flushes."""
    return Ledger(acknowledge, release, lambda: None, earlier)


def work(topic: str = "a", *, mid: int = 0, of: Ledger | None = None, part: Part = NOBODY) -> Work:
    """A message in a ledger."""
    made = Work(packet(topic, mid=mid), NOW, ledger() if of is None else of, part)
    made.ledger.entries.append(made)
    return made


class FakeConnection:
    """A session that keeps account of what it is told.

    Attributes:
        is_resumed: whether the broker knew the session.
        is_open: whether acknowledgements still go out, though nobody knows yet of the end.
        acknowledged: the identifiers, in their order.
        released: bytes of memory.
        given_up: whether it was ended by this side.
    """

    def __init__(
        self, *, is_resumed: bool = False, on_acknowledged: Callable[[int], None] = lambda _: None
    ) -> None:
        self.is_resumed = is_resumed
        self.has_ended = False
        self.has_properties = True
        self.is_open = True
        self.acknowledged: list[int] = []
        self.released = 0
        self.is_given_up = False
        self._on_acknowledged = on_acknowledged
        self._told: Callable[[], None] = lambda: None

    def acknowledge(self, packets: list[Packet]) -> bool:
        """Note what is acknowledged."""
        if self.has_ended or not self.is_open:
            return False
        mids = [each[2] for each in packets if each[0] & QOS_1_OR_2]
        self.acknowledged += mids
        for mid in mids:
            self._on_acknowledged(mid)
        return True

    def let_go(self, size: int) -> None:
        """Note what has become free."""
        self.released += size

    def when_ended(self, told: Callable[[], None]) -> None:
        """Tell of the end."""
        self._told = told

    def give_up(self) -> None:
        """End it from this side."""
        self.is_given_up = True
        self.end()

    def end(self) -> None:
        """End it."""
        self.has_ended = True
        self._told()


class FakeSource:
    """Messages that were read, and wait to be taken."""

    def __init__(self) -> None:
        self.held = 0

    def leave_to_broker(self) -> None:
        """Drop them."""
        self.held = 0


class Engine:
    """A dispatcher with all that it needs, and a first connection.

    Attributes:
        connection: the one at hand.
        published: what was published: topic, payload and keywords.
        refusal: what ``publish`` raises, or None.
        said: what status listeners were told.
    """

    def __init__(
        self, *, is_durable: bool = False, bound: int = 500, threads: int = 4, on_error: Any = "ack"
    ) -> None:
        self.handlers = Handlers(on_error)
        self.tally = Tally()
        self.source = FakeSource()
        self.connection = FakeConnection()
        self.published: list[tuple[str, Any, dict[str, Any]]] = []
        self.refusal: BaseException | None = None
        self.said: list[Status] = []
        self.dispatcher = Dispatcher(
            self.handlers,
            self.tally,
            self._publish,
            self.source,
            self.said.append,
            bounds=Bounds(bound, threads),
            is_durable=is_durable,
        )

    def on(self, pattern: str, handler: Callable[..., Any], **options: Any) -> None:
        """Register a handler."""
        self.handlers.add(self.handlers.make(parse_pattern(pattern), handler, **options))

    async def take(self, *packets: Packet, size: int = 1) -> None:
        """Let the dispatcher take a batch."""
        await self.dispatcher.take(Batch([Read(0, list(packets))], size), self.connection)

    def reconnect(self, *, is_resumed: bool = True) -> FakeConnection:
        """Go on with another connection, and return the one before."""
        before = self.connection
        if not before.has_ended:
            before.end()
        self.connection = FakeConnection(is_resumed=is_resumed)
        return before

    async def _publish(self, topic: str, payload: object = b"", **options: Any) -> None:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self.published.append((topic, payload, options))


@asynccontextmanager
async def engine(**options: Any) -> AsyncIterator[Engine]:
    """An engine, left in the end."""
    made = Engine(**options)
    try:
        yield made
    finally:
        await made.dispatcher.leave(3.0)
