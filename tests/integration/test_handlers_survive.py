"""Handlers of mixed length under load: processes and brokers end, by signals and by crashes, and nothing is lost.

What is handled is written to a file by a process of its own, a line for each message. The devices number what they
send, and the broker runs ``examples/mosquitto.conf``: with Mosquitto's own defaults it is the broker that loses.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from plantops_cli.stream.options import DURABLE_RECEIVE_MAXIMUM
from tests.support.brokers import PASSWORD, USERNAME
from tests.support.example_conf import DEVICES, FarmMosquitto, farm_mosquitto
from tests.support.plantops import Running, piped
from tests.support.processes import script
from tests.support.recording import Recording, until
from tests.support.reliable_publisher import Account, ReliablePublisher
from tests.support.subscribing import eventually, subscribing

TOPICS = [f"devices/{number}/telemetry" for number in range(40)]
# one of them sends five times as much, so that its messages are overtaken by those of the others
UNEVEN = [*TOPICS[:36], *4 * TOPICS[:1]]
# a Mosquitto that saves at each acknowledgement comes seconds behind them, and reads no more of who has gone
SELDOM_SAVING = "autosave_on_changes false\nautosave_interval 1800\n"
CATCH_UP_SECONDS = 150.0
# what is in hand at an end, and as many acknowledgements that were under way: a broker does not read them any more
REPEATS = 2 * DURABLE_RECEIVE_MAXIMUM
ENDS = 2
COUNTS = pytest.mark.parametrize("count", [2_000, pytest.param(40_000, marks=pytest.mark.long)])
MIXED, TEN_MS = "0 if n % 10 else 0.005 if n % 100 else 0.05", "0.01"

HANDLING = """
import asyncio, os, signal, sys
from pydantic import BaseModel
from plantops_cli import Message, MQTTSubscriber

port, username, password, path, seconds = sys.argv[1:]
lines = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
length = eval("lambda n: " + seconds)
mqtt = MQTTSubscriber("127.0.0.1", int(port), username, password, durable="survivor")


class Telemetry(BaseModel):
    n: int


@mqtt.on("devices/{device}/telemetry", concurrency=50)
async def store(reading: Telemetry, device: int, message: Message) -> None:
    await asyncio.sleep(length(reading.n))
    dup = str(message.dup).lower()
    os.write(lines, b'{"device":%d,"dup":%s,"payload":{"n":%d}}\\n' % (device, dup.encode(), reading.n))


async def main() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await mqtt.connect()
    print("connected", flush=True)
    await mqtt.start()
    await stopped.wait()
    await mqtt.disconnect()


asyncio.run(main())
"""


@pytest.fixture
def farm() -> Iterator[FarmMosquitto]:
    with farm_mosquitto() as broker:
        yield broker


@contextmanager
def handling(farm: FarmMosquitto, recording: Recording, seconds: str = MIXED) -> Iterator[Running]:
    arguments = [HANDLING, str(farm.port), USERNAME, PASSWORD, str(recording.path), seconds]
    with piped(arguments, os.open(os.devnull, os.O_RDONLY), os.environ, script) as running:
        running.stdout.wait_for("connected")
        yield running


def devices(
    farm: FarmMosquitto, count: int, *, first: int = 0, topics: Sequence[str] = TOPICS
) -> ReliablePublisher:
    return ReliablePublisher(farm.port, login=DEVICES, count=count, first=first, topics=topics)


def is_subscribed(farm: FarmMosquitto, recording: Recording) -> None:
    """Let the broker keep a session from before the first message."""
    with handling(farm, recording) as running:
        assert running.finish(signal.SIGTERM).code == 0


def handle_and_end(
    farm: FarmMosquitto,
    recording: Recording,
    count: int,
    number: int,
    *,
    seconds: str,
    topics: Sequence[str] = TOPICS,
) -> Account:
    """Handle messages under load in three processes, of which a signal ends two; return what was published."""
    farm.extra = SELDOM_SAVING
    farm.restart()
    is_subscribed(farm, recording)
    with devices(farm, count, topics=topics).running() as publisher:
        for _ in range(ENDS):
            with handling(farm, recording, seconds) as running:
                wait_for_lines(recording, len(recording.numbers) + count // 3)
                assert running.finish(number).stderr == ""
        with handling(farm, recording, seconds):
            publisher.wait_for(count)
            until(lambda: not recording.missing(range(count)), seconds=CATCH_UP_SECONDS)
        return publisher.finish()


def wait_for_lines(recording: Recording, count: int) -> None:
    assert until(lambda: len(recording.numbers) >= count, seconds=CATCH_UP_SECONDS)


def repeats(recording: Recording, account: Account) -> int:
    """How many messages were handled more often than they were sent."""
    handled = Counter(recording.numbers)
    return sum(max(handled[number] - account.sent[number], 0) for number in handled)


def out_of_order(recording: Recording) -> list[int]:
    """The messages that were handled first when a later one of their device had been."""
    latest: dict[object, int] = {}
    late, seen = [], set[int]()
    for line, number in zip(recording.lines, recording.numbers, strict=True):
        if number not in seen and number < latest.get(line["device"], -1):
            late.append(number)
        seen.add(number)
        latest[line["device"]] = max(number, latest.get(line["device"], -1))
    return late


@COUNTS
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_each_device_keeps_its_order_when_the_process_is_killed(
    farm: FarmMosquitto, tmp_path: Path, count: int
) -> None:
    recording = Recording(tmp_path / "lines")
    account = handle_and_end(farm, recording, count, signal.SIGKILL, seconds=MIXED)
    assert recording.missing(range(count)) == set()
    assert out_of_order(recording) == []
    assert repeats(recording, account) <= ENDS * REPEATS
    assert recording.unmarked_repetitions == []


@COUNTS
@pytest.mark.parametrize("topics", [TOPICS, UNEVEN], ids=["even", "uneven"])
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_handled_twice_when_the_process_is_asked_to_end_amid_its_handlers(
    farm: FarmMosquitto, tmp_path: Path, topics: Sequence[str], count: int
) -> None:
    recording = Recording(tmp_path / "lines")
    account = handle_and_end(farm, recording, count, signal.SIGTERM, seconds=TEN_MS, topics=topics)
    assert recording.missing(range(count)) == set()
    assert out_of_order(recording) == []
    assert repeats(recording, account) == 0


# The broker ends, and the process goes on


def publish_and_end_the_broker(
    farm: FarmMosquitto, recording: Recording, count: int, end: Callable[[], None], forgiven: int = 0
) -> Account:
    """Publish what one process handles while the broker ends and comes again; return what was published."""
    with handling(farm, recording) as running, devices(farm, count).running() as publisher:
        for number in range(1, ENDS + 1):
            publisher.wait_for(number * count // (ENDS + 1))
            end()
            farm.start()
        publisher.wait_for(count)
        account = publisher.finish()
        until(lambda: not lost(recording, account, count, forgiven), seconds=CATCH_UP_SECONDS)
        assert running.finish(signal.SIGTERM).code == 0
    return account


def lost(recording: Recording, account: Account, count: int, forgiven: int = 0) -> set[int]:
    """What is missing, but for so many messages up to the last one of each connection that was lost."""
    last = [number for number in account.last_of_connection if number is not None]
    return recording.missing(range(count)) - {number - back for number in last for back in range(forgiven)}


@COUNTS
@pytest.mark.timeout(300)
def test_nothing_is_lost_when_the_broker_is_restarted_and_what_comes_again_is_marked(
    farm: FarmMosquitto, tmp_path: Path, count: int
) -> None:
    recording = Recording(tmp_path / "lines")
    account = publish_and_end_the_broker(farm, recording, count, farm.stop)
    assert lost(recording, account, count) == set()
    assert out_of_order(recording) == []
    # no bound of the repeats: of acknowledgements that were sent a broker that ends leaves any number unread
    assert all(account.sent[line["payload"]["n"]] > 1 for line in recording.unmarked_repetitions)  # type: ignore[index]  # what the publisher sent


async def test_what_is_in_hand_when_the_broker_is_restarted_and_cannot_be_acknowledged_is_handled_once(
    farm: FarmMosquitto,
) -> None:
    go_on, begun, ended = asyncio.Event(), list[int](), list[int]()

    async def store(payload: dict[str, int]) -> None:
        begun.append(payload["n"])
        if payload["n"] == 0:  # which holds up the acknowledgement of all behind it
            await go_on.wait()
        ended.append(payload["n"])

    async with subscribing(farm, durable="survivor") as mqtt:
        mqtt.register_handler("devices/+/telemetry", store, concurrency=50, key=lambda message: message.text)
        await mqtt.connect()
        await mqtt.start()
        await asyncio.to_thread(devices(farm, 200).run)
        await eventually(lambda: len(ended) == 199)
        await asyncio.to_thread(farm.restart)
        await eventually(lambda: mqtt.health.received == 400)
        go_on.set()
        await asyncio.to_thread(devices(farm, 50, first=200).run)
        await eventually(lambda: 249 in ended)
    assert sorted(begun) == sorted(ended) == list(range(250))
    async with subscribing(farm, durable="survivor") as mqtt:
        mqtt.register_handler("devices/+/telemetry", lambda message: begun.append(-1))
        await mqtt.connect()
        await mqtt.start()
        await asyncio.to_thread(devices(farm, 1, first=300).run)
        await eventually(lambda: begun[250:] == [-1])


@COUNTS
@pytest.mark.timeout(300)
def test_only_what_the_broker_lost_is_missing_when_it_crashes(
    farm: FarmMosquitto, tmp_path: Path, count: int
) -> None:
    recording = Recording(tmp_path / "lines")
    unsaved = DURABLE_RECEIVE_MAXIMUM + 1  # as in test_durable.py
    account = publish_and_end_the_broker(farm, recording, count, farm.kill, unsaved)
    assert lost(recording, account, count, unsaved) == set()
    assert out_of_order(recording) == []
