"""From flags and settings to a subscriber, without connecting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from plantops_cli.cli.shared.connection import address, resolve, subscriber, without_url
from plantops_cli.cli.shared.flags.connect import ConnectionFlags, MQTTVersionChoice
from plantops_cli.errors import ConfigError
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.tls import TLSOptions
from tests.support.certificates import Certificates

SECRET = "not to be seen"


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in the environment."""
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", SECRET)


def options_for(flags: ConnectionFlags) -> ConnectOptions:
    return subscriber(flags, qos=1, on_status=lambda _: None).options


def test_without_flags_the_settings_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_HOST", "broker.example")
    options = options_for(ConnectionFlags())
    assert (options.endpoint, options.username, options.password) == (
        "broker.example:1883",
        "plantops_backend",
        SECRET.encode(),
    )
    assert options.tls is None


def test_every_flag_reaches_the_connection() -> None:
    flags = ConnectionFlags(
        host="::1",
        port=1884,
        username="alice",
        client_id="watch",
        keepalive=7,
        mqtt_version=MQTTVersionChoice.V311,
    )
    options = options_for(flags)
    assert (options.endpoint, options.username, options.client_id) == ("[::1]:1884", "alice", "watch")
    assert (options.keepalive_seconds, options.mqtt_version) == (7, "3.1.1")


def test_client_ids_are_random_unless_one_is_given() -> None:
    one, other = options_for(ConnectionFlags()), options_for(ConnectionFlags())
    assert one.client_id != other.client_id


def test_a_url_says_host_port_user_and_tls() -> None:
    options = options_for(ConnectionFlags(url="mqtts://alice@broker.example:8884"))
    assert (options.endpoint, options.username) == ("broker.example:8884", "alice")
    assert options.tls == TLSOptions()


def test_a_url_without_a_port_means_the_usual_one_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MQTT_PORT", "1884")
    assert options_for(ConnectionFlags(url="mqtts://broker.example")).port == 8883


def test_anonymous_sends_neither_user_nor_password() -> None:
    options = options_for(ConnectionFlags(anonymous=True))
    assert (options.username, options.password) == (None, None)


def test_a_secret_file_outranks_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("from a file\n")
    assert options_for(ConnectionFlags(secret_file=str(secret))).password == b"from a file"


def test_insecure_implies_tls() -> None:
    assert options_for(ConnectionFlags(insecure=True)).tls == TLSOptions(insecure=True)


def test_certificate_files_imply_tls(certificates: Certificates) -> None:
    cert, key = certificates.client_cert, certificates.client_key
    options = options_for(ConnectionFlags(cafile=certificates.ca, cert=cert, key=key))
    assert options.tls == TLSOptions(cafile=certificates.ca, certfile=cert, keyfile=key)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"url": "mqtt://a", "host": "b"}, "--url and --host"),
        ({"url": "mqtt://a", "port": 1}, "--url and --host, --port"),
        ({"url": "mqtt://a", "tls": True}, "--tls"),
        ({"url": "mqtt://alice@a", "username": "bob"}, "--username"),
        ({"url": "mqtt://a", "insecure": True}, "switched off"),
        ({"tls": False, "cafile": Path("ca.pem")}, "switched off"),
        ({"anonymous": True, "username": "alice"}, "--anonymous"),
        ({"anonymous": True, "secret_file": "-"}, "--anonymous"),
        ({"key": Path("client.key")}, "without its certificate"),
        ({"cafile": Path("none.pem")}, "none.pem"),
        ({"keepalive": 0}, "keep-alive of 0 s"),
        ({"client_id": "a\nb"}, "client id"),
        ({"host": ""}, "host name is empty"),
        ({"host": "mqtts://a", "port": 1}, "--host and --port contradict"),
        ({"unix": "/run/m", "url": "mqtt://a"}, "--unix and --url, --host or --port name two places"),
        ({"unix": "/run/m", "host": "a"}, "--unix and --url, --host or --port name two places"),
        ({"unix": "/run/m", "port": 1}, "--unix and --url, --host or --port name two places"),
        ({"host": "mqtt://alice@a", "username": "bob"}, "--host and --username contradict"),
        ({"host": "mqtt://a", "tls": True}, "--host and --tls contradict"),
        ({"host": "mqtt://a", "insecure": True}, "switched off"),
        ({"host": "a:1", "port": 2}, "--host and --port contradict"),
        ({"host": "a:b"}, "--host is neither a name nor an address"),
        ({"host": f"mqtt://a:{SECRET}@b"}, "--host holds a password"),
        ({"url": "mqtt://b", "host": "mqtt://b"}, "--url and --host"),
        ({"url": "ws://a/x", "websockets": "/y"}, "--websockets and the path of the URL"),
        ({"host": "ws://a/x", "websockets": "/y"}, "--websockets and the path of the URL"),
    ],
    ids=str,
)
def test_flags_that_contradict_each_other_are_refused(flags: Mapping[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        options_for(ConnectionFlags(**flags))  # type: ignore[arg-type]  # each mapping fits its own case
    assert SECRET not in f"{refused.value!r} {refused.value.hint}"


@pytest.mark.parametrize(
    ("flags", "endpoint", "is_tls", "path"),
    [
        ({"host": "mqtt://a"}, "a:1883", False, None),
        ({"host": "mqtts://a:1", "port": 1}, "a:1", True, None),
        ({"host": "a:1"}, "a:1", False, None),
        ({"host": "a:8883"}, "a:8883", True, None),
        ({"host": "[::1]", "port": 1}, "[::1]:1", False, None),
        ({"host": "[::1]:1", "tls": True}, "[::1]:1", True, None),
        ({"host": "wss://a/mqtt"}, "a:443", True, "/mqtt"),
        ({"url": "ws://a:1/mqtt"}, "a:1", False, "/mqtt"),
        ({"url": "ws://a:1/mqtt", "websockets": "/mqtt"}, "a:1", False, "/mqtt"),
        ({"url": "mqtt://a:1", "websockets": "/mqtt"}, "a:1", False, "/mqtt"),
    ],
    ids=str,
)
def test_a_host_may_be_more_than_a_name_and_a_url_may_be_of_a_websocket(
    flags: Mapping[str, object], endpoint: str, path: str | None, *, is_tls: bool
) -> None:
    options = options_for(ConnectionFlags(**flags))  # type: ignore[arg-type]  # each mapping fits its own case
    assert (options.endpoint, bool(options.tls), options.websocket_path) == (endpoint, is_tls, path)


@pytest.mark.parametrize("flags", [ConnectionFlags(url="mqtt://b"), ConnectionFlags(host="mqtt://b")])
def test_a_url_that_is_given_outranks_the_whole_of_that_of_the_environment(
    flags: ConnectionFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_URL", "wss://alice@a/mqtt")
    options = options_for(flags)
    assert (options.endpoint, options.tls, options.websocket_path) == ("b:1883", None, None)
    assert options.username == "plantops_backend"


def test_who_proves_a_login_goes_through_the_websocket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_URL", "ws://a/mqtt")
    assert address(ConnectionFlags(), resolve(ConnectionFlags())).websocket_path == "/mqtt"


def test_a_url_among_the_filters_is_that_of_the_broker() -> None:
    filters, flags = without_url(("devices/#", "mqtt://a", "x/y"), ConnectionFlags(port=None))
    assert (filters, flags) == (("devices/#", "x/y"), ConnectionFlags(url="mqtt://a"))
    assert without_url(("a", "b"), ConnectionFlags(host="c")) == (("a", "b"), ConnectionFlags(host="c"))


@pytest.mark.parametrize(
    ("filters", "flags"),
    [
        (("mqtt://a", "mqtt://b"), ConnectionFlags()),
        ((f"mqtt://a:{SECRET}@b",), ConnectionFlags(host="c")),
        (("mqtt://a",), ConnectionFlags(url="mqtt://a")),
    ],
)
def test_a_broker_that_is_given_twice_is_refused(filters: tuple[str, ...], flags: ConnectionFlags) -> None:
    with pytest.raises(ConfigError, match="the broker is given twice") as refused:
        without_url(filters, flags)
    assert SECRET not in str(refused.value)
    assert "-L URL" in (refused.value.hint or "")


def test_a_unix_socket_needs_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", "tcp://10.96.0.5:1883")
    assert options_for(ConnectionFlags(unix="/run/mqtt")).endpoint == "/run/mqtt"
    with pytest.raises(ConfigError, match="MQTT_PORT=tcp://"):
        options_for(ConnectionFlags())


def test_a_user_in_the_url_leaves_the_flag_free_when_it_names_none() -> None:
    assert options_for(ConnectionFlags(url="mqtt://a", username="bob")).username == "bob"


def test_without_a_password_there_is_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MQTT_BACKEND_PASSWORD")
    with pytest.raises(ConfigError, match="no password for 'plantops_backend'") as refused:
        options_for(ConnectionFlags())
    assert "MQTT_BACKEND_PASSWORD" in (refused.value.hint or "")


def test_the_password_shows_in_no_text() -> None:
    built = subscriber(ConnectionFlags(), qos=1, on_status=lambda _: None)
    assert SECRET not in f"{built!r} {built.options!r}"


def test_a_user_name_goes_alone_only_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_for(ConnectionFlags(username="tok3n", no_password=True))
    assert (options.username, options.password) == ("tok3n", None)
    monkeypatch.delenv("MQTT_BACKEND_PASSWORD")
    with pytest.raises(ConfigError, match="no password for 'tok3n'"):
        options_for(ConnectionFlags(username="tok3n"))


@pytest.mark.parametrize("other", [{"ask_password": True}, {"secret_file": "-"}, {"anonymous": True}])
def test_no_password_contradicts_one(other: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigError, match="together with a"):
        options_for(ConnectionFlags(no_password=True, **other))


def test_no_login_is_ensured_without_a_password() -> None:
    flags = ConnectionFlags(no_password=True)
    with pytest.raises(ConfigError, match="--ensure-user was given together with --no-password"):
        subscriber(flags, qos=1, on_status=lambda _: None, is_login_ensured=True)
