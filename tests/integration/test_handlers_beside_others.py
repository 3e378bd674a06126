"""Handlers that block or compute, and payloads that do not fit: all others get round, and the log stays short."""

import asyncio
import logging
import threading
import time
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from plantops_cli import Message, PayloadError
from tests.integration.test_slow_handlers import never_late
from tests.support.brokers import Mosquitto
from tests.support.subscribing import eventually, publish_all, subscribing

TELEMETRY = "devices/{device}/telemetry"
DEVICES = 10
# of which a turn of the event loop never has more than a few
COMPUTED_SECONDS = 0.001


class Telemetry(BaseModel):
    n: int


async def publish_telemetry(broker: Mosquitto, count: int) -> None:
    """Publish numbered telemetry of several devices, so many of each."""
    for device in range(DEVICES):
        await publish_all(broker, f"devices/{device}/telemetry", [f'{{"n":{n}}}' for n in range(count)])


def in_order(handled: list[tuple[str, int]], count: int) -> bool:
    """Whether each device has all of its messages, in order."""
    return all(
        [n for device, n in handled if device == str(each)] == list(range(count)) for each in range(DEVICES)
    )


@pytest.mark.parametrize(("concurrency", "count"), [(1, 20), (50, 100)])
async def test_handlers_that_block_keep_their_order_and_nobody_else_waiting(
    own_mosquitto: Mosquitto, concurrency: int, count: int
) -> None:
    handled: list[tuple[str, int]] = []
    threads: set[str] = set()

    def store(reading: Telemetry, device: str) -> None:
        time.sleep(0.01)
        threads.add(threading.current_thread().name)
        handled.append((device, reading.n))

    async with subscribing(own_mosquitto, max_threads=8) as mqtt:
        mqtt.register_handler(TELEMETRY, store, concurrency=concurrency)
        await mqtt.connect()
        await mqtt.start()
        async with never_late():
            await publish_telemetry(own_mosquitto, count)
            await eventually(lambda: len(handled) == DEVICES * count)
    assert in_order(handled, count)
    assert len(threads) <= 8
    assert threading.current_thread().name not in threads
    await eventually(lambda: not any(each.name in threads for each in threading.enumerate()))


@pytest.mark.parametrize("concurrency", [1, 50])
async def test_between_handlers_that_compute_the_event_loop_gets_round_for_all_others(
    own_mosquitto: Mosquitto, concurrency: int
) -> None:
    handled: list[tuple[str, int]] = []
    go_on = asyncio.Event()

    async def compute(reading: Telemetry, device: str) -> None:
        await go_on.wait()
        until = time.thread_time() + COMPUTED_SECONDS
        while time.thread_time() < until:
            pass
        handled.append((device, reading.n))

    async with subscribing(own_mosquitto) as mqtt:
        mqtt.register_handler(TELEMETRY, compute, concurrency=concurrency)
        await mqtt.connect()
        await mqtt.start()
        await publish_telemetry(own_mosquitto, 50)
        turns = 0
        async with never_late():
            go_on.set()
            while len(handled) < DEVICES * 50:
                await asyncio.sleep(0)
                turns += 1
        assert turns > DEVICES * 50  # as many for others as messages, at least
    assert in_order(handled, 50)


# Payloads that do not fit


async def test_payloads_that_do_not_fit_are_counted_by_device_and_logged_at_a_bounded_rate(
    own_mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    handled, count = list[int](), 10_000

    async def store(reading: Telemetry) -> None:
        handled.append(reading.n)

    async with subscribing(own_mosquitto) as mqtt:
        mqtt.register_handler(TELEMETRY, store, concurrency=50)
        await mqtt.connect()
        await mqtt.start()
        began = time.monotonic()
        for device in ("a", "b"):
            await publish_all(own_mosquitto, f"devices/{device}/telemetry", ['{"n":"hunter2"}'] * (count // 2))
        await publish_all(own_mosquitto, "devices/c/telemetry", ['{"n":1}'])
        await eventually(lambda: handled == [1])
        windows = 1 + (time.monotonic() - began) // 10
        assert mqtt.invalid_by_device == {"a": count // 2, "b": count // 2}
        assert (mqtt.health.invalid_payloads, mqtt.health.handler_errors) == (count, 0)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 0 < len(lines) <= 11 * windows  # ten, and the number of those left out
    assert not any("hunter2" in line for line in lines)


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_who_is_told_of_invalid_payloads_is_told_of_each_and_nothing_is_logged(
    own_mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    told: Counter[str] = Counter()

    async def tell(message: Message, error: PayloadError) -> None:
        note(message, error)

    def note(message: Message, error: PayloadError) -> None:
        assert error.errors
        told[message.captures["device"]] += 1

    on_invalid: Any = tell if kind == "async" else note
    async with subscribing(own_mosquitto) as mqtt:
        mqtt.register_handler("other/{device}", store_nothing, concurrency=50, on_invalid=on_invalid)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(own_mosquitto, "other/x", ["{}", "[]", "\0", "not JSON", '{"n":null}', '{"n":1}'])
        await eventually(lambda: told == {"x": 5})
        assert mqtt.health.invalid_payloads == 5
        assert mqtt.invalid_by_device == {"other/x": 5}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def store_nothing(reading: Telemetry) -> None:
    """Take telemetry."""


async def test_a_message_is_kept_when_who_is_told_that_it_is_invalid_fails(own_mosquitto: Mosquitto) -> None:
    told: list[bool] = []

    async def fail_once(message: Message, error: PayloadError) -> None:
        told.append(message.dup)
        if len(told) == 1:
            raise OSError("no disk")

    async with subscribing(own_mosquitto, durable="invalid", on_error="keep") as mqtt:
        mqtt.register_handler(TELEMETRY, store_nothing, on_invalid=fail_once)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(own_mosquitto, "devices/a/telemetry", ["{}"])
        await eventually(lambda: told == [False, True])
