"""Who looks on beside a listener of the same settings leaves its connection alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.brokers import Mosquitto
from tests.support.plantops import Running, run, start
from tests.support.publishing import publish

OURS = "farm-listener"
LOOKS = {
    "check": ("--within", "1s"),
    "doctor": ("--wait", "0.5"),
    "fleet": ("--once", "--within", "1s"),
}


@contextmanager
def listening(broker: Mosquitto, env: dict[str, str]) -> Iterator[Running]:
    with start("listen", "-o", "jsonl", env=broker.environment | env) as listener:
        listener.stderr.wait_for("connected to")
        yield listener


def assert_undisturbed(listener: Running, broker: Mosquitto) -> None:
    publish(broker, "devices/a/telemetry", b'{"still":"there"}')
    listener.stdout.wait_for("still")
    done = listener.finish(2)
    assert done.code == 0
    assert "lost" not in done.stderr
    assert "retry" not in done.stderr


@pytest.mark.parametrize("command", LOOKS)
def test_a_client_id_in_the_environment_is_the_listeners_alone(own_mosquitto: Mosquitto, command: str) -> None:
    env = {"MQTT_CLIENT_ID": OURS}
    with listening(own_mosquitto, env) as listener:
        run(command, *LOOKS[command], env=own_mosquitto.environment | env)
        assert_undisturbed(listener, own_mosquitto)


@pytest.mark.parametrize("command", LOOKS)
def test_a_client_id_in_a_file_is_the_listeners_alone(
    own_mosquitto: Mosquitto, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "farm.env"
    file.write_text(f"MQTT_CLIENT_ID={OURS}\n")
    with listening(own_mosquitto, {"MQTT_CLIENT_ID": OURS}) as listener:
        run(command, *LOOKS[command], "--env-file", str(file), env=own_mosquitto.environment)
        assert_undisturbed(listener, own_mosquitto)


def test_the_proof_of_a_login_leaves_the_listener_alone(own_mosquitto: Mosquitto) -> None:
    env = {"MQTT_CLIENT_ID": OURS}
    passwords = own_mosquitto.folder / "passwords"
    with listening(own_mosquitto, env) as listener:
        done = run("provision-user", "--file", str(passwords), env=own_mosquitto.environment | env)
        assert "the login is accepted, a wrong password refused" in done.stdout.decode(), done.stderr
        assert_undisturbed(listener, own_mosquitto)


@pytest.mark.parametrize("command", LOOKS)
def test_a_client_id_that_is_typed_is_used_as_it_is(own_mosquitto: Mosquitto, command: str) -> None:
    with listening(own_mosquitto, {"MQTT_CLIENT_ID": OURS}) as listener:
        run(command, *LOOKS[command], "-i", OURS, env=own_mosquitto.environment)
        listener.stderr.wait_for("connection lost")


def test_the_doctor_says_whose_client_id_it_leaves_alone(own_mosquitto: Mosquitto) -> None:
    env = own_mosquitto.environment | {"MQTT_CLIENT_ID": OURS}
    done = run("doctor", *LOOKS["doctor"], env=env)
    assert b"client id: a random one, for MQTT_CLIENT_ID is the listener's" in done.stdout
    assert b"client id 'plantops-" in done.stdout
