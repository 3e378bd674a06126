"""How long an outage lasted: from the last that was heard of the broker, however late its silence was noticed."""

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from plantops_cli.stream.status import Lost, Status
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Done, Running, start
from tests.support.publishing import publish
from tests.support.subscribing import eventually, publish_all, subscribing

TOPIC = "devices/basil/telemetry"
MOMENT = timedelta(seconds=0.1)
QUIET_SECONDS = 1.0
INTERVAL_SECONDS = 0.8
RESUMED = r"resumed after ([0-9.]+) s"
SUMMARY = r" to [0-9:]+ \(([0-9.]+) s\)"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing, and tells nobody so."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def pid_of(broker: Mosquitto) -> int:
    assert broker.process
    return broker.process.pid


def wait_for_log(broker: Mosquitto, words: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while words not in (broker.folder / "log").read_text():
        assert time.monotonic() < deadline, words
        time.sleep(0.1)


def longest(pattern: str, text: str) -> float:
    """The longest time that is told; a machine that is very busy has other outages, too, but short ones."""
    return max(map(float, re.findall(pattern, text)), default=0.0)


async def test_a_broker_that_falls_silent_was_away_since_its_last_byte(own_mosquitto: Mosquitto) -> None:
    said: list[Status] = []
    async with subscribing(own_mosquitto, keepalive_seconds=2, on_status=said.append) as mqtt:
        await mqtt.subscribe("#", lambda _: None)
        await mqtt.connect()
        await mqtt.start()
        await publish_all(own_mosquitto, TOPIC, ["1"])
        await eventually(lambda: mqtt.health.received == 1)
        heard_at = mqtt.health.last_message_at
        with stopped(pid_of(own_mosquitto)):
            silent_at = datetime.now(UTC)
            await eventually(lambda: mqtt.health.outages and mqtt.health.outages[-1].ended_at is None)
            noticed_at = datetime.now(UTC)
            outage_seconds = mqtt.health.outage_seconds
        await eventually(lambda: mqtt.health.outages[-1].ended_at)
        health = mqtt.health
    outage = max(health.outages, key=lambda outage: (outage.ended_at or outage.began_at) - outage.began_at)
    assert heard_at
    assert heard_at - MOMENT <= outage.began_at <= silent_at + MOMENT
    assert outage_seconds >= (noticed_at - silent_at).total_seconds() - 0.1
    assert outage.ended_at
    assert health.outage_seconds > (outage.ended_at - outage.began_at).total_seconds() - 0.1
    assert max(status.silent_seconds for status in said if isinstance(status, Lost)) > 2


@pytest.mark.parametrize("version", ["5", "3.1.1"])  # the one says DISCONNECT, the other hangs up
async def test_a_broker_that_says_goodbye_was_there_until_then(own_mosquitto: Mosquitto, version: str) -> None:
    async with subscribing(own_mosquitto, keepalive_seconds=60, mqtt_version=version) as mqtt:
        await mqtt.connect()
        await mqtt.start()
        hearing = mqtt.hearing
        await asyncio.sleep(QUIET_SECONDS)
        stopped_at = datetime.now(UTC)
        await asyncio.to_thread(own_mosquitto.stop)
        await eventually(lambda: mqtt.health.outage_count)
        (outage,) = mqtt.health.outages
    assert hearing
    assert outage.began_at >= stopped_at or hearing.gap_count  # of a machine that is very busy


def test_the_lines_and_the_summary_say_how_long_nothing_was_heard(own_mosquitto: Mosquitto) -> None:
    with start("listen", "-k", "2", env=own_mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        with stopped(pid_of(own_mosquitto)):
            silent_at = time.monotonic()
            listening.stderr.wait_for("no answer to keep-alive pings; the broker was heard last [0-9.]+ s ago")
            silent_seconds = time.monotonic() - silent_at
        listening.stderr.wait_for("resumed after")
        done = listening.finish(signal.SIGTERM)
    assert silent_seconds > 1
    assert longest(RESUMED, done.stderr) >= silent_seconds - 0.1
    assert longest(SUMMARY, done.stderr) >= silent_seconds - 0.1


def wait_until_all_of_it_is_said(listening: Running, stopped_seconds: float) -> None:
    while longest(RESUMED, listening.stderr.text.decode()) < stopped_seconds:
        listening.stderr.wait_for(RESUMED)


def test_a_listener_that_was_stopped_says_that_it_was_deaf_all_the_time(own_mosquitto: Mosquitto) -> None:
    with start("listen", "-k", "2", env=own_mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        with stopped(listening.process.pid):
            began = time.monotonic()
            publish(own_mosquitto, TOPIC, b"1")  # waits in the socket, before the end of the connection
            wait_for_log(own_mosquitto, "exceeded timeout")
            time.sleep(3)
            seconds = time.monotonic() - began
        wait_until_all_of_it_is_said(listening, seconds - 0.1)


def test_a_listener_that_was_stopped_for_a_moment_loses_nothing(own_mosquitto: Mosquitto) -> None:
    with start("listen", "-o", "jsonl", env=own_mosquitto.environment) as listening:
        listening.stderr.wait_for("connected to")
        with stopped(listening.process.pid):
            publish(own_mosquitto, TOPIC, b"1")
            time.sleep(3)
        listening.stdout.wait_for("basil")
        done = listening.finish(signal.SIGTERM)
    assert "outage" not in done.stderr


def events_of(done: Done) -> list[tuple[str, str]]:
    return [(event["device_id"], event["state"]) for event in map(json.loads, done.lines)]


def test_a_fleet_that_was_stopped_for_a_moment_blames_no_device(own_mosquitto: Mosquitto) -> None:
    devices = ["basil", "dill"]
    with talking(own_mosquitto, devices), start("fleet", "--events", env=own_mosquitto.environment) as watching:
        for device in devices:
            watching.stdout.wait_for(device)
        time.sleep(6 * INTERVAL_SECONDS)  # until their rhythm is known
        with stopped(watching.process.pid):
            time.sleep(6 * INTERVAL_SECONDS)  # so long that nobody is online who says nothing
        time.sleep(2 * INTERVAL_SECONDS)
        done = watching.finish(signal.SIGTERM)
    assert sorted(events_of(done)) == [(device, "online") for device in devices]


@contextmanager
def talking(broker: Mosquitto, devices: Sequence[str]) -> Iterator[None]:
    """Devices that say something in each interval."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(USERNAME, PASSWORD)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    is_over = threading.Event()

    def talk() -> None:
        while not is_over.wait(INTERVAL_SECONDS):
            for device in devices:
                for kind in ("telemetry", "heartbeat"):
                    client.publish(f"devices/{device}/{kind}", b"{}")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        client.disconnect()
        client.loop_stop()
