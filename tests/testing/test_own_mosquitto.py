"""A real Mosquitto of one's own: it runs, keeps its port, and says why when it does not."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli import ConfigError, CredentialsRefusedError, MQTTSubscriber
from plantops_cli.config import load_settings
from plantops_cli.testing.own_mosquitto import Mosquitto, free_port
from tests.support.subscribing import Recorder, eventually
from tests.support.without_mosquitto import run_without_mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


async def connects(broker: Mosquitto, *login: str) -> bool:
    """Whether a client is let in."""
    try:
        async with MQTTSubscriber(broker.host, broker.port, *login):
            return True
    except CredentialsRefusedError:
        return False


async def test_it_lets_everybody_in_until_it_has_a_login(broker: Mosquitto) -> None:
    assert await connects(broker)
    broker.login("alice", "tulip")
    assert not await connects(broker)
    assert await connects(broker, "alice", "tulip")


async def test_it_comes_back_on_its_port(broker: Mosquitto) -> None:
    port = broker.port
    broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, port))
    broker.start()
    assert broker.port == port
    assert await connects(broker)


async def test_one_that_is_persistent_keeps_a_durable_session_over_a_restart(tmp_path: Path) -> None:
    heard = Recorder()
    with Mosquitto(tmp_path, is_persistent=True) as broker:
        mqtt = MQTTSubscriber(broker.host, broker.port, durable="kit")
        mqtt.register_handler("a", heard)
        await mqtt.connect()
        await mqtt.start()
        broker.restart()
        await eventually(lambda: mqtt.health.outages and mqtt.health.outages[-1].is_bridged)
        await mqtt.disconnect()


async def test_the_settings_find_it(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.login("alice", "tulip")
    for name, value in broker.environment.items():
        monkeypatch.setenv(name, value)
    async with MQTTSubscriber.from_settings(load_settings()) as mqtt:
        assert (mqtt.port, mqtt.username) == (broker.port, "alice")


def test_what_it_does_not_take_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mosquitto does not start: .*no_such_option"):
        Mosquitto(tmp_path, extra="no_such_option 1").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide the broker from a process")
def test_a_machine_without_it_is_told_how_to_install_it() -> None:
    script = """
from plantops_cli.testing.own_mosquitto import ConfigError, executable
try:
    executable()
except ConfigError as exc:
    print(exc)
"""
    assert "mosquitto is not installed" in (said := run_without_mosquitto(script))
    assert "apt install mosquitto" in said


async def test_many_at_once_do_not_disturb_each_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    brokers = [Mosquitto(tmp_path_factory.mktemp("broker")) for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(broker.start) for broker in brokers))
    assert len({broker.port for broker in brokers}) == 3
    brokers[0].kill()
    assert await connects(brokers[1])
    for broker in brokers:
        broker.stop()


def test_a_free_port_is_none_that_the_system_gives_to_whoever_connects() -> None:
    assert all(10_000 <= free_port() < 32_768 for _ in range(20))


def test_no_password_shows(tmp_path: Path) -> None:
    assert "tulip" not in repr(Mosquitto(tmp_path, logins={"alice": "tulip"}))
