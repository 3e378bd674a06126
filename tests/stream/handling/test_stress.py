"""The whole handling under random handlers, failures and ends of connections, with a broker that sends again.

A run that fails names its seed; ``PLANTOPS_SEED=N`` replays it.
"""

import asyncio
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.handling import worker as worker_module
from plantops_cli.stream.handling.policy import Retry
from plantops_cli.stream.packets import Packet
from tests.support.handling import Engine, FakeConnection, again, packet

MESSAGES, DEVICES, RECEIVE_MAXIMUM = 400, 7, 60
SEEDS = [int(os.environ["PLANTOPS_SEED"])] if "PLANTOPS_SEED" in os.environ else range(12)
KINDS = ("one", "many", "thread", "inline", "timed")


class SimulatedBroker:
    """Keeps what is not acknowledged, and sends it again, in its order, on the next connection.

    Attributes:
        line: the connection at hand.
        lines: all of them.
        acknowledged: the serial numbers of the messages, in the order of their acknowledgement.
    """

    def __init__(self, rng: random.Random, count: int) -> None:
        self._rng = rng
        self._unsent = list(reversed(range(count)))
        self._in_flight: dict[int, tuple[int, Packet]] = {}
        self._to_send: list[Packet] = []
        self._order: dict[int, int] = {}
        self._sent_count = 0
        self.lines: list[FakeConnection] = []
        self.acknowledged: list[int] = []
        self.connect(is_resumed=False)

    def connect(self, *, is_resumed: bool = True) -> FakeConnection:
        """Make another connection, on which all comes again that was not acknowledged."""
        self.line = line = FakeConnection(
            is_resumed=is_resumed, on_acknowledged=lambda mid: self._take_puback(line, mid)
        )
        self.lines.append(line)
        self._to_send = [again(sent) for _, sent in self._in_flight.values()]
        self._order = {sent[2]: position for position, (_, sent) in enumerate(self._in_flight.values())}
        self._sent_count = len(self._order)
        self._last = -1
        return line

    @property
    def is_done(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return not self._unsent and not self._in_flight

    def read(self, most: int) -> list[Packet]:
        """Return what the client reads next."""
        while self._unsent and len(self._in_flight) < RECEIVE_MAXIMUM and len(self._to_send) < most:
            self._to_send.append(self._send(self._unsent.pop()))
        read, self._to_send = self._to_send[:most], self._to_send[most:]
        return read

    def _send(self, serial: int) -> Packet:
        mid = next(each for each in range(1, RECEIVE_MAXIMUM + 1) if each not in self._in_flight)
        sent = packet(f"{KINDS[serial % len(KINDS)]}/{serial % DEVICES}", b"%d" % serial, mid=mid)
        self._in_flight[mid] = serial, sent
        self._order[mid] = self._sent_count
        self._sent_count += 1
        return sent

    def _take_puback(self, line: FakeConnection, mid: int) -> None:
        assert line is self.line, "an acknowledgement for a connection that has ended"
        assert mid in self._in_flight, f"{mid} was acknowledged twice"
        assert self._order[mid] > self._last, f"{mid} was acknowledged out of order"
        self._last = self._order[mid]
        self.acknowledged.append(self._in_flight.pop(mid)[0])


class Handling:
    """Random handlers, and what is to be true of their calls.

    Attributes:
        done: the serial numbers that the handlers are done with, or have given up, by key, in their order.
        observed: the same of handlers beside them that never fail.
        faults: what was not as it should be.
    """

    def __init__(self, rng: random.Random, broker: SimulatedBroker) -> None:
        self._rng = rng
        self._broker = broker
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        self.done: dict[str, list[int]] = defaultdict(list)
        self.observed: dict[str, list[int]] = defaultdict(list)
        self.faults: list[str] = []
        self.failure_share = rng.choice([0.0, 0.05, 0.3])

    def _begin(self, message: Message) -> tuple[str, float, float]:
        with self._lock:
            if message.topic in self._in_hand:
                self.faults.append(f"two of {message.topic} in hand at once")
            self._in_hand.add(message.topic)
            return message.topic, self._rng.choice([0, 0, 0, 0.0002, 0.002]), self._rng.random()

    def _end(self, message: Message, chance: float) -> None:
        with self._lock:
            self._in_hand.discard(message.topic)
            if chance < self.failure_share:
                raise ValueError("by chance")
            self.done[message.topic].append(int(message.payload))

    async def wait(self, message: Message) -> None:
        """Handle a message as a coroutine function."""
        _, seconds, chance = self._begin(message)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._end(message, chance)

    def block(self, message: Message) -> None:
        """Handle a message in a thread."""
        _, seconds, chance = self._begin(message)
        time.sleep(seconds)
        self._end(message, chance)

    async def dawdle(self, message: Message) -> None:
        """Handle a message, and take too long now and then."""
        _, seconds, chance = self._begin(message)
        try:
            await asyncio.sleep(60 if chance > 0.97 else seconds)
        finally:
            self._end(message, chance)

    async def observe(self, message: Message) -> None:
        """Handle a message beside another handler, and never fail."""
        self.observed[message.topic].append(int(message.payload))

    async def observe_too(self, message: Message) -> None:
        """Do the same in another lane than the other handler."""
        await asyncio.sleep(0)
        self.observed[message.topic].append(int(message.payload))

    def note_end(self, message: Message, error: BaseException) -> None:
        """Take note of a message that was given up."""
        with self._lock:
            self.done[message.topic].append(int(message.payload))

    def register(self, made: Engine, policy: Any) -> None:
        """Register a handler of each kind."""
        by_topic: Callable[[Message], str] = lambda message: message.topic  # noqa: E731  # one of many kinds
        made.on("one/+", self.wait, on_error=policy)
        made.on("one/+", self.observe)
        made.on("inline/+", self.observe_too, concurrency=3)
        made.on("many/+", self.wait, on_error=policy, concurrency=5)
        made.on("thread/+", self.block, on_error=policy, concurrency=3, key=by_topic)
        made.on("inline/+", lambda message: self.wait(message), blocking=False, on_error=policy, concurrency=4)
        made.on("timed/+", self.dawdle, on_error=policy, concurrency=2, timeout_seconds=0.02)


def policies(handling: Handling) -> list[Any]:
    """Policies after which each message was handled, or was given up and somebody knows."""
    endless = Retry(10**6, backoff=lambda _: 0.001, then=handling.note_end)
    return ["keep", Retry(3, backoff=0.001, then=handling.note_end), endless]


async def run(seed: int) -> None:
    """Let all messages be handled, whatever happens, and check what has become of them."""
    rng = random.Random(seed)
    broker = SimulatedBroker(rng, MESSAGES)
    handling = Handling(rng, broker)
    policy, bound = rng.choice(policies(handling)), rng.choice([3, 20, 500])
    made, batches = begin(handling, broker, policy, bound), 0
    async with asyncio.timeout(60):
        while not broker.is_done:
            if rng.random() < 0.01:  # another process goes on
                await made.dispatcher.leave(3)
                broker.line.end()
                broker.connect()
                made = begin(handling, broker, policy, bound)
            if broker.line.has_ended:
                made.connection = broker.connect()
            if rng.random() < 0.03:
                broker.line.is_open = rng.choice([True, False])
                asyncio.get_running_loop().call_later(rng.choice([0, 0.001, 0.004]), broker.line.end)
            if packets := broker.read(rng.choice([1, 5, 40])):
                batches += 1
                await made.dispatcher.take(Batch([Read(0, packets)], 1), made.connection)
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
    await made.dispatcher.leave(3)
    assert handling.faults == []
    check(handling, policy)
    assert made.dispatcher.in_hand == 0
    assert sum(line.released for line in broker.lines) == batches


def begin(handling: Handling, broker: SimulatedBroker, policy: Any, bound: int) -> Engine:
    """Begin to handle what comes over the connection at hand."""
    made = Engine(is_durable=True, bound=bound)
    handling.register(made, policy)
    made.connection = broker.line
    return made


def check(handling: Handling, policy: Any) -> None:
    """Nothing is lost, and the order of each key is kept but for what comes again."""
    for topic, serials in (*handling.done.items(), *handling.observed.items()):
        firsts = list(dict.fromkeys(serials))
        assert firsts == sorted(firsts), f"{topic} out of order"
    handled = {serial for serials in handling.done.values() for serial in serials}
    assert handled == {*range(MESSAGES)}
    expected = {serial for serial in range(MESSAGES) if KINDS[serial % len(KINDS)] in ("one", "inline")}
    assert {serial for serials in handling.observed.values() for serial in serials} == expected


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave handlers alone soon that do not end."""
    monkeypatch.setattr(worker_module, "GRACE_SECONDS", 0.02)


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_and_each_key_keeps_its_order_whatever_happens(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print(f"PLANTOPS_SEED={seed}")
    await run(seed)
