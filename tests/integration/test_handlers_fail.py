"""Handlers that fail, or take too long, on a real Mosquitto: what becomes of their messages, and of all others."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plantops_cli import Message, MQTTSubscriber, Retry, dead_letter
from tests.support.brokers import USERNAME, Mosquitto
from tests.support.subscribing import Recorder, eventually, publish_all, subscribing

DEAD = "plantops/dead"
TELEMETRY = "devices/{device}/telemetry"
POISONED, HEALTHY = "devices/p/telemetry", "devices/h/telemetry"
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
CONCURRENCIES = pytest.mark.parametrize("concurrency", [1, 50])
# within which disconnect() ends, with what a busy machine adds
BOUND_SECONDS, BUSY_SECONDS = 5.0, 2.0
QUEUE = "max_queued_messages 0"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages."""
    broker = Mosquitto(tmp_path, extra=QUEUE)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def deaf_to_dead_letters(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that lets nobody publish dead letters."""
    (tmp_path / "acl").write_text(f"user {USERNAME}\ntopic read #\ntopic write devices/#\n")
    (tmp_path / "acl").chmod(0o600)
    broker = Mosquitto(tmp_path, extra=f"{QUEUE}\nacl_file {tmp_path / 'acl'}")
    broker.start()
    yield broker
    broker.stop()


@asynccontextmanager
async def running(broker: Mosquitto, handler: Any, **options: Any) -> AsyncIterator[MQTTSubscriber]:
    """A durable subscriber with one handler, that runs."""
    names = ("concurrency", "timeout_seconds", "on_error", "blocking", "key")
    how = {name: options.pop(name) for name in names if name in options}
    async with subscribing(broker, **{"durable": "fails", **options}) as mqtt:
        mqtt.register_handler(TELEMETRY, handler, **how)
        await mqtt.connect()
        await mqtt.start()
        yield mqtt


@asynccontextmanager
async def reading(broker: Mosquitto, topic: str) -> AsyncIterator[list[Message]]:
    """Another client, and what it hears."""
    heard: list[Message] = []
    async with subscribing(broker) as other:
        other.register_handler(topic, heard.append)
        await other.connect()
        await other.start()
        yield heard


async def seconds_to_disconnect(mqtt: MQTTSubscriber) -> float:
    began = time.monotonic()
    await mqtt.disconnect()
    return time.monotonic() - began


# Dead letters


@VERSIONS
async def test_a_dead_letter_is_read_by_others_and_says_why_where_mqtt_has_words_for_it(
    broker: Mosquitto, version: str
) -> None:
    calls = 0

    async def fail(reading: dict[str, int]) -> None:
        nonlocal calls
        calls += 1
        raise ValueError(f"no database, {reading['n']}")

    policy = Retry(3, backoff=0.01, then=dead_letter(DEAD))
    async with reading(broker, DEAD) as letters:
        async with running(broker, fail, on_error=policy, mqtt_version=version) as mqtt:
            await publish_all(broker, POISONED, ['{"n":1}'])
            await eventually(lambda: letters)
            assert (mqtt.health.handler_errors, mqtt.health.handler_retries, mqtt.health.dead_letters) == (3, 2, 1)
        assert (letters[0].payload, letters[0].qos, calls) == (b'{"n":1}', 1, 3)
        why = {"topic": POISONED, "error": "ValueError: no database, 1", "count": "3"}
        told: Any = letters[0].properties.get("user-properties", {})
        assert dict(told) == (why if version == "5" else {})


async def test_a_message_is_kept_whose_dead_letter_the_broker_denies_and_comes_again(
    deaf_to_dead_letters: Mosquitto,
) -> None:
    broker, calls, healthy = deaf_to_dead_letters, list[bool](), list[str]()

    async def fail_twice(message: Message, device: str) -> None:
        if device == "h":
            healthy.append(message.text)
            return
        calls.append(message.dup)
        if len(calls) < 3:
            raise ValueError

    policy = Retry(1, then=dead_letter(DEAD))
    async with running(broker, fail_twice, on_error=policy, concurrency=50) as mqtt:
        await publish_all(broker, POISONED, ["x"])
        await publish_all(broker, HEALTHY, map(str, range(100)))
        await eventually(lambda: len(calls) == 3)
        await eventually(lambda: len(healthy) == 100)
        assert calls == [False, True, True]
        assert healthy == list(map(str, range(100)))
        assert mqtt.health.outage_count == 2
        assert mqtt.health.dead_letters == 0


# Messages that are kept


@VERSIONS
@CONCURRENCIES
async def test_a_kept_message_comes_again_and_those_behind_it_are_handled_once_and_in_order(
    broker: Mosquitto, concurrency: int, version: str
) -> None:
    handled: list[str] = []
    failures = 0

    async def fail_twice(message: Message, device: str) -> None:
        nonlocal failures
        if device == "p" and failures < 2:
            failures += 1
            raise ValueError
        handled.append(f"{device}{message.text}")

    options: dict[str, Any] = {"concurrency": concurrency, "on_error": "keep", "mqtt_version": version}
    async with running(broker, fail_twice, **options) as mqtt:
        await publish_all(broker, POISONED, ["1"])
        for number in range(20):
            await publish_all(broker, HEALTHY, [str(number)])
        await publish_all(broker, POISONED, ["2"])
        await eventually(lambda: len(handled) == 22)
        assert [each for each in handled if each[0] == "h"] == [f"h{number}" for number in range(20)]
        assert [each for each in handled if each[0] == "p"] == ["p1", "p2"]
        assert (failures, mqtt.health.handler_errors) == (2, 2)


# One poisoned device among many


async def test_others_go_on_beside_a_poisoned_device_until_as_many_wait_as_may(broker: Mosquitto) -> None:
    handled: list[int] = []
    given_up: list[str] = []

    async def store(device: int) -> None:
        if device == 0:
            raise ValueError
        handled.append(device)

    policy = Retry(10, backoff=1000.0, then=lambda message, error: given_up.append(message.topic))
    async with running(broker, store, concurrency=50, on_error=policy, max_unacknowledged=40) as mqtt:
        await publish_all(broker, "devices/0/telemetry", ["x"])
        await eventually(lambda: mqtt.health.handler_errors == 1)
        for device in range(1, 40):
            await publish_all(broker, f"devices/{device}/telemetry", ["x"])
        await eventually(lambda: len(handled) == 39)
        assert given_up == []
        for device in range(40, 60):
            await publish_all(broker, f"devices/{device}/telemetry", ["x"])
        await eventually(lambda: len(handled) == 59)
        assert given_up == ["devices/0/telemetry"]
        assert handled == list(range(1, 60))
        assert mqtt.health.outage_count == 0


# What takes too long


@pytest.mark.parametrize("kind", ["async", "stubborn", "blocking"])
@CONCURRENCIES
async def test_a_handler_that_takes_too_long_is_counted_and_the_next_message_handled(
    broker: Mosquitto, kind: str, concurrency: int
) -> None:
    handled: list[str] = []
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def wait(message: Message) -> None:
        if message.text == "slow":
            await released.wait()
        handled.append(message.text)

    async def wait_stubbornly(message: Message) -> None:
        while message.text == "slow" and not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                pass
        handled.append(message.text)

    def block(message: Message) -> None:
        if message.text == "slow":
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        handled.append(message.text)

    handler: Any = {"async": wait, "stubborn": wait_stubbornly, "blocking": block}[kind]
    async with running(broker, handler, concurrency=concurrency, timeout_seconds=0.1) as mqtt:
        await publish_all(broker, HEALTHY, ["slow", "quick"])
        await eventually(lambda: handled)
        assert handled == ["quick"]
        assert (mqtt.health.handler_timeouts, mqtt.health.handler_errors) == (1, 1)
        released.set()


# The end, in each of these states


async def test_disconnect_cancels_handlers_that_never_end_within_its_bound(broker: Mosquitto) -> None:
    cancelled: list[str] = []
    begun = 0

    async def never(message: Message, device: str) -> None:
        nonlocal begun
        begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(device)
            raise

    async with running(broker, never, concurrency=50) as mqtt:
        for device in range(10):
            await publish_all(broker, f"devices/{device}/telemetry", ["x"])
        await eventually(lambda: begun == 10)
        assert await seconds_to_disconnect(mqtt) < BOUND_SECONDS + BUSY_SECONDS
    assert sorted(cancelled) == sorted(map(str, range(10)))
    async with reading_again(broker) as heard:
        await eventually(lambda: len(heard) == 10)  # none of them was acknowledged


@asynccontextmanager
async def reading_again(broker: Mosquitto) -> AsyncIterator[list[str]]:
    """The next process of the durable subscriber."""
    heard: list[str] = []
    async with running(broker, lambda message: heard.append(message.text)):
        yield heard


@pytest.mark.parametrize("kind", ["stubborn", "blocking"])
async def test_disconnect_leaves_behind_what_does_not_end_within_its_bound(broker: Mosquitto, kind: str) -> None:
    released, begun = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stubborn(message: Message) -> None:
        begun.set()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                pass

    def block(message: Message) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    async with running(broker, stubborn if kind == "stubborn" else block) as mqtt:
        await publish_all(broker, HEALTHY, ["x"])
        await begun.wait()
        assert await seconds_to_disconnect(mqtt) < BOUND_SECONDS + BUSY_SECONDS
        released.set()
    async with reading_again(broker) as heard:
        await eventually(lambda: heard == ["x"])


@pytest.mark.parametrize(
    "policy", ["keep", Retry(3, backoff=1000.0), Retry(1, then=dead_letter(DEAD))], ids=["keep", "retry", "letter"]
)
async def test_disconnect_leaves_what_has_failed_to_the_broker_and_waits_for_nothing(
    deaf_to_dead_letters: Mosquitto, policy: Any
) -> None:
    broker, called = deaf_to_dead_letters, asyncio.Event()

    async def fail(message: Message) -> None:
        called.set()
        raise ValueError

    async with running(broker, fail, on_error=policy, concurrency=50) as mqtt:
        await publish_all(broker, POISONED, ["x"])
        await called.wait()
        assert await seconds_to_disconnect(mqtt) < 1 + BUSY_SECONDS
    async with reading_again(broker) as heard:
        await eventually(lambda: heard == ["x"])


@CONCURRENCIES
@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_handler_may_disconnect_its_subscriber_and_its_message_is_acknowledged(
    broker: Mosquitto, concurrency: int, *, is_durable: bool
) -> None:
    ended: list[float] = []

    async def leave(message: Message) -> None:
        ended.append(await seconds_to_disconnect(mqtt))

    durable = "fails" if is_durable else None
    async with running(broker, leave, concurrency=concurrency, durable=durable) as mqtt:
        await publish_all(broker, HEALTHY, ["x"])
        await eventually(lambda: ended)
        assert ended[0] < BOUND_SECONDS
        await mqtt.wait()


# What is left behind


@pytest.fixture
def unused_topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test, for others use the same broker."""
    return f"failed/{abs(hash(request.node.nodeid))}"


@VERSIONS
async def test_mosquitto_takes_the_dead_letter_of_an_error_of_many_lines(
    mosquitto: Mosquitto, version: str, unused_topic: str
) -> None:
    letters: list[Message] = []

    def fail(_: Message) -> None:
        raise ValueError("1 validation error\n\tfor Telemetry\x85\ufffe\0")

    then: Any = dead_letter(f"{unused_topic}/dead")
    async with subscribing(mosquitto, mqtt_version=version) as mqtt:
        mqtt.register_handler(f"{unused_topic}/alive", fail, on_error=Retry(1, then=then))
        mqtt.register_handler(f"{unused_topic}/dead", letters.append)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(mosquitto, f"{unused_topic}/alive", ["7"])
        await eventually(lambda: letters)
        assert (mqtt.health.connection_count, mqtt.health.dead_letters) == (1, 1)
    assert letters[0].payload == b"7"


async def test_a_subscriber_that_is_used_again_has_all_its_memory_whatever_was_left(
    mosquitto: Mosquitto, unused_topic: str
) -> None:
    def fail(_: Message) -> None:
        raise ValueError

    heard = Recorder()
    async with subscribing(mosquitto, durable=f"memory-{unused_topic.replace('/', '-')}") as mqtt:
        mqtt.register_handler(unused_topic, fail, on_error=Retry(9, backoff=60))
        mqtt.register_handler(unused_topic, heard)
        await mqtt.connect()
        for _ in range(2):
            heard.topics.clear()
            await mqtt.start()
            await publish_all(mosquitto, unused_topic, ["a", "b"])
            await eventually(lambda: heard.topics)
            await mqtt.disconnect()
            assert mqtt._lifeline._in_hand.size == 0


async def test_a_disconnect_that_was_cancelled_may_be_asked_for_again(
    mosquitto: Mosquitto, unused_topic: str
) -> None:
    begun = asyncio.Event()

    async def endless(_: Message) -> None:
        begun.set()
        await asyncio.sleep(3600)

    async with subscribing(mosquitto) as mqtt:
        mqtt.register_handler(unused_topic, endless)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(mosquitto, unused_topic, ["a"])
        await begun.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mqtt.disconnect(), 0.05)
        await asyncio.wait_for(mqtt.disconnect(), 30)
        assert mqtt.health.connected_since is None


@pytest.mark.parametrize("durable", ["fails", None])
@CONCURRENCIES
async def test_a_disconnect_in_a_flood_waits_for_no_bound_when_handlers_are_quick(
    broker: Mosquitto, durable: str | None, concurrency: int
) -> None:
    count = 0

    async def handle(_: Message) -> None:
        nonlocal count
        count += 1

    async with running(broker, handle, concurrency=concurrency, durable=durable) as mqtt:
        flooding = asyncio.create_task(publish_all(broker, HEALTHY, ["x"] * 6_000))
        await eventually(lambda: count > 500)
        assert await seconds_to_disconnect(mqtt) < 1.0 + BUSY_SECONDS / 2  # the bound of the handlers is 3 s
        await flooding
