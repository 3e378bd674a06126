"""What Prometheus is told, by the command line and by a program of one's own."""

import asyncio
import socket
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from plantops_cli import FleetMonitor, MQTTSubscriber
from plantops_cli.errors import ConfigError
from plantops_cli.metrics import Metrics, serving_metrics
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.plantops import run, start
from tests.support.publishing import publish
from tests.support.subscribing import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples_of(answer.read().decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"plantops_{name}", frozenset(labels.items())]


@pytest.mark.parametrize("command", [("listen", "-o", "jsonl"), ("fleet", "--events")])
def test_a_command_serves_health_and_presence(own_mosquitto: Mosquitto, command: tuple[str, ...]) -> None:
    port = free_port()
    arguments = (*command, "--metrics-port", str(port))
    with start(*arguments, env=own_mosquitto.environment) as running:
        running.stderr.wait_for("connected to")
        publish(own_mosquitto, "devices/a/telemetry", b"{}", b"nonsense")
        publish(own_mosquitto, "devices/b/heartbeat", b"1")
        running.stdout.wait_for('"b"')
        samples = scrape(port)
        own_mosquitto.stop()
        running.stderr.wait_for("retry in")
        lost = scrape(port)
        own_mosquitto.start()
        running.stderr.wait_for("resumed after")
        resumed = scrape(port)
        done = running.finish(2)
    assert (done.code, done.errors) == (0, [])
    assert value(samples, "received_messages_total") == 3
    assert value(samples, "devices", state="online") == 2
    assert value(samples, "devices", state="offline") == 0
    assert value(samples, "invalid_payloads_total") == 1
    assert (value(samples, "connected"), value(lost, "connected"), value(resumed, "connected")) == (1, 0, 1)
    assert (value(lost, "outages_total"), value(lost, "reconnections_total")) == (1, 0)
    assert 0 < value(lost, "outage_seconds_total") < value(resumed, "outage_seconds_total")
    assert value(resumed, "reconnections_total") == 1
    assert value(resumed, "paused_seconds_total") == 0
    handlers = {"handler_errors", "handler_timeouts", "handler_retries", "dead_letters", "invalid_payloads"}
    assert {f"{name}_total" for name in {"lost_sessions", "invalid_topics", *handlers}} <= {
        name.removeprefix("plantops_") for name, _ in samples
    }
    assert not any(label == "device_id" for _, labels in samples for label, _ in labels)


def test_series_for_each_device_come_on_request(own_mosquitto: Mosquitto) -> None:
    port = free_port()
    arguments = ("fleet", "--events", "--expect-ids", "b", "--metrics-port", str(port), "--metrics-per-device")
    publish(own_mosquitto, "devices/c/heartbeat", b"1", retain=True)
    with start(*arguments, env=own_mosquitto.environment) as running:
        running.stdout.wait_for('"c"')
        publish(own_mosquitto, "devices/a/telemetry", b"{}")
        running.stdout.wait_for('"a"')
        samples = scrape(port)
    assert value(samples, "device_state", device_id="a", state="online") == 1
    assert value(samples, "device_state", device_id="b", state="never_seen") == 1
    assert value(samples, "device_messages_total", device_id="a") == 1
    assert value(samples, "device_rhythm", device_id="a", kind="telemetry", rhythm="unknown") == 1
    assert value(samples, "device_rhythm", device_id="a", kind="heartbeat", rhythm="not_heard") == 1
    assert value(samples, "device_topics", kind="heartbeat", rhythm="not_heard") == 1
    assert (value(samples, "device_retained_only", device_id="c"), value(samples, "retained_only_devices")) == (
        1,
        1,
    )
    assert value(samples, "device_last_timestamp_seconds", device_id="a", kind="telemetry") > 1.7e9
    assert value(samples, "unknown_devices") == 1


async def test_a_program_of_one_s_own_serves_the_same(mosquitto: Mosquitto) -> None:
    mqtt = MQTTSubscriber("127.0.0.1", mosquitto.port, USERNAME, PASSWORD)
    monitor = FleetMonitor.follow(mqtt)
    heard = asyncio.Event()
    mqtt.register_handler("devices/own-program/heartbeat", lambda _: heard.set())
    await mqtt.connect()
    await mqtt.start()
    try:
        await asyncio.to_thread(publish, mosquitto, "devices/own-program/heartbeat", b"1")
        await asyncio.wait_for(heard.wait(), 10)
        registry = CollectorRegistry()
        registry.register(Metrics(mqtt, monitor))
        samples = samples_of((await asyncio.to_thread(generate_latest, registry)).decode())
    finally:
        await mqtt.disconnect()
    assert value(samples, "connected") == 1
    assert value(samples, "devices", state="online") >= 1
    assert value(samples, "received_messages_total") >= 1
    assert monitor.listened_seconds > 0


async def test_without_a_presence_there_is_health_alone(mosquitto: Mosquitto) -> None:
    mqtt = MQTTSubscriber("127.0.0.1", mosquitto.port)
    metrics = Metrics(mqtt)
    samples = samples_of((await asyncio.to_thread(generate_latest, metrics)).decode())
    assert value(samples, "connected") == 0
    assert not any("devices" in name for name, _ in samples)


async def test_a_port_that_is_taken_is_named(mosquitto: Mosquitto) -> None:
    metrics = Metrics(MQTTSubscriber("127.0.0.1"))
    with pytest.raises(ConfigError, match=f"no metrics can be served on 127.0.0.1:{mosquitto.port}: "):
        async with serving_metrics(str(mosquitto.port), metrics):
            pass


def hang_up_early(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"GET /metrics HT")


async def test_who_hangs_up_on_the_metrics_fills_no_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    async with serving_metrics(("127.0.0.1", port), Metrics(MQTTSubscriber("127.0.0.1"))):
        for _ in range(50):
            await asyncio.to_thread(hang_up_early, port)
        await asyncio.to_thread(scrape, port)
        await eventually(lambda: len(caplog.messages) >= 10)
    assert "Traceback" not in capfd.readouterr().err
    assert len(caplog.messages) <= 11
    assert "a request for metrics of 127.0.0.1 failed" in caplog.messages[0]


class Broken(Metrics):
    """Metrics that cannot be had, as those of a program that is too busy."""

    def collect(self) -> list[Metric]:
        raise TimeoutError("the event loop was busy")


async def test_metrics_that_cannot_be_had_are_a_503_and_a_line(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    async with serving_metrics(("127.0.0.1", port), Broken(MQTTSubscriber("127.0.0.1"))):
        with pytest.raises(HTTPError, match="503"):
            await asyncio.to_thread(scrape, port)
    assert caplog.messages == ["a request for metrics of 127.0.0.1 failed: the event loop was busy"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("listen", "--metrics-port", "x"), "--metrics-port 'x': no port"),
        (("listen", "--metrics-per-device"), "--metrics-per-device is for --metrics-port"),
        (("fleet", "--once", "--metrics-port", "9464"), "--metrics-port is for --events"),
    ],
)
def test_flags_that_make_no_sense_are_refused(mosquitto: Mosquitto, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, env=mosquitto.environment)
    assert done.code == 2
    assert said in done.errors[0]


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from plantops_cli.errors import ConfigError\n"
        "try:\n    import plantops_cli.metrics\nexcept ConfigError as exc:\n    print(exc.hint)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "pip install 'plantops-cli[metrics]'\n"
