"""Where the broker is, as people type it, on a real one; and what Kubernetes puts where they would."""

from pathlib import Path

import pytest

from tests.integration.test_encodings import beat
from tests.stream.test_bulk import is_listened_on
from tests.support.brokers import PASSWORD, START_SECONDS, Mosquitto, free_port
from tests.support.plantops import Done, run
from tests.support.recording import until
from tests.support.simulated_fleet import publishing

LINK = "tcp://10.96.0.5:1883"


def heard(broker: Mosquitto, *arguments: str, **environment: str) -> Done:
    env = {"MQTT_BACKEND_PASSWORD": PASSWORD} | environment
    with publishing(broker, beat, interval=0.1):
        return run("listen", "-C", "1", "-o", "jsonl", *arguments, env=env)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-h", "mqtt://127.0.0.1:{port}"),
        ("-h", "127.0.0.1:{port}"),
        ("mqtt://127.0.0.1:{port}",),
        ("devices/+/telemetry", "mqtt://127.0.0.1:{port}"),
        ("-L", "ws://127.0.0.1:{web}/mqtt"),
        ("-h", "ws://127.0.0.1:{web}/mqtt"),
        ("ws://127.0.0.1:{web}",),
    ],
)
def test_a_broker_is_found_as_it_is_typed(arguments: tuple[str, ...], tmp_path: Path) -> None:
    web = free_port()
    with Mosquitto(tmp_path, extra=f"listener {web} 127.0.0.1\nprotocol websockets") as broker:
        assert until(lambda: is_listened_on(web), seconds=START_SECONDS)
        done = heard(broker, *(word.format(port=broker.port, web=web) for word in arguments), MQTT_PORT=LINK)
    assert (done.code, len(done.lines), done.errors) == (0, 1, [])


def test_a_url_in_the_environment_is_understood_like_one_that_is_typed(mosquitto: Mosquitto) -> None:
    done = heard(mosquitto, MQTT_URL=f"mqtt://127.0.0.1:{mosquitto.port}", MQTT_PORT=LINK)
    assert (done.code, len(done.lines), done.errors) == (0, 1, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("-h", "192.0.2.1:abc"),
        ("-h", "mqtts://192.0.2.1", "-p", "1"),
        ("-h", "http://192.0.2.1"),
        ("-h", "192.0.2.1 1883"),
        ("tcp://192.0.2.1:1883",),
        ("ssl://alice:hunter2@192.0.2.1",),
        ("devices/#", "https://192.0.2.1/mqtt"),
        ("alice:hunter2@192.0.2.1",),
        ("mqtt://192.0.2.1", "-h", "192.0.2.1"),
        ("mqtt://192.0.2.1/devices/#",),
        ("-L", "ws://192.0.2.1/mqtt#x"),
        ("-L", "wss://alice:hunter2@192.0.2.1/mqtt"),
    ],
)
def test_what_has_no_meaning_is_one_line_before_all_else(arguments: tuple[str, ...]) -> None:
    done = run("listen", *arguments, env={"MQTT_BACKEND_PASSWORD": PASSWORD})
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (2, b"", 1)
    assert done.errors
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("command", ["listen", "fleet --once", "doctor", "check"])
def test_the_port_of_a_service_is_named_with_its_cure(command: str) -> None:
    done = run(*command.split(), env={"MQTT_BACKEND_PASSWORD": PASSWORD, "MQTT_PORT": LINK})
    assert done.code == (3 if command == "check" else 2)
    said = done.stdout.decode() + done.stderr
    assert f"MQTT_PORT={LINK}: no port number" in said
    assert "enableServiceLinks: false" in said


@pytest.mark.parametrize("more", [(), ("--list",), ("--dry-run",), ("--no-verify",)])
def test_the_port_of_a_service_is_no_obstacle_where_none_is_needed(more: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "passwords").touch(mode=0o600)
    env = {"MQTT_BACKEND_PASSWORD": PASSWORD, "MQTT_PORT": LINK}
    done = run("provision-user", "--file", "passwords", *more, env=env)
    assert (done.code, done.errors) == (0, [])


def test_a_name_that_is_almost_a_setting_is_warned_of_once() -> None:
    done = run("listen", "-h", "127.0.0.1", "-p", "1", "--anonymous", env={"MQTT_PROT": "1"})
    assert done.stderr.count("MQTT_PROT in the environment is no setting of plantops: is MQTT_PORT meant?") == 1
