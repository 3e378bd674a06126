"""The password is in no text that the library makes: no repr, no error with its causes, no traceback, no log."""

import logging
import pprint
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from plantops_cli import MQTTSubscriber
from plantops_cli.config import load_settings
from plantops_cli.errors import BrokerError, ConfigError
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import USERNAME, Mosquitto, free_port
from tests.support.hostile.canary import CANARY, sightings
from tests.support.scripted_broker import CLOSE, ScriptedBroker, serving


@pytest.fixture(autouse=True)
def nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look at everything that anybody has logged, paho and asyncio too."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        text = f"{record.getMessage()} {record.args!r} {record.exc_text}"
        assert sightings(text.encode()) == []


def told_by(error: BaseException | None) -> str:
    """All that an error and its causes say to whoever asks, attributes included."""
    said = traceback.format_exception(error)
    while error is not None:
        attributes = {name: getattr(error, name, None) for name in dir(error) if not name.startswith("__")}
        said += [repr(error), repr(attributes)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(said)


def subscriber(port: int, **options: object) -> MQTTSubscriber:
    return MQTTSubscriber("127.0.0.1", port, USERNAME, CANARY, **options)  # type: ignore[arg-type]  # by the tests


async def refused(work: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(BrokerError) as caught:
        await work()
    assert sightings(told_by(caught.value).encode()) == []


def test_no_repr_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MQTT_BACKEND_PASSWORD", "MQTT_ADMIN_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    settings = load_settings()
    assert settings.password() == CANARY.encode()
    made = MQTTSubscriber.from_settings(settings)
    options = ConnectOptions(host="h", password=CANARY)
    for thing in (
        settings,
        settings.model_dump(),
        settings.model_dump_json(),
        made,
        options,
        made.options,
        made.health,
    ):
        for shown in (repr(thing), str(thing), f"{thing}", pprint.pformat(thing)):
            assert sightings(shown.encode()) == []


async def test_no_failed_connection_shows_it(mosquitto: Mosquitto) -> None:
    await refused(subscriber(mosquitto.port).connect)
    await refused(subscriber(mosquitto.port, mqtt_version="3.1.1").connect)
    await refused(subscriber(mosquitto.port, tls=TLSOptions()).connect)
    await refused(subscriber(free_port()).connect)
    await refused(subscriber(1, unix_socket="none").connect)
    await refused(subscriber(mosquitto.port, websocket_path="/mqtt").connect)


def test_no_env_file_that_is_no_text_shows_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(f"MQTT_BACKEND_PASSWORD='{CANARY}'\n".encode() + b"\xff")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert sightings(told_by(caught.value).encode()) == []


@pytest.mark.parametrize("answer", [0x84, 0x87, CLOSE, CANARY.encode() * 20, b"\x20\x03\x00\x00"])
async def test_no_answer_of_a_broker_makes_it_show(answer: int | bytes) -> None:
    async with serving(ScriptedBroker(answers=[answer])) as broker:
        await refused(subscriber(broker.port, connect_timeout_seconds=0.5).connect)


async def test_no_end_of_a_stream_shows_it() -> None:
    async with serving(ScriptedBroker(after_suback=b"\xe0\x01\x8e")) as broker:
        ended = subscriber(broker.port)
        ended.register_handler("#", print)
        await ended.start()
        await refused(ended.wait)
        assert sightings(repr(ended).encode()) == []
        await ended.disconnect()


@pytest.mark.parametrize("variable", ["MQTT_PORT", "MQTT_TLS"])
def test_no_wrong_setting_beside_it_shows_it(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", CANARY)
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert sightings(told_by(caught.value).encode()) == []
