import logging
from pathlib import Path

import pytest

from plantops_cli.config import load_settings
from plantops_cli.errors import (
    BrokerUnreachableError,
    ConnectionLostError,
)
from plantops_cli.stream.status import (
    Connected,
    Connecting,
    FellBack,
    Lost,
    Paused,
    Resumed,
    Retrying,
    SessionBegun,
    SessionLost,
    Status,
    describe,
    log_status,
)
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import free_port
from tests.support.scripted_broker import (
    ScriptedBroker,
    serving,
)
from tests.support.subscribing import SECRET, Recorder, eventually, one_of_each_kind, subscribing

LOST = ConnectionLostError("h:1883: connection lost: the network connection ended", endpoint="h:1883")
DOWN = BrokerUnreachableError("h:1883: nothing listens there", endpoint="h:1883")


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (Connecting("h:1883"), "connecting to h:1883"),
        (Connecting("h:1883", "MQTT_HOST from .env"), "connecting to h:1883 (MQTT_HOST from .env)"),
        (FellBack("h:1883", "h:1883: refused"), "h:1883: refused; trying MQTT 3.1.1"),
        (
            Connected("h:1883", "5", {"a/+": 1, "b": 0}),
            "connected to h:1883 with MQTT 5: a/+ at QoS 1, b at QoS 0",
        ),
        (Connected("h:1883", "5", {}), "connected to h:1883 with MQTT 5: nothing subscribed yet"),
        (Lost(LOST), "h:1883: connection lost: the network connection ended"),
        (Retrying(1.24, None), "retry in 1.2 s"),
        (Retrying(1.24, DOWN), "h:1883: nothing listens there; retry in 1.2 s"),
        (Resumed(3.06), "resumed after 3.1 s; messages of that time may be missing"),
        (Resumed(3.06, is_session_kept=True), "resumed after 3.1 s; the broker has kept the session"),
        (
            Connected("h:1883", "5", {}, is_answered=False),
            "connected to h:1883 with MQTT 5: messages come before the answer to SUBSCRIBE",
        ),
        (Connected("h:1883", "5", {}, is_resumed=True), "connected to h:1883 with MQTT 5: session resumed"),
        (SessionBegun("h:1883", "one"), "a new session begins: h:1883 had kept nothing for 'one'"),
        (SessionLost("h:1883", "one"), "h:1883 has forgotten the session 'one': what it was to keep is lost"),
        (Paused(12.4), "reader slow: paused 12 s"),
    ],
)
def test_each_step_is_one_line_for_a_person(status: Status, line: str) -> None:
    assert describe(status) == line


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (Connecting("h:1"), logging.INFO),
        (Connected("h:1", "5", {}), logging.INFO),
        (FellBack("h:1", "0x84"), logging.WARNING),
        (Lost(LOST), logging.WARNING),
        (Retrying(1, DOWN), logging.WARNING),
        (Resumed(1), logging.WARNING),
        (SessionBegun("h:1", "one"), logging.INFO),
        (SessionLost("h:1", "one"), logging.WARNING),
        (Paused(12), logging.WARNING),
    ],
)
def test_trouble_is_logged_as_a_warning(status: Status, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "plantops.stream")
    log_status(status)
    assert caplog.record_tuples == [("plantops.stream", level, describe(status))]


async def test_every_status_listener_is_told_until_it_is_removed() -> None:
    first, second, third = list[Status](), list[Status](), list[Status]()
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, on_status=first.append) as subscriber:
        subscriber.add_status_listener(second.append)
        subscriber.add_status_listener(third.append)
        await subscriber.connect()
        subscriber.remove_status_listener(third.append)
        subscriber.remove_status_listener(print)
        told = len(third)
        await subscriber.disconnect()
        await subscriber.connect()
    assert first == second
    assert [type(status) for status in first] == [Connecting, Connected] * 2
    assert third == first[:told]


async def test_attempts_to_connect_name_the_file_that_had_a_say_in_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[Status]()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MQTT_HOST=127.0.0.1\n")
    (tmp_path / ".env").chmod(0o600)
    settings = load_settings(mqtt_port=free_port(), mqtt_backend_password=SECRET)
    subscriber = MQTTSubscriber.from_settings(settings)
    subscriber.add_status_listener(said.append)
    with pytest.raises(BrokerUnreachableError):
        await subscriber.connect()
    assert said == [Connecting(f"127.0.0.1:{settings.port}", "MQTT_HOST from .env")]


async def test_a_status_listener_that_raises_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Status) -> None:
        raise RuntimeError("the screen is gone")

    heard = Recorder()
    broker = ScriptedBroker(after_suback=one_of_each_kind("a"))
    async with serving(broker), subscribing(broker, on_status=fail) as subscriber:
        subscriber.register_handler("devices/+/+", heard)
        await subscriber.start()
        await eventually(lambda: len(heard.topics) == 2)
    assert "fail failed on Connected" in caplog.text
