"""Settings: where they come from, in which order, and how a bad one is named."""

import os
from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr

from plantops_cli.config import Settings, load_settings, origins
from plantops_cli.credentials import KeptPassword
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


@pytest.mark.parametrize("scheme", ["", "tcp://", "mqtt://"])
@pytest.mark.parametrize("name", ["MQTT_PORT", "MQTT_TLS"])
def test_a_bad_variable_with_a_login_in_it_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    monkeypatch.setenv(name, f"{scheme}bob:{SECRET}@broker:1883")
    with pytest.raises(ConfigError, match=rf"^{name}=\(with a login in it\): ") as refused:
        _ = load_settings(env_file=None).port
    assert SECRET not in repr(refused.value)


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
    assert load_settings(mqtt_backend_password="\udcff").password() == b"\xff"


def test_without_a_source_there_is_no_password() -> None:
    assert load_settings().find_password() is None
    with pytest.raises(ConfigError, match="no password for 'plantops_backend'"):
        load_settings().password()


def test_two_sources_of_the_password_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", SECRET)
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD_FILE", "/run/secrets/mqtt")
    with pytest.raises(ConfigError, match="MQTT_BACKEND_PASSWORD and MQTT_BACKEND_PASSWORD_FILE"):
        load_settings().password()


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


# Where the broker is


def located() -> tuple[str, int, bool, str, str | None]:
    settings = load_settings()
    user = settings.mqtt_backend_username
    return settings.mqtt_host, settings.port, settings.is_tls, user, settings.websocket_path


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MQTT_URL": "mqtt://a"}, ("a", 1883, False, "plantops_backend", None)),
        ({"MQTT_URL": "mqtts://bob@a:1"}, ("a", 1, True, "bob", None)),
        ({"MQTT_URL": "wss://a/mqtt"}, ("a", 443, True, "plantops_backend", "/mqtt")),
        (
            {"MQTT_URL": "mqtt://a:1", "MQTT_HOST": "a", "MQTT_TLS": "no"},
            ("a", 1, False, "plantops_backend", None),
        ),
        ({"MQTT_HOST": "mqtts://a"}, ("a", 8883, True, "plantops_backend", None)),
        ({"MQTT_HOST": "a:1"}, ("a", 1, False, "plantops_backend", None)),
        ({"MQTT_HOST": "a:1", "MQTT_PORT": "1"}, ("a", 1, False, "plantops_backend", None)),
        ({"MQTT_HOST": "[::1]", "MQTT_PORT": "8883"}, ("::1", 8883, True, "plantops_backend", None)),
        ({"MQTT_HOST": "a\r"}, ("a", 1883, False, "plantops_backend", None)),
    ],
    ids=str,
)
def test_an_address_is_understood_as_it_is_written(
    environment: dict[str, str],
    expected: tuple[str, int, bool, str, str | None],
    dotenv: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dotenv.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
    assert located() == expected
    dotenv.unlink()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert located() == expected


def test_what_outranks_a_url_outranks_each_part_of_it(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("MQTT_URL=mqtts://bob@a:1\n")
    monkeypatch.setenv("MQTT_PORT", "2")
    settings = load_settings(mqtt_host="b")
    assert (settings.mqtt_host, settings.port, settings.is_tls) == ("b", 2, True)
    assert settings.address_source == "MQTT_URL from .env"
    assert origins(settings, mqtt_host="b")["mqtt_tls"] == ".env"
    assert origins(settings, mqtt_host="b")["mqtt_port"] == "environment"


def test_one_url_outranks_the_whole_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_URL", "wss://bob:password@a/mqtt")
    settings = load_settings(mqtt_url="mqtt://b")
    assert (settings.mqtt_host, settings.port, settings.is_tls, settings.websocket_path) == (
        "b",
        1883,
        False,
        None,
    )
    assert settings.mqtt_backend_username == "plantops_backend"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MQTT_URL": "mqtt://a", "MQTT_HOST": "b"}, "MQTT_URL and MQTT_HOST contradict each other"),
        ({"MQTT_URL": "mqtts://a", "MQTT_TLS": "0"}, "MQTT_URL and MQTT_TLS contradict each other"),
        ({"MQTT_HOST": "a:1", "MQTT_PORT": "2"}, "MQTT_HOST and MQTT_PORT contradict each other"),
        ({"MQTT_URL": "mqtt://a:80", "MQTT_HOST": "ws://a/x"}, "MQTT_URL and MQTT_HOST contradict each other"),
        ({"MQTT_HOST": "a:b"}, "MQTT_HOST is neither a name nor an address"),
        ({"MQTT_URL": "a"}, "MQTT_URL: the scheme is neither"),
        ({"MQTT_URL": f"mqtt://bob:{SECRET}@a"}, "MQTT_URL holds a password"),
    ],
    ids=str,
)
def test_an_address_with_no_meaning_or_two_is_refused(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert refusal().startswith(words)
    assert load_settings(mqtt_host="c", mqtt_port=1, mqtt_tls=False).mqtt_host == "c"


LINK = "tcp://10.96.0.5:1883"


def test_the_port_of_a_service_is_named_when_a_port_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", LINK)
    settings = load_settings()
    assert not settings.is_address_given
    assert (settings.is_tls, origins(settings)["mqtt_port"]) == (False, "default")
    with pytest.raises(ConfigError, match=f"^MQTT_PORT={LINK}: no port number; Kubernetes") as refused:
        _ = settings.port
    assert "enableServiceLinks: false" in (refused.value.hint or "")


def test_the_port_of_a_service_outranks_nothing(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", LINK)
    assert load_settings(mqtt_port=1).port == 1
    assert load_settings(mqtt_url="mqtt://a").port == 1883
    dotenv.write_text("MQTT_PORT=2\n")
    assert load_settings().port == 2
    monkeypatch.setenv("MQTT_URL", "mqtt://a:3")
    assert load_settings().port == 3


# Names that are no settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MQTT_PROT", "MQTT_PORT"),
        ("MQTT_ULR", "MQTT_URL"),
        ("MQTT_URI", "MQTT_URL"),
        ("MQTT_TSL", "MQTT_TLS"),
        ("MQTT_HOSTS", "MQTT_HOST"),
        ("MQTT_CLIENTID", "MQTT_CLIENT_ID"),
        ("MQTT_CA_FILE", "MQTT_CAFILE"),
        ("MQTT_BACKEND_PASSWD", "MQTT_BACKEND_PASSWORD"),
        ("MQTT_BACKEND_USER", "MQTT_BACKEND_USERNAME"),
        ("mqtt_relaod", "MQTT_RELOAD"),
    ],
)
def test_a_name_that_is_almost_that_of_a_setting_is_warned_of_once(
    name: str, meant: str, dotenv: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, SECRET)
    load_settings()
    load_settings()
    dotenv.write_text(f"{name}={SECRET}\n")
    load_settings()
    load_settings()
    assert caplog.messages == [
        f"{name.upper()} {where} is no setting of plantops: is {meant} meant?"
        for where in ("in the environment", "in .env")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "MQTT_PORT_1883_TCP",
        "MQTT_PORT_1883_TCP_PORT",
        "MQTT_SERVICE_HOST",
        "MQTT_SERVICE_PORT",
        "MQTT_SERVICE_PORT_MQTT",
        "MQTT_ADMIN_PORT",
        "MQTT_QOS",
        "MQTT_SSL",
        "MQTT_TOPIC",
        "MQTT_PASSWORD",
        "MQTT_PORT",
        "MQTT_BROKER",
        "PORT",
        "XMQTT_PROT",
    ],
)
def test_what_is_set_for_others_is_nobodys_business(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, "1")
    load_settings()
    assert caplog.messages == []


def changed(kept: bytes | KeptPassword) -> bytes:
    """What is used after a refusal."""
    assert isinstance(kept, KeptPassword)
    assert kept.note_refused()
    return kept()


def test_a_password_from_a_file_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    typed = load_settings().kept_password(secret_file=str(file))
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD_FILE", str(file))
    named = load_settings().kept_password()
    file.write_text("new\n")
    assert changed(typed) == changed(named) == b"new"


@pytest.mark.parametrize("is_named", [True, False])
def test_a_password_from_an_env_file_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_named: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_text("MQTT_BACKEND_PASSWORD=old\n")
    settings = load_settings(env_file=file if is_named else None, mqtt_host="broker.example")
    kept = settings.without_client_id().kept_password()
    file.write_text("MQTT_BACKEND_PASSWORD=new\nMQTT_PORT=abc\n")
    assert isinstance(kept, KeptPassword)
    assert not kept.note_refused()  # somebody is still editing it
    file.write_text("MQTT_BACKEND_PASSWORD=new\n")
    assert changed(kept) == b"new"


@pytest.mark.parametrize("line", ["MQTT_HOST=elsewhere.example", "MQTT_BACKEND_USERNAME=bob"])
def test_a_password_that_is_for_another_broker_or_user_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    file = tmp_path / "farm.env"
    file.write_text("MQTT_BACKEND_PASSWORD=old\n")
    kept = load_settings(env_file=file).kept_password()
    file.write_text(f"MQTT_BACKEND_PASSWORD=new\n{line}\n")
    assert isinstance(kept, KeptPassword)
    assert not kept.note_refused()
    assert kept() == b"old"
    assert f"{line.partition('=')[0]} has changed too" in caplog.text


def test_a_password_that_stands_in_no_file_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "fixed")
    assert load_settings().kept_password() == b"fixed"
