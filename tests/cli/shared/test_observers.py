"""Who is told of a run, and who looks at it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from plantops_cli.cli.shared.flags.display import MetricsFlags
from plantops_cli.cli.shared.observers import announce, observers_of
from plantops_cli.errors import ConfigError
from plantops_cli.fleet.monitor import FleetMonitor
from plantops_cli.stream.status import Connecting, SessionLost
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import free_port
from tests.support.samples import batch_of, message
from tests.support.scripted_broker import ScriptedBroker, serving

STEP = Connecting("localhost:1883")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", listening.getsockname())
        yield listening


def subscriber_of(port: int) -> MQTTSubscriber:
    return MQTTSubscriber("127.0.0.1", port, "alice", "secret", on_status=lambda _: None)


def test_each_step_is_said_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    announce(is_quiet=False)(Connecting("localhost:1883"))
    assert capsys.readouterr().err == "plantops: connecting to localhost:1883\n"
    announce(is_quiet=True)(Connecting("localhost:1883"))
    assert capsys.readouterr().err == ""


def test_of_lost_messages_everybody_is_warned(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for is_quiet in (False, True):
        announce(is_quiet=is_quiet)(SessionLost("localhost:1883", "me"))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert capsys.readouterr().err == ""


def test_series_for_each_device_are_for_who_serves_metrics() -> None:
    with pytest.raises(ConfigError, match="--metrics-per-device is for --metrics-port"):
        MetricsFlags(is_per_device=True)


async def test_systemd_hears_each_step_from_the_subscriber_itself(manager: socket.socket) -> None:
    async with serving(ScriptedBroker()) as broker, AsyncExitStack() as beside:
        mqtt = subscriber_of(broker.port)
        for observer in observers_of(mqtt, None, MetricsFlags()):
            await beside.enter_async_context(observer)
        await mqtt.connect()
        await mqtt.disconnect()
    said = list[str]()
    while "READY=1" not in said:
        said += manager.recv(4096).decode().splitlines()
    assert f"STATUS=connecting to 127.0.0.1:{broker.port}" in said


async def test_systemd_is_told_how_the_fleet_fares_if_somebody_keeps_its_account(manager: socket.socket) -> None:
    mqtt = subscriber_of(free_port())
    monitor = FleetMonitor.follow(mqtt, has_handlers=False)
    monitor.take(batch_of(message(b"1", topic="devices/a/heartbeat")))
    async with AsyncExitStack() as beside:
        for observer in observers_of(mqtt, monitor, MetricsFlags()):
            await beside.enter_async_context(observer)
        said = await asyncio.to_thread(manager.recv, 4096)
    assert said.decode().endswith("0 messages, 1 online")


async def test_metrics_are_served_as_long_as_it_is_there() -> None:
    pytest.importorskip("prometheus_client")
    port = free_port()
    mqtt = subscriber_of(free_port())
    observers = observers_of(
        mqtt, FleetMonitor.follow(mqtt, has_handlers=False), MetricsFlags(metrics_port=("127.0.0.1", port))
    )
    async with AsyncExitStack() as beside:
        for observer in observers:
            await beside.enter_async_context(observer)
        assert "plantops_connected 0.0" in await asyncio.to_thread(scrape, port)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(scrape, port)


def scrape(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text
