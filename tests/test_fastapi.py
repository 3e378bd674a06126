"""The lifespan helper, in process and under a real uvicorn, on a real broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from plantops_cli import CredentialsRefusedError, MQTTSubscriber
from plantops_cli.config import load_settings
from plantops_cli.errors import BrokerUnreachableError, ConfigError
from plantops_cli.fastapi import mqtt_lifespan
from plantops_cli.mosquitto.text.hashing import verify_password
from plantops_cli.mosquitto.text.passwords import find_entry
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.subscribing import eventually

EXAMPLES = Path(__file__).parent.parent / "examples"
STOP_SECONDS = 5.0


@contextmanager
def example_app(environment: dict[str, str], *, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run examples/fastapi_app.py under uvicorn until the context ends."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--app-dir", str(EXAMPLES)]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def get(port: int, path: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        document: dict[str, object] = json.load(answer)
    return document


def until_true(is_so: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if is_so():
                return
        except (OSError, KeyError):
            pass
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def publish(broker: Mosquitto, topic: str, payload: str) -> None:
    login = ["-u", USERNAME, "-P", PASSWORD]
    subprocess.run(
        [
            "mosquitto_pub",
            "-h",
            "127.0.0.1",
            "-p",
            str(broker.port),
            *login,
            "-t",
            topic,
            "-m",
            payload,
            "-q",
            "1",
        ],
        check=True,
    )


def subscriber_of(broker: Mosquitto, *, password: str = PASSWORD) -> MQTTSubscriber:
    return MQTTSubscriber("127.0.0.1", broker.port, USERNAME, password)


def test_the_example_hears_devices_and_stops_in_time_on_sigterm(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with example_app({**os.environ, **mosquitto.environment}, log=tmp_path / "log") as (process, port):
        until_true(lambda: get(port, "/health")["state"] == "connected")
        publish(mosquitto, "devices/basil/telemetry", '{"soil_moisture": 41.5}')
        publish(mosquitto, "devices/basil/heartbeat", "{}")
        basil = {"state": "online", "reading": {"soil_moisture": 41.5}}
        until_true(lambda: get(port, "/devices")["basil"] == basil)
        assert stop(process) == 0


def test_the_example_stops_in_time_when_the_broker_has_gone(own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    with example_app({**os.environ, **own_mosquitto.environment}, log=tmp_path / "log") as (process, port):
        until_true(lambda: get(port, "/health")["state"] == "connected")
        own_mosquitto.stop()
        until_true(lambda: get(port, "/health")["state"] != "connected")
        assert stop(process) == 0


def test_the_example_starts_without_a_broker_and_connects_when_there_is_one(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with example_app({**os.environ, **broker.environment}, log=tmp_path / "app.log") as (_, port):
        until_true(lambda: get(port, "/health")["state"] in ("waiting", "connecting"))
        broker.start()
        try:
            until_true(lambda: get(port, "/health")["state"] == "connected")
        finally:
            broker.stop()


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=STOP_SECONDS)
    # uvicorn hands the signal on to itself once it is done
    return 0 if code == -signal.SIGTERM else code


async def test_the_login_is_added_when_it_is_not_there(mosquitto: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    settings = load_settings(mqtt_password_file=path, mqtt_backend_password=PASSWORD)
    async with mqtt_lifespan(subscriber_of(mosquitto), settings=settings)(FastAPI()):
        entry = find_entry(path.read_bytes(), USERNAME)
    assert entry is not None
    assert verify_password(PASSWORD.encode(), entry)


async def test_a_login_that_is_there_is_never_overwritten(
    mosquitto: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{USERNAME}:$7$101$AAAAAAAAAAAAAAAA$" + "A" * 86 + "==\n")
    before = path.read_bytes()
    settings = load_settings(mqtt_password_file=path, mqtt_backend_password=PASSWORD)
    async with mqtt_lifespan(subscriber_of(mosquitto), settings=settings)(FastAPI()):
        pass
    assert path.read_bytes() == before
    assert "another password" in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_password_file_without_a_password_fails_the_start(mosquitto: Mosquitto, tmp_path: Path) -> None:
    settings = load_settings(mqtt_password_file=tmp_path / "passwords")
    with pytest.raises(ConfigError, match="no password"):
        async with mqtt_lifespan(subscriber_of(mosquitto), settings=settings)(FastAPI()):
            pytest.fail("it started")
    assert not (tmp_path / "passwords").exists()


async def test_what_others_wrote_into_dotenv_does_not_count(
    mosquitto: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"MQTT_PASSWORD_FILE={tmp_path}/passwords\nMQTT_BACKEND_PASSWORD={PASSWORD}\n")
    dotenv.chmod(0o666)
    async with mqtt_lifespan(subscriber_of(mosquitto))(FastAPI()):
        assert not (tmp_path / "passwords").exists()
    assert caplog.text.count(".env is ignored: others may write it") == 1
    dotenv.chmod(0o600)
    async with mqtt_lifespan(subscriber_of(mosquitto))(FastAPI()):
        assert (tmp_path / "passwords").exists()


async def test_refused_credentials_fail_the_start(mosquitto: Mosquitto) -> None:
    subscriber = subscriber_of(mosquitto, password="wrong")
    with pytest.raises(CredentialsRefusedError):
        async with mqtt_lifespan(subscriber)(FastAPI()):
            pytest.fail("it started")


async def test_an_unreachable_broker_fails_the_start_when_it_is_not_waited_for() -> None:
    subscriber = MQTTSubscriber("127.0.0.1", free_port())
    with pytest.raises(BrokerUnreachableError):
        async with mqtt_lifespan(subscriber, wait_for_broker=False)(FastAPI()):
            pytest.fail("it started")


async def test_the_application_reaches_the_subscriber_through_its_state(mosquitto: Mosquitto) -> None:
    app, subscriber = FastAPI(), subscriber_of(mosquitto)
    async with mqtt_lifespan(subscriber)(app):
        assert app.state.mqtt is subscriber
        assert subscriber.client is not None
    assert subscriber.client is None


def test_one_subscriber_serves_an_application_that_is_started_twice_as_tests_do(mosquitto: Mosquitto) -> None:
    subscriber = subscriber_of(mosquitto)
    lifespan = mqtt_lifespan(subscriber, settings=load_settings(mqtt_backend_password=PASSWORD))

    async def live() -> str:
        async with lifespan(FastAPI()):
            return subscriber.health.state

    assert [asyncio.run(live()) for _ in range(2)] == ["connected", "connected"]
    assert subscriber.client is None


async def test_a_password_file_that_changes_is_read_anew_while_the_application_runs(
    own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    settings = load_settings(
        mqtt_host=own_mosquitto.host, mqtt_port=own_mosquitto.port, mqtt_backend_password_file=file
    )
    subscriber = MQTTSubscriber.from_settings(settings)
    app = FastAPI(lifespan=mqtt_lifespan(subscriber, settings=settings))
    async with app.router.lifespan_context(app):
        await asyncio.to_thread(own_mosquitto.login, USERNAME, "another one")
        await asyncio.sleep(0.5)
        file.write_text("another one")
        await eventually(lambda: subscriber.health.connection_count == 2)
        assert subscriber.password == b"another one"
        assert subscriber.health.outage_count == 1
