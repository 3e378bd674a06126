"""What is written and what is acknowledged, on real pipes, in a format of several lines with a heading."""

import asyncio
import fcntl
import os
import select
import struct
import termios
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from plantops_cli.cli.listen.line_writer import LineWriter, done_with
from plantops_cli.cli.shared.run import Limits, StreamRun
from plantops_cli.cli.shared.stopping import Stop
from plantops_cli.fleet.monitor import FleetMonitor
from plantops_cli.formats.renderer import OneByOne, Rendered
from plantops_cli.messages import Message
from plantops_cli.outputs.stdout import StandardOutput
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.samples import batch_of, message
from tests.support.scripted_broker import DISCONNECT, ScriptedBroker, publish, serving
from tests.support.subscribing import WAIT_SECONDS, eventually

LINES = OneByOne(lambda messages: b"".join(message.payload + b"\n" for message in messages), lambda _: True)
MESSAGES = 6
LINE = b"x" * 2_999 + b"\n"  # of two, only one has room in the smallest pipe
HEADING = b"number\npayload\n"


class Cards:
    """Three lines for each message, under a heading of two, with unwanted messages left out."""

    def __init__(self) -> None:
        self._cards = OneByOne(lambda messages: b"".join(map(card, messages)), is_wanted)

    def render(self, batch: Batch, limit: int | None) -> Rendered:
        cards, shown, invalid = self._cards.render(batch, limit)
        return HEADING + cards, shown, invalid

    def ends(self, batch: Batch, limit: int | None) -> Sequence[int]:
        return [end and len(HEADING) + end for end in self._cards.ends(batch, limit)]


def is_wanted(message: Message) -> bool:
    return message.payload != b"unwanted"


def card(message: Message) -> bytes:
    return message.payload[:1] + LINE[1:] + LINE + LINE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe that holds as little as can be."""
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass  # closed by the test


def unread(descriptor: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(struct.calcsize("i"))))[0]
    return count


def packets(*unwanted: int) -> bytes:
    """Messages that are numbered from 1 on in packet identifier and payload."""
    numbers = range(1, MESSAGES + 1)
    return b"".join(publish(b"t", b"unwanted" if n in unwanted else b"%d" % n, qos=1, mid=n) for n in numbers)


@asynccontextmanager
async def writing(
    broker: ScriptedBroker, pipe: tuple[int, int], *, count: int | None = None
) -> AsyncIterator[tuple[StreamRun, LineWriter]]:
    """A run whose writer is soon held up by the pipe; it has ended when the context does."""
    destination = StandardOutput(pipe[1])
    writer = LineWriter(Cards(), destination, count=count)
    mqtt = MQTTSubscriber("127.0.0.1", broker.port, "alice", "secret", on_status=lambda _: None)
    run = StreamRun(mqtt, ("t",), writer, Limits(), destination=destination)
    running = asyncio.create_task(run.run())
    try:
        yield run, writer
        await asyncio.wait_for(running, timeout=WAIT_SECONDS)
        await broker.wait_for(DISCONNECT)
    finally:
        running.cancel()


async def read_lines(reader: int, count: int) -> int:
    """Read so many lines one by one as they come, wait for the next one, and return the bytes of all of them."""
    done = 0
    while (lines := (done + unread(reader) - len(HEADING)) // len(LINE)) <= count:
        if lines and select.select([reader], [], [], 0)[0]:
            done += len(os.read(reader, 1 << 16))
        await asyncio.sleep(0.01)
    return done + unread(reader)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="only Linux makes a pipe small")
@pytest.mark.parametrize("end", ["stop", "reader gone"])
@pytest.mark.parametrize("lines_read", range(6))
async def test_only_what_was_written_whole_is_acknowledged(
    pipe: tuple[int, int], lines_read: int, end: str
) -> None:
    async with serving(ScriptedBroker(after_suback=packets())) as broker:
        async with writing(broker, pipe) as (run, writer):
            async with asyncio.timeout(WAIT_SECONDS):
                written = await read_lines(pipe[0], lines_read)
            if end == "stop":
                run.stop(Stop.TERMINATED)
            else:
                os.close(pipe[0])
        whole = (written - len(HEADING)) // (3 * len(LINE))
        assert broker.acknowledged == list(range(1, whole + 1))
    assert whole == (lines_read + 1) // 3
    assert writer.summary.shown == whole
    assert run.reason is (Stop.TERMINATED if end == "stop" else Stop.READER_GONE)


@pytest.mark.parametrize(
    ("unwanted", "count", "acknowledged"),
    [((), 1, 1), ((), 2, 2), ((2, 3), 2, 4), ((1,), 1, 2), ((3, 4), 2, 2), ((), MESSAGES, MESSAGES)],
    ids=["one", "two", "others between", "another before", "others behind", "all"],
)
async def test_with_a_count_nothing_behind_the_last_message_shown_is_acknowledged(
    pipe: tuple[int, int], unwanted: tuple[int, ...], count: int, acknowledged: int
) -> None:
    async with serving(ScriptedBroker(after_suback=packets(*unwanted))) as broker:
        async with writing(broker, pipe, count=count) as (run, writer):
            expected = len(HEADING) + count * 3 * len(LINE)
            data = b""
            while len(data) < expected:
                data += await asyncio.to_thread(os.read, pipe[0], 1 << 16)
        assert broker.acknowledged == list(range(1, acknowledged + 1))
    assert len(data) == expected
    assert (run.reason, writer.summary.shown) == (Stop.COUNT, count)


async def test_a_stop_in_the_middle_of_the_last_of_a_count_leaves_it_to_come_again(pipe: tuple[int, int]) -> None:
    async with serving(ScriptedBroker(after_suback=packets())) as broker:
        async with writing(broker, pipe, count=1) as (run, writer):
            await eventually(lambda: unread(pipe[0]) > len(HEADING))
            if not hasattr(fcntl, "F_SETPIPE_SZ"):
                pytest.skip("the pipe holds a whole card")
            run.stop(Stop.INTERRUPTED)
        assert broker.acknowledged == []
    assert (run.reason, writer.summary.shown) == (Stop.INTERRUPTED, 0)


def test_a_message_of_which_a_part_was_written_is_not_done_with() -> None:
    ends = [10, 10, 25, 25, 40]
    cuts = {written: done_with(ends, written) for written in (0, 9, 10, 24, 25, 39, 40)}
    assert cuts == {0: (0, 0), 9: (0, 0), 10: (2, 1), 24: (2, 1), 25: (4, 2), 39: (4, 2), 40: (5, 3)}


def test_what_is_not_wanted_is_done_with_before_anything_was_written() -> None:
    assert done_with([0, 0, 15], 0) == (2, 0)


def test_a_few_messages_are_written_at_once_unless_the_count_is_near(pipe: tuple[int, int]) -> None:
    writer = LineWriter(LINES, StandardOutput(pipe[1]), count=3)
    assert writer.at_once is not None
    assert writer.at_once(batch_of(message(b"1"), message(b"2")))
    assert not writer.at_once(batch_of(message(b"3")))
    assert os.read(pipe[0], 100) == b"1\n2\n"
    assert (writer.summary.received, writer.summary.shown) == (2, 2)


async def test_a_monitor_hears_of_all_that_comes(pipe: tuple[int, int]) -> None:
    mqtt = MQTTSubscriber("127.0.0.1", on_status=lambda _: None)
    monitor = FleetMonitor.follow(mqtt, has_handlers=False)
    writer = LineWriter(LINES, StandardOutput(pipe[1]), monitor=monitor)
    assert await writer.take(batch_of(message(b"1"), message(b"2")), stopped=asyncio.Event()) is None
    assert writer.at_once is not None
    assert writer.at_once(batch_of(message(b"3")))
    assert monitor.presence.message_count == 3
