"""``plantops listen`` over a Unix socket and a WebSocket, under a limit, and with a reader that stalls."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_listen import numbered, publish_in_flight
from tests.stream.test_bulk import is_listened_on
from tests.support.brokers import START_SECONDS, Mosquitto, free_port
from tests.support.plantops import Running, run, start
from tests.support.recording import until

TOPIC = "devices/basil/telemetry"
CONNECTED = "connected to"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps any number of messages, and listens on a Unix socket and a WebSocket too."""
    web = free_port()
    (tmp_path / "web").write_text(str(web))
    extra = f"listener {web} 127.0.0.1\nprotocol websockets\nlistener 0 {tmp_path / 's'}\nmax_queued_messages 0"
    broker = Mosquitto(tmp_path, extra=extra)
    broker.start()
    assert until(lambda: is_listened_on(web) and (tmp_path / "s").exists(), seconds=START_SECONDS)
    yield broker
    broker.stop()


@pytest.mark.parametrize("transport", ["unix", "websockets"])
def test_messages_come_over_other_transports(broker: Mosquitto, tmp_path: Path, transport: str) -> None:
    if transport == "unix":
        flags = ["--unix", str(tmp_path / "s")]
    else:
        flags = ["--websockets", "/mqtt", "-p", (tmp_path / "web").read_text()]
    with start("listen", *flags, "-C", "2000", "-o", "jsonl", env=broker.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(broker, TOPIC, numbered(2_000))
        done = listening.finish()
    assert done.code == 0
    assert [json.loads(line)["payload"]["n"] for line in done.lines] == list(range(2_000))


def test_a_unix_socket_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    done = run("listen", "--unix", str(tmp_path / "none"), env={"MQTT_BACKEND_PASSWORD": "x"})
    assert done.code == 3
    assert str(tmp_path / "none") in done.errors[0]


def test_a_message_beyond_the_limit_is_kept_back_by_the_broker(broker: Mosquitto) -> None:
    arguments = ("--max-packet-size", "1000", "-V", "5", "-C", "1", "-o", "jsonl")
    with start("listen", *arguments, env=broker.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(broker, TOPIC, [b'"' + b"x" * 5_000 + b'"', b'{"n":1}'])
        done = listening.finish()
    assert [json.loads(line)["payload"] for line in done.lines] == [{"n": 1}]
    assert "malformed" not in done.stderr


def test_without_mqtt_5_a_message_beyond_the_limit_costs_the_connection(broker: Mosquitto) -> None:
    arguments = ("--max-packet-size", "1000", "-V", "3.1.1", "-o", "jsonl")
    with start("listen", *arguments, env=broker.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(broker, TOPIC, [b'"' + b"x" * 5_000 + b'"'])
        listening.stderr.wait_for("where at most 1,000 are taken")
        listening.stderr.wait_for("resumed after")
        publish_in_flight(broker, TOPIC, [b'{"n":1}'])
        listening.stdout.wait_for('"n":1')
        assert listening.finish(signal.SIGTERM).code == 0


def read_numbers(listening: Running, count: int) -> set[int]:
    """Read until each number from 0 has come at least once."""
    seen: set[int] = set()
    while len(seen) < count:
        assert listening.stdout.read()
        lines, _, listening.stdout.text = listening.stdout.text.rpartition(b"\n")
        seen |= {json.loads(line)["payload"]["n"] for line in lines.splitlines()}
    return seen


def test_a_reader_that_stalls_beyond_the_keep_alive_loses_nothing_with_durable(broker: Mosquitto) -> None:
    count = 5_000  # more than the pipe and the listener hold
    arguments = ("--durable", "shed", "-k", "1", "-o", "jsonl")
    with start("listen", *arguments, env=broker.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(broker, TOPIC, numbered(count))
        listening.stderr.wait_for("reader slow: paused [4-6] s")  # twice the keep-alive, and more
        seen = read_numbers(listening, count)
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert seen == set(range(count))
    assert "connection lost" not in done.stderr


def test_a_reader_that_stalls_behind_more_than_may_wait_costs_neither_the_connection_nor_a_message(
    broker: Mosquitto,
) -> None:
    count = 2_000
    filling = b"x" * 20_000  # of these the broker may send more than wait here
    arguments = ("--durable", "shed", "-k", "1", "-q", "1", "-o", "jsonl")
    with start("listen", *arguments, env=broker.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(broker, TOPIC, [b'{"n":%d,"x":"%s"}' % (number, filling) for number in range(count)])
        listening.stderr.wait_for("reader slow: paused [4-6] s")
        seen = read_numbers(listening, count)
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert seen == set(range(count))
    assert "connection lost" not in done.stderr


def test_at_qos_0_such_a_reader_costs_nothing_either(broker: Mosquitto) -> None:
    count = 2_000
    filling = b"x" * 20_000
    with start("listen", "-q", "0", "-k", "1", "-o", "jsonl", env=broker.environment) as listening:
        listening.stderr.wait_for(CONNECTED)
        publish_in_flight(broker, TOPIC, [b'{"n":%d,"x":"%s"}' % (number, filling) for number in range(count)])
        listening.stderr.wait_for("reader slow: paused [4-6] s")
        seen = read_numbers(listening, count)
        done = listening.finish(signal.SIGTERM)
    assert done.code == 0
    assert seen == set(range(count))
    assert "connection lost" not in done.stderr
