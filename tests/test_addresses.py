"""Where a broker is, as people write it."""

import pytest

from plantops_cli.addresses import is_url, parse_host, parse_url, shown_value
from plantops_cli.errors import ConfigError


def refusal_of_url(url: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_url(url)
    assert refused.value.__cause__ is None
    return f"{refused.value} ({refused.value.hint})"


def refusal_of_host(host: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_host(host, name="MQTT_HOST")
    assert refused.value.__cause__ is None
    return f"{refused.value} ({refused.value.hint})"


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
    login = {} if username is None else {"mqtt_backend_username": username}
    assert parse_url(url) == login | {
        "mqtt_host": host,
        "mqtt_port": port,
        "mqtt_tls": is_tls,
        "websocket_path": "",
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


@pytest.mark.parametrize(
    ("url", "port", "is_tls", "path"),
    [
        ("ws://broker", 80, False, "/"),
        ("ws://broker/mqtt", 80, False, "/mqtt"),
        ("wss://broker:8084/mqtt/", 8084, True, "/mqtt/"),
        ("WSS://broker/a%20b", 443, True, "/a%20b"),
    ],
)
def test_a_url_of_a_websocket_has_a_path(url: str, port: int, path: str, *, is_tls: bool) -> None:
    found = parse_url(url)
    assert (found["mqtt_host"], found["mqtt_port"], found["mqtt_tls"]) == ("broker", port, is_tls)
    assert found["websocket_path"] == path


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("broker", {"mqtt_host": "broker"}),
        (" broker\r\n", {"mqtt_host": "broker"}),
        ("broker:1883", {"mqtt_host": "broker", "mqtt_port": 1883}),
        ("192.0.2.1:1", {"mqtt_host": "192.0.2.1", "mqtt_port": 1}),
        ("::1", {"mqtt_host": "::1"}),
        ("fe80::1%eth0", {"mqtt_host": "fe80::1%eth0"}),
        ("2001:db8::1:1883", {"mqtt_host": "2001:db8::1:1883"}),
        ("[::1]", {"mqtt_host": "::1"}),
        ("[::1]:8883", {"mqtt_host": "::1", "mqtt_port": 8883}),
        ("mqtts://bob@broker:1", parse_url("mqtts://bob@broker:1")),
        ("ws://broker/mqtt", parse_url("ws://broker/mqtt")),
        ("", {"mqtt_host": ""}),
        ("\udcff\x1b[2J", {"mqtt_host": "\udcff\x1b[2J"}),
    ],
)
def test_a_host_may_have_brackets_a_port_or_be_a_url(host: str, found: dict[str, object]) -> None:
    assert parse_host(host) == found


@pytest.mark.parametrize(
    "host",
    [
        "broker:",
        "broker:abc",
        "broker:0",
        "broker:65536",
        "broker:123456",
        ":1883",
        "[]:1883",
        "[broker]",
        "[192.0.2.1]",
        "[::1",
        "::1]",
        "[::1]1883",
        "1:2:3",
        "[broker]:1883",
        "alice:hunter2@broker",
        "mqtt://alice:hunter2@broker",
        "mqtt://",
        "http://hunter2",
    ],
)
def test_a_host_without_a_meaning_is_refused_with_the_right_form_and_not_repeated(host: str) -> None:
    said = refusal_of_host(host)
    assert said.startswith("MQTT_HOST")
    assert "hunter2" not in said
    assert "HOST" in said.partition("(")[2] or "MQTT_BACKEND_PASSWORD" in said


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("mqtt://a", True),
        ("WSS://", True),
        ("mqtts://a/b", True),
        ("tcp://a", True),
        ("mqtt+tls://a", True),
        ("alice:hunter2@broker", True),
        ("mqtt:/a", False),
        ("alice@broker", False),
        ("room:1/x@y", False),
        ("x/mqtt://a", False),
        ("://a", False),
        ("1://a", False),
    ],
)
def test_a_url_is_known_by_its_scheme(text: str, *, is_one: bool) -> None:
    assert is_url(text) is is_one


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc", "abc"),
        ("tcp://10.96.0.5:1883", "tcp://10.96.0.5:1883"),
        ("/mqtt@here now", "/mqtt@here now"),
        ("mqtt://bob:s3c/r3t@broker", "(with a login in it)"),
        ("bob:s3c\nr3t@broker:1883", "(with a login in it)"),
    ],
)
def test_nothing_is_shown_of_a_value_that_may_hold_a_password(text: str, shown: str) -> None:
    assert shown_value(text) == shown
