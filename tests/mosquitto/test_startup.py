"""A backend that makes sure of its login before it connects."""

from pathlib import Path

import pytest

from plantops_cli.config import load_settings
from plantops_cli.errors import BrokerFileError, ConfigError
from plantops_cli.mosquitto.startup import ensure_login
from plantops_cli.mosquitto.text.hashing import verify_password
from plantops_cli.mosquitto.text.passwords import find_entry
from tests.support.brokers import PASSWORD, Mosquitto
from tests.support.plantops import run


def test_a_login_is_added_once_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "passwd"
    settings = load_settings(mqtt_password_file=path)
    ensure_login(settings, username="backend", password=b"tulip")
    assert verify_password(b"tulip", find_entry(path.read_bytes(), "backend") or "")
    assert "reload the broker" in caplog.text
    caplog.clear()
    before = path.read_bytes()
    ensure_login(settings, username="backend", password=b"tulip")
    assert (caplog.text, path.read_bytes()) == ("", before)


def test_drift_is_reported_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = load_settings(mqtt_password_file=tmp_path / "passwd")
    ensure_login(settings, username="backend", password=b"tulip")
    before = (tmp_path / "passwd").read_bytes()
    ensure_login(settings, username="backend", password=b"rose")
    assert "another password" in caplog.text
    assert "rose" not in caplog.text
    assert (tmp_path / "passwd").read_bytes() == before


def test_without_a_password_file_there_is_nothing_to_ensure() -> None:
    with pytest.raises(ConfigError, match="no password file"):
        ensure_login(load_settings(), username="backend", password=b"tulip")


def test_a_file_that_is_no_password_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("listener 1883\n")
    settings = load_settings(mqtt_password_file=tmp_path / "passwd")
    with pytest.raises(BrokerFileError):
        ensure_login(settings, username="backend", password=b"tulip")


def test_a_listener_adds_its_login_tells_the_broker_and_is_let_in(own_mosquitto: Mosquitto) -> None:
    own_mosquitto.stop()
    own_mosquitto.extra = f"pid_file {own_mosquitto.folder / 'pid'}"
    own_mosquitto.start()
    env = own_mosquitto.environment | {
        "MQTT_BACKEND_USERNAME": "latecomer",
        "MQTT_PASSWORD_FILE": str(own_mosquitto.folder / "passwords"),
    }
    refused = run("listen", "-W", "0.5", env=env)
    env["MQTT_BROKER_CONFIG"] = str(own_mosquitto.folder / "mosquitto.conf")
    heard = run("listen", "-W", "0.5", "--ensure-user", env=env)
    assert (refused.code, heard.code) == (5, 27), heard.stderr
    assert "'latecomer' was added" in heard.stderr
    assert PASSWORD not in heard.stderr


def test_an_anonymous_listener_has_no_login_to_ensure(tmp_path: Path) -> None:
    done = run("listen", "--ensure-user", "--anonymous", env={"MQTT_PASSWORD_FILE": str(tmp_path / "passwd")})
    assert done.code == 2
    assert "--ensure-user" in done.stderr
    assert not (tmp_path / "passwd").exists()
