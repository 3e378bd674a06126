"""Settings: where they come from, in which order, and how a bad one is named."""

import os
from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr

from plantops_cli.config import Settings, load_settings, origins, parse_url
from plantops_cli.errors import ConfigError

SECRET = "not to be seen"


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    """The .env of the current folder."""
    return tmp_path / ".env"


def refusal(**flags: object) -> str:
    """How settings are refused, cure included."""
    with pytest.raises(ConfigError) as refused:
        load_settings(env_file=None, **flags)
    assert SECRET not in repr(refused.value)
    assert refused.value.__cause__ is None or SECRET not in repr(refused.value.__cause__)
    return f"{refused.value} ({refused.value.hint})"


def refusal_of_url(url: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_url(url)
    assert refused.value.__cause__ is None
    return f"{refused.value} ({refused.value.hint})"


def test_a_connection_beside_the_one_of_the_settings_has_a_client_id_of_its_own() -> None:
    settings = load_settings(mqtt_client_id="mine", mqtt_host="broker.example")
    beside = settings.without_client_id()
    assert (beside.mqtt_client_id, beside.mqtt_host) == (None, "broker.example")
    assert settings.mqtt_client_id == "mine"
    assert origins(load_settings().without_client_id())["mqtt_client_id"] == "default"


def test_a_flag_outranks_the_environment_that_outranks_dotenv_that_outranks_the_default(
    monkeypatch: pytest.MonkeyPatch, dotenv: Path
) -> None:
    assert load_settings().mqtt_host == "localhost"
    dotenv.write_text("MQTT_HOST=from-dotenv\n")
    assert load_settings().mqtt_host == "from-dotenv"
    monkeypatch.setenv("MQTT_HOST", "from-environment")
    assert load_settings().mqtt_host == "from-environment"
    assert load_settings(mqtt_host="from-flag").mqtt_host == "from-flag"


def test_a_flag_that_was_not_given_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", "1884")
    assert load_settings(mqtt_port=None).port == 1884


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", "")
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "")
    settings = load_settings()
    assert (settings.port, settings.mqtt_backend_password) == (1883, None)


def test_other_lines_of_dotenv_are_nobodys_business(dotenv: Path) -> None:
    dotenv.write_text("DATABASE_URL=postgres://x\n# a comment\nexport MQTT_CLIENT_ID='a b'\n")
    assert load_settings().mqtt_client_id == "a b"


@pytest.mark.parametrize(
    ("flags", "is_tls", "port"),
    [
        ({}, False, 1883),
        ({"mqtt_port": 8883}, True, 8883),
        ({"mqtt_port": 8883, "mqtt_tls": False}, False, 8883),
        ({"mqtt_tls": True}, True, 8883),
        ({"mqtt_tls": True, "mqtt_port": 1883}, True, 1883),
        ({"mqtt_cafile": Path("ca.pem")}, True, 8883),
        ({"mqtt_certfile": Path("client.pem"), "mqtt_port": 1884}, True, 1884),
        ({"mqtt_keyfile": Path("client.key")}, True, 8883),
        ({"mqtt_tls": False, "mqtt_cafile": Path("ca.pem")}, False, 1883),
    ],
    ids=str,
)
def test_port_8883_and_certificate_files_imply_tls_unless_told_otherwise(
    flags: dict[str, object], *, is_tls: bool, port: int
) -> None:
    settings = load_settings(env_file=None, **flags)
    assert (settings.is_tls, settings.port) == (is_tls, port)


@pytest.mark.parametrize("value", ["abc", "0", "65536", "-1", "1.5"])
def test_a_bad_variable_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MQTT_PORT", value)
    assert refusal().startswith(f"MQTT_PORT={value}: input should be ")


def test_a_bad_argument_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", "1883")
    assert refusal(mqtt_port=70_000).startswith("mqtt_port 70000: input should be ")


def test_a_bad_value_comes_with_what_the_setting_is(dotenv: Path) -> None:
    dotenv.write_text("MQTT_TLS=perhaps\n")
    assert (Settings.model_fields["mqtt_tls"].description or "?") in refusal()


def test_a_dotenv_that_is_not_text_is_named(dotenv: Path) -> None:
    dotenv.write_bytes(b"MQTT_HOST=\xff\xfe\n")
    assert refusal().startswith(".env is not UTF-8 text")


def test_a_bad_setting_beside_a_password_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", SECRET)
    monkeypatch.setenv("MQTT_PORT", "abc")
    assert SECRET not in refusal()


def test_the_password_shows_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", SECRET)
    settings = load_settings()
    assert settings.password() == SECRET.encode()
    assert SECRET not in f"{settings} {settings!r} {settings.model_dump()}"


@pytest.mark.parametrize("name", ["MQTT_BACKEND_PASSWORD", "MQTT_ADMIN_PASSWORD"])
def test_a_password_of_the_environment_is_its_very_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    password = b"p\xe4\xff \xc3\xa4\xed\xa0\x80"
    monkeypatch.setenv(name, os.fsdecode(password))
    settings = load_settings()
    assert (settings.find_password() if "BACKEND" in name else settings.admin_password()) == password
    assert origins(settings)[name.lower()] == "environment"


@pytest.mark.parametrize("given", ["p\xe4", "p\xe4".encode(), SecretStr("p\xe4"), SecretBytes("p\xe4".encode())])
def test_a_password_may_be_given_as_text_or_bytes(given: object) -> None:
    assert load_settings(mqtt_backend_password=given).password() == "p\xe4".encode()


def test_without_a_source_there_is_no_password() -> None:
    assert load_settings().find_password() is None
    with pytest.raises(ConfigError, match="no password for 'plantops_backend'"):
        load_settings().password()


def test_two_sources_of_the_password_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", SECRET)
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD_FILE", "/run/secrets/mqtt")
    with pytest.raises(ConfigError, match="MQTT_BACKEND_PASSWORD and MQTT_BACKEND_PASSWORD_FILE"):
        load_settings().password()


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls", "username"),
    [
        ("mqtt://broker", "broker", 1883, False, None),
        ("mqtts://broker", "broker", 8883, True, None),
        ("mqtt://broker:1884/", "broker", 1884, False, None),
        ("MQTTS://alice@broker:1883", "broker", 1883, True, "alice"),
        ("mqtt://al%40ice@broker", "broker", 1883, False, "al@ice"),
        ("mqtts://[::1]:8884", "::1", 8884, True, None),
    ],
)
def test_a_url_comes_apart(url: str, host: str, port: int, *, is_tls: bool, username: str | None) -> None:
    assert parse_url(url) == {
        "mqtt_host": host,
        "mqtt_port": port,
        "mqtt_tls": is_tls,
        "mqtt_backend_username": username,
    }


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("broker", "neither mqtt nor mqtts"),
        ("broker:1883", "neither mqtt nor mqtts"),
        ("https://broker", "neither mqtt nor mqtts"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt://broker:abc", "the port is not a number"),
        ("mqtt://broker:70000", "the port is not a number"),
        ("mqtt://[::1", "the host is malformed"),
        ("mqtt://broker/devices/#", "nothing may follow the port"),
        ("mqtt://broker?qos=1", "nothing may follow the port"),
    ],
)
def test_a_url_that_is_none_is_refused_with_the_reason(url: str, reason: str) -> None:
    assert reason in refusal_of_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://alice:hunter2@broker",
        "mqtt://alice:@broker",
        "mqtt://:hunter2@broker/x",
        "mqtt://alice:a/hunter2@broker",
        "mqtt://alice:1/hunter2@broker",
        "mqtt://alice:a#hunter2@broker",
        "mqtt://alice:a?hunter2@broker",
        "mqtt://alice:[hunter2@broker",
        "mqtt://alice:hunter2\u2100@broker",
        "alice:hunter2@broker",
        "hunter2://broker",
        "mqtt:///alice:hunter2@broker",
    ],
)
def test_a_refused_url_is_never_repeated_for_it_may_hold_a_password(url: str) -> None:
    assert "hunter2" not in refusal_of_url(url)


def test_a_pipe_called_dotenv_is_not_waited_for(dotenv: Path) -> None:
    os.mkfifo(dotenv)
    assert load_settings().mqtt_host == "localhost"


def test_every_setting_knows_where_it_came_from(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("MQTT_HOST=a.example\nMQTT_CLIENT_ID=me\n")
    monkeypatch.setenv("MQTT_HOST", "b.example")
    monkeypatch.setenv("MQTT_CAFILE", "")
    flags = {"mqtt_port": 1884, "mqtt_tls": None}
    found = origins(load_settings(env_file=None, **flags), **flags)
    assert found["mqtt_port"] == "mqtt_port"
    assert found["mqtt_host"] == "environment"
    assert found["mqtt_client_id"] == ".env"
    assert {found["mqtt_tls"], found["mqtt_cafile"], found["mqtt_backend_username"]} == {"default"}


def test_a_setting_of_a_file_that_was_named_knows_its_name(tmp_path: Path) -> None:
    (tmp_path / "named").write_text("MQTT_HOST=a.example\n")
    found = origins(load_settings(env_file="named"))
    assert (found["mqtt_host"], found["mqtt_port"]) == ("named", "default")
