"""``plantops provision-user --backend dynsec`` as a whole process, on a real Mosquitto with the plugin."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.mosquitto.broker.proof import LoginAnswer, log_in
from plantops_cli.stream.options import ConnectOptions
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.dynsec_broker import ADMIN, ADMIN_PASSWORD, DEFAULTS, NO_ROLE, NO_USER, answer, ctrl, start
from tests.support.plantops import run
from tests.support.scripted_broker import ScriptedBroker, serving

SECRET = "correct horse battery staple"
OTHER = "another password altogether"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = start(tmp_path)
    yield broker
    broker.stop()


def plantops(
    broker: Mosquitto | ScriptedBroker,
    *arguments: str | Path,
    password: str | None = SECRET,
    **variables: str | Path,
) -> subprocess.CompletedProcess[str]:
    env = {"MQTT_ADMIN_PASSWORD": ADMIN_PASSWORD, "MQTT_BACKEND_USERNAME": "reader"}
    env |= {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(broker.port)}
    env |= {} if password is None else {"MQTT_BACKEND_PASSWORD": password}
    env |= {name: str(value) for name, value in variables.items()}
    env = {name: value for name, value in env.items() if value}
    done = run("provision-user", "--backend", "dynsec", *map(str, arguments), env=env)
    return subprocess.CompletedProcess((), done.code, done.stdout.decode(), done.stderr)


def accepts(broker: Mosquitto, password: str | bytes, username: str = "reader") -> bool:
    login = ConnectOptions(host="127.0.0.1", port=broker.port, username=username, password=password)
    return asyncio.run(log_in(login)) is LoginAnswer.ACCEPTED


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("plantops: error: ")
    assert result.stderr.count("\n") == 1
    assert SECRET not in result.stderr
    assert ADMIN_PASSWORD not in result.stderr
    assert [word for word in words if word not in result.stderr] == []


def test_the_login_is_made_and_proven_and_a_second_run_changes_nothing(broker: Mosquitto) -> None:
    first = plantops(broker)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [
        f"reader: created on 127.0.0.1:{broker.port}",
        f"127.0.0.1:{broker.port}: the login is accepted, a wrong password refused, publishing elsewhere refused",
    ]
    second = plantops(broker)
    assert second.stdout.startswith(f"reader: unchanged on 127.0.0.1:{broker.port}\n")
    assert accepts(broker, SECRET)


def test_a_script_reads_the_outcome(broker: Mosquitto) -> None:
    plantops(broker, password=OTHER)
    result = plantops(broker, "-o", "json")
    document = json.loads(result.stdout)
    assert document["action"] == "updated"
    assert document["endpoint"] == f"127.0.0.1:{broker.port}"
    assert document["password_matches"] is True
    assert document["proof"]["publish_refused"] is True
    assert document["error"] is None
    assert any("closes the open connections" in notice for notice in document["notices"])
    assert SECRET not in result.stdout + result.stderr


def test_one_who_is_there_with_another_password_is_left_alone_if_told(broker: Mosquitto) -> None:
    plantops(broker, password=OTHER)
    result = plantops(broker, "--if-missing", "--fail-on-drift")
    assert result.returncode == 5
    assert "another password" in result.stderr
    assert accepts(broker, OTHER)


def test_a_removed_login_is_refused(broker: Mosquitto) -> None:
    plantops(broker)
    result = plantops(broker, "--remove")
    assert result.stdout.splitlines() == [
        f"reader: removed on 127.0.0.1:{broker.port}",
        f"127.0.0.1:{broker.port}: the login is refused",
    ]
    assert not accepts(broker, SECRET)


def test_a_dry_run_changes_nothing(broker: Mosquitto) -> None:
    result = plantops(broker, "--dry-run")
    assert result.stdout == f"reader: would be created on 127.0.0.1:{broker.port}\n"
    assert not accepts(broker, SECRET)


def test_the_users_are_listed_with_their_roles(broker: Mosquitto) -> None:
    plantops(broker)
    ctrl(broker, "disableClient", "reader")
    text = plantops(broker, "--list", password=None).stdout
    assert "reader  plantops-read, disabled\n" in text
    assert f"{ADMIN}   admin\n" in text
    rows = json.loads(plantops(broker, "--list", "-o", "json", password=None).stdout)["users"]
    assert {"username": ADMIN, "roles": ["admin"], "groups": [], "disabled": False} in rows


def test_a_generated_password_is_kept_where_it_was_asked_for(broker: Mosquitto, tmp_path: Path) -> None:
    kept = tmp_path / "secret"
    result = plantops(broker, "--generate", "--secret-file", kept, password=None)
    assert result.returncode == 0, result.stderr
    assert kept.stat().st_mode & 0o777 == 0o600
    password = kept.read_bytes().removesuffix(b"\n")
    assert accepts(broker, password)
    assert password.decode() not in result.stdout + result.stderr


def test_no_password_is_kept_of_a_login_that_was_refused(broker: Mosquitto, tmp_path: Path) -> None:
    kept = tmp_path / "secret"
    result = plantops(
        broker, "--generate", "--secret-file", kept, password=None, MQTT_ADMIN_PASSWORD="not the right one"
    )
    assert_refused(result, 5, "admin")
    assert not kept.exists()


async def test_a_password_that_the_broker_may_have_taken_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "secret"
    full: dict[str, object] = {"error": "no room"}
    async with serving(ScriptedBroker()) as broker:
        playing = asyncio.create_task(answer(broker, *[DEFAULTS, NO_ROLE, NO_USER, full] * 3))
        arguments = ("--generate", "--secret-file", kept)
        result = await asyncio.to_thread(plantops, broker, *arguments, password=None)
        await playing
    assert result.returncode == 5
    assert result.stderr.splitlines()[0] == (
        f"plantops: note: the password stays in {kept}, for the broker may have taken it"
    )
    assert "createRole failed: no room" in result.stderr
    assert len(kept.read_bytes()) > 40


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--file", "passwd"], "--file"),
        (["--acl-file", "acl"], "--acl-file"),
        (["--iterations", "20000"], "--iterations"),
        (["--trial-broker"], "--trial-broker"),
        (["--reload", "none"], "--reload"),
        (["--owner", "root"], "--owner"),
    ],
)
def test_what_is_for_a_file_is_refused(broker: Mosquitto, flags: list[str], word: str) -> None:
    assert_refused(plantops(broker, *flags), 2, word, "--backend dynsec")


def test_the_administrator_needs_a_password(broker: Mosquitto) -> None:
    assert_refused(plantops(broker, MQTT_ADMIN_PASSWORD=""), 2, "'admin'", "MQTT_ADMIN_PASSWORD_FILE")


def test_the_administrator_may_have_another_name_and_a_password_file(broker: Mosquitto, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.write_text(OTHER + "\n")
    ctrl(broker, "createClient", "chief", "-p", OTHER)
    ctrl(broker, "addClientRole", "chief", "admin", "0")
    result = plantops(
        broker, MQTT_ADMIN_USERNAME="chief", MQTT_ADMIN_PASSWORD="", MQTT_ADMIN_PASSWORD_FILE=mounted
    )
    assert result.returncode == 0, result.stderr
    both = plantops(broker, MQTT_ADMIN_PASSWORD_FILE=mounted)
    assert_refused(both, 2, "MQTT_ADMIN_PASSWORD and MQTT_ADMIN_PASSWORD_FILE")


def test_a_file_that_says_where_the_passwords_go_is_named(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").write_text(f"MQTT_HOST=127.0.0.1\nMQTT_PORT={broker.port}\n")
    monkeypatch.chdir(tmp_path)
    made = plantops(broker, "--env-file", "settings", MQTT_PORT="")
    assert made.returncode == 0, made.stderr
    assert f"plantops: connecting to 127.0.0.1:{broker.port} (MQTT_PORT from settings)\n" in made.stderr


def test_an_address_elsewhere_is_refused_without_tls(broker: Mosquitto) -> None:
    result = plantops(broker, MQTT_HOST="broker.example")
    assert_refused(result, 2, "unencrypted", "--tls")


def test_a_broker_without_the_plugin_is_refused_by_its_configuration(broker: Mosquitto, tmp_path: Path) -> None:
    config = tmp_path / "plain.conf"
    config.write_text("listener 1883\n")
    assert_refused(plantops(broker, "--config", config), 2, "no dynamic security plugin")


def test_a_broker_without_the_plugin_does_not_answer(mosquitto: Mosquitto) -> None:
    result = plantops(mosquitto, MQTT_ADMIN_USERNAME=USERNAME, MQTT_ADMIN_PASSWORD=PASSWORD)
    assert_refused(result, 5, "no answer to getDefaultACLAccess", "dynamic security plugin")


def test_a_password_file_that_the_broker_would_not_ask_is_not_written(broker: Mosquitto, tmp_path: Path) -> None:
    plantops(broker)
    passwords = tmp_path / "passwd"
    config = tmp_path / "both.conf"
    config.write_text(
        f"listener {broker.port} 127.0.0.1\npassword_file {passwords}\n"
        f"plugin mosquitto_dynamic_security.so\nplugin_opt_config_file {tmp_path / 'dynamic-security.json'}\n"
    )
    result = plantops(broker, "--backend", "file", "--config", config)
    assert_refused(result, 2, "'reader'", "--backend dynsec")
    assert not passwords.exists()
    other = plantops(broker, "somebody_else", "--backend", "file", "--config", config, "--no-verify")
    assert other.returncode == 0, other.stderr
    assert passwords.exists()
