"""One random stream and a real subscriber that listens to it, watched from outside."""

import asyncio
import gc
import random
import selectors
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from plantops_cli.errors import BrokerError, StateError
from plantops_cli.messages import Message, check_qos
from plantops_cli.stream.options import MQTTVersion
from plantops_cli.stream.status import Lost, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.hostile.frames import FramedWriter, accept, unframe
from tests.support.hostile.streams import Stream
from tests.support.scripted_broker import read_packet

# the 2.5 s for which a subscriber waits for a SUBACK included
BOUND_SECONDS = 4.0
_CONNECT_SECONDS = 0.3
_SILENCE_SECONDS = 0.3
_LAST_SECONDS = 1.0
_CALM_SECONDS = 2.0
_WINDOW_SECONDS = 0.02
_TURNS_OF_AN_IDLE_LOOP = 10
_CONNECT, _SUBSCRIBE, _PINGREQ, _DISCONNECT = 0x10, 0x80, 0xC0, 0xE0


class _CountingSelector(selectors.DefaultSelector):
    """Counts the turns of an event loop."""

    turns = 0

    def select(self, timeout: float | None = None) -> Any:
        self.turns += 1
        return super().select(timeout)


@dataclass(frozen=True)
class Heard:
    """How a subscriber took a stream.

    Attributes:
        complaints: what is wrong with it; empty when nothing.
        connections: how often it was connected.
        messages: how many it has received.
    """

    complaints: tuple[str, ...]
    connections: int
    messages: int


def listen_to(stream: Stream) -> Heard:
    """Let a subscriber listen to a stream until that ends, or nothing more comes."""
    selector = _CountingSelector()
    complaints: list[str] = []

    def complain(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        complaints.append(f"the event loop says: {context['message']}: {context.get('exception')!r}")

    listening = _Listening(stream, selector)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.get_loop().set_exception_handler(complain)
        try:
            complaints += runner.run(listening.run())
        except Exception as exc:
            complaints.append(f"raised {exc!r}")
    seconds = time.monotonic() - began
    # a task whose exception nobody looked at says so when it is collected
    gc.collect()
    if seconds > BOUND_SECONDS:
        complaints.append(f"took {seconds:.1f} s")
    return Heard(tuple(complaints), listening.connections, listening.messages)


class _Listening:
    def __init__(self, stream: Stream, selector: _CountingSelector) -> None:
        self.connections = 0
        self.messages = 0
        self._stream = stream
        self._selector = selector

    async def run(self) -> list[str]:
        """Serve the stream and listen to it; return what is wrong."""
        broker = _Broker(self._stream)
        server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
        try:
            found = await self._listen(server.sockets[0].getsockname()[1], broker)
        finally:
            server.close()
            await broker.join()
        return found + [f"left a task: {task!r}" for task in await _left_behind()]

    async def _listen(self, port: int, broker: "_Broker") -> list[str]:
        lost = asyncio.Event()

        def note(status: Status) -> None:
            if isinstance(status, Lost):
                lost.set()

        seed = self._stream.seed
        subscriber = MQTTSubscriber(
            "127.0.0.1",
            port,
            "alice",
            "secret",
            mqtt_version="auto" if seed % 7 == 0 else MQTTVersion(self._stream.version),
            qos=2 if seed % 11 == 0 else check_qos(seed // 2 % 3),
            durable="listener" if seed % 11 == 0 else None,
            on_error="keep" if seed % 13 == 0 else "ack",
            connect_timeout_seconds=_CONNECT_SECONDS,
            websocket_path=None if self._stream.harmful_frames is None else "/mqtt",
            on_status=note,
        )
        subscriber.register_handler("devices/+/telemetry", _HANDLERS[seed % len(_HANDLERS)])
        reading: asyncio.Task[None] | None = None
        asking: asyncio.Task[None] | None = None
        try:
            await subscriber.connect()
            broker.be_patient()
            reading = asyncio.create_task(_read(subscriber, by_handlers=seed % 5 != 0), name="reading")
            if seed % 6 == 0:
                asking = asyncio.create_task(_ask_for_more(subscriber), name="asking")
            await _first_of(reading, lost, broker.is_done)
            is_over = reading.done() or lost.is_set()
            return [] if is_over or await self._is_calm() else ["spins while nothing comes"]
        except BrokerError:
            return []
        finally:
            await subscriber.disconnect()
            if reading:
                with suppress(BrokerError):
                    await reading
            if asking:
                await asking
            self.connections, self.messages = subscriber.health.connection_count, subscriber.health.received

    async def _is_calm(self) -> bool:
        """Wait until the event loop has nothing to do for a moment."""
        deadline = time.monotonic() + _CALM_SECONDS
        while time.monotonic() < deadline:
            before = self._selector.turns
            await asyncio.sleep(_WINDOW_SECONDS)
            if self._selector.turns - before <= _TURNS_OF_AN_IDLE_LOOP:
                return True
        return False


async def _ask_for_more(subscriber: MQTTSubscriber) -> None:
    """Subscribe while anything may come; whatever it is, this ends when the subscriber does."""
    with suppress(BrokerError, StateError):
        await subscriber.subscribe("devices/+/heartbeat", _look)


async def _left_behind() -> set[asyncio.Task[Any]]:
    """The tasks that do not end by themselves; those that are being cancelled do."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return (await asyncio.wait(others, timeout=_LAST_SECONDS))[1] if others else set()


async def _first_of(reading: asyncio.Task[None], *events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait(), name="waiting") for event in events]
    await asyncio.wait((reading, *waiting), timeout=_LAST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _read(subscriber: MQTTSubscriber, *, by_handlers: bool) -> None:
    if by_handlers:
        await subscriber.start()
        await subscriber.wait()
        return
    async with aclosing(subscriber.batches()) as batches:
        async for batch in batches:
            # made of bytes only when they are looked at
            for message in batch:
                assert repr(message)


def _look(message: Message) -> None:
    assert message.topic


async def _look_late(message: Message) -> None:
    await asyncio.sleep(0)


def _fail(message: Message) -> None:
    raise ValueError(message.topic)


_HANDLERS = (_look, _look, _look_late, _fail)


class _Broker:
    """Sends a stream to whoever connects.

    Attributes:
        is_done: set when all of it is sent.
    """

    def __init__(self, stream: Stream) -> None:
        self.is_done = asyncio.Event()
        self._stream = stream
        self._hanging_up: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        # a subscriber waits longer for an answer than these tests do
        self._hanging_up = asyncio.get_running_loop().call_later(_SILENCE_SECONDS, writer.close)
        try:
            if self._stream.harmful_frames is None:
                await self._answer(reader, writer)
            else:
                await self._answer_in_frames(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            # looked at, or asyncio may report how this side of the connection ended
            with suppress(OSError):
                await writer.wait_closed()

    def be_patient(self) -> None:
        """Stay on the line however long the subscriber is silent."""
        if self._hanging_up:
            self._hanging_up.cancel()

    async def join(self) -> None:
        """Wait until nobody is served any more."""
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=BOUND_SECONDS)
            for task in late:
                task.cancel()

    async def _answer_in_frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept(reader, writer)
        content = asyncio.StreamReader()
        unframing = asyncio.create_task(unframe(reader, content), name="unframing")
        dice, harm = random.Random(self._stream.seed), self._stream.harmful_frames or 0.0
        try:
            await self._answer(content, FramedWriter(writer, dice, harm))
        finally:
            unframing.cancel()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | FramedWriter) -> None:
        stream = self._stream
        while True:
            first_byte, body = await read_packet(reader)
            kind = first_byte & 0xF0
            if kind == _CONNECT:
                await self._send(writer, stream.connack)
            elif kind == _PINGREQ:
                await self._send(writer, b"\xd0\x00")
            elif kind == _SUBSCRIBE:
                await self._send(writer, stream.before_suback + stream.suback(body) + stream.rest)
                self.is_done.set()
                if stream.hangs_up:
                    return
            elif kind == _DISCONNECT:
                return

    async def _send(self, writer: asyncio.StreamWriter | FramedWriter, data: bytes) -> None:
        position, sizes = 0, self._stream.sizes
        step = 0
        while position < len(data) and not writer.is_closing():
            size = sizes[step % len(sizes)] if step < 200 else len(data)
            writer.write(data[position : position + size])
            position, step = position + size, step + 1
            await writer.drain()
            await asyncio.sleep(0)
