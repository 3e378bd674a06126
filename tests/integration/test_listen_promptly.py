"""``plantops listen`` for a person watching: how soon a single message is seen."""

import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.plantops import Stream, start, start_on_terminal

TOPIC = "devices/basil/telemetry"
MESSAGES = 20
PROMPT_SECONDS = 0.05
REST_SECONDS = 0.02  # so that each comes alone


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that sends each message at once."""
    broker = Mosquitto(tmp_path, extra="set_tcp_nodelay true")
    broker.start()
    yield broker
    broker.stop()


@contextmanager
def publishing(broker: Mosquitto) -> Iterator[Client]:
    """A client that stays connected, and sends each message at once too."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(USERNAME, PASSWORD)
    client.connect("127.0.0.1", broker.port)
    connection = client.socket()
    assert isinstance(connection, socket.socket)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def median_seconds(broker: Mosquitto, shown: Stream) -> float:
    """How long it takes from publishing a message to seeing it; a busy machine may hold up a few."""
    delays: list[float] = []
    with publishing(broker) as client:
        client.publish(TOPIC, "warm-up").wait_for_publish(10)
        shown.wait_for("warm-up")
        for number in range(MESSAGES):
            time.sleep(REST_SECONDS)
            began = time.monotonic()
            client.publish(TOPIC, f"mark-{number}.")
            shown.wait_for(rf"mark-{number}\.")
            delays.append(time.monotonic() - began)
    return statistics.median(delays)


def test_a_person_at_a_terminal_sees_each_message_within_50_ms(broker: Mosquitto) -> None:
    with start_on_terminal("listen", env=broker.environment) as (listening, _):
        listening.stdout.wait_for("connected to")
        assert median_seconds(broker, listening.stdout) < PROMPT_SECONDS


def test_whoever_reads_a_pipe_gets_each_message_within_50_ms(broker: Mosquitto) -> None:
    with start("listen", "-o", "jsonl", env=broker.environment) as listening:
        listening.stderr.wait_for("connected to")
        assert median_seconds(broker, listening.stdout) < PROMPT_SECONDS
