"""What a connection is told before it is made."""

from pathlib import Path
from typing import Any

import pytest

from plantops_cli.errors import (
    ConfigError,
)
from plantops_cli.stream.options import (
    DURABLE_RECEIVE_MAXIMUM,
    RECEIVE_MAXIMUM,
    ConnectOptions,
    MQTTVersion,
    choose_session,
    parse_version,
    random_client_id,
)
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.tls import TLSOptions
from tests.support.subscribing import (
    SECRET,
)


def test_a_random_client_id_fits_every_broker_and_differs_each_time() -> None:
    assert len(random_client_id()) <= 23
    assert random_client_id() != random_client_id()


def test_the_password_does_not_show_in_the_options() -> None:
    assert SECRET not in repr(ConnectOptions(host="h", username="alice", password=SECRET))


def test_a_password_behind_the_user_name_does_not_show_in_them_either() -> None:
    assert SECRET not in repr(ConnectOptions(host="h", username=f"alice:{SECRET}"))


@pytest.mark.parametrize(
    ("host", "endpoint"), [("h", "h:1883"), ("10.0.0.1", "10.0.0.1:1883"), ("::1", "[::1]:1883")]
)
def test_the_endpoint_is_host_and_port(host: str, endpoint: str) -> None:
    assert ConnectOptions(host=host).endpoint == endpoint


@pytest.mark.parametrize("host", ["10.0.0.1", "broker.example.org", "::2", "localhost.example.org"])
def test_a_password_in_clear_off_loopback_is_a_danger(host: str) -> None:
    (danger,) = ConnectOptions(host=host, username="u", password=SECRET).dangers
    assert "unencrypted" in danger
    assert SECRET not in danger


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LOCALHOST."])
def test_a_password_on_loopback_is_no_danger(host: str) -> None:
    assert ConnectOptions(host=host, username="u", password=SECRET).dangers == []


def test_neither_tls_nor_an_anonymous_client_is_a_danger() -> None:
    assert ConnectOptions(host="h").dangers == []
    assert ConnectOptions(host="h", password=SECRET, tls=TLSOptions()).dangers == []


def test_a_user_name_that_goes_alone_is_a_secret_for_it_may_be_a_token() -> None:
    token = ConnectOptions(host="broker.example", username=SECRET)
    assert token.is_token
    (danger,) = token.dangers
    assert "the user name crosses the network" in danger
    assert SECRET not in danger + repr(token)
    with pytest.raises(ConfigError) as caught:
        ConnectOptions(host="h", username=f"{SECRET}\0")
    assert SECRET not in str(caught.value)


def test_an_unchecked_certificate_is_a_danger() -> None:
    (danger,) = ConnectOptions(host="h", password=SECRET, tls=TLSOptions(insecure=True)).dangers
    assert "not checked" in danger
    (danger,) = ConnectOptions(host="h", tls=TLSOptions(Path("ca.pem"), insecure=True)).dangers
    assert "may bear any name" in danger
    assert "ca.pem" in danger


def test_a_unix_socket_is_its_own_endpoint_and_no_danger() -> None:
    options = ConnectOptions(host="10.0.0.1", username="u", password=SECRET, unix_socket="/run/mosquitto.sock")
    assert options.endpoint == "/run/mosquitto.sock"
    assert options.dangers == []


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, ["name", "TCP"]),
        ({"tls": TLSOptions(), "websocket_path": "/mqtt"}, ["name", "TCP", "TLS", "WebSocket"]),
        ({"unix_socket": "/run/mosquitto.sock", "websocket_path": "/mqtt"}, ["Unix socket"]),
    ],
)
def test_the_layers_below_mqtt_are_named_in_their_order(options: dict[str, Any], layers: list[str]) -> None:
    assert MQTTSubscriber("broker.invalid", **options).options.layers == layers


@pytest.mark.parametrize(
    ("username", "password", "words"),
    [
        ("\udcff", "x", r"user name '\\udcff' is not usable"),
        ("a\0b", "x", "user name"),
        ("x" * 65_536, "x", "user name"),
        ("alice", "\udcff", "password is not UTF-8"),
        ("alice", b"x" * 65_536, "password has more than 65535 bytes"),
    ],
)
def test_a_login_that_no_packet_can_carry_is_refused(username: str, password: str | bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        MQTTSubscriber("127.0.0.1", 1883, username, password)
    assert caught.value.__cause__ is None


def test_a_bound_for_what_waits_is_at_least_one_byte() -> None:
    with pytest.raises(ConfigError, match="0 bytes for the messages that wait"):
        MQTTSubscriber("127.0.0.1", max_pending_bytes=0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"host": ""}, "host name is empty"),
        ({"port": 0}, "port 0"),
        ({"port": 65_536}, "port 65536"),
        ({"client_id": ""}, "client id"),
        ({"client_id": "a\nb"}, "client id"),
        ({"client_id": "x" * 65_536}, "client id"),
        ({"keepalive_seconds": 0}, "keep-alive"),
        ({"keepalive_seconds": 65_536}, "keep-alive"),
        ({"mqtt_version": "4"}, "MQTT version '4'"),
        ({"qos": 3}, "QoS 3"),
    ],
)
def test_an_argument_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        MQTTSubscriber(**{"host": "127.0.0.1", **options})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"host": ""}, "host name is empty"),
        ({"host": "mqtt://h"}, "looks like a URL"),
        ({"host": "h:1883"}, "has a port or brackets"),
        ({"host": "[::1]"}, "has a port or brackets"),
        ({"host": "a b"}, "has a blank in it"),
        *(
            ({"websocket_path": path}, "path of a WebSocket")
            for path in ("", "mqtt", "-h", "/a b", "/ü", "/x\r\nY: z")
        ),
        ({"host": "a\n"}, "has a blank in it"),
        ({"port": 0}, "port 0"),
        ({"client_id": ""}, "client id"),
        ({"client_id": "a\nb"}, "client id"),
        ({"keepalive_seconds": 0}, "keep-alive"),
        ({"session_expiry_seconds": 0}, "session expiry of 0 s"),
        ({"session_expiry_seconds": 2**32}, "session expiry of 4294967296 s"),
        ({"max_packet_bytes": 63}, "largest packet of 63 bytes"),
        ({"max_packet_bytes": 2**28 + 5}, "largest packet"),
        ({"max_pending_bytes": 0}, "messages that wait"),
    ],
)
def test_options_are_checked_whoever_makes_them(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        ConnectOptions(**{"host": "127.0.0.1", **options})
    assert "mqtt://h" not in str(caught.value)


def test_the_limits_themselves_are_within_the_range() -> None:
    ConnectOptions(host="h", port=65_535, keepalive_seconds=65_535, session_expiry_seconds=2**32 - 1)
    ConnectOptions(host="h", port=1, keepalive_seconds=1, session_expiry_seconds=1, max_packet_bytes=64)


def test_with_a_unix_socket_host_and_port_do_not_count() -> None:
    assert ConnectOptions(host="", port=0, unix_socket="/run/m.sock").endpoint == "/run/m.sock"


def test_a_session_that_is_not_durable_has_the_client_id_asked_for_or_a_random_one() -> None:
    assert choose_session(durable=None, client_id="mine", expiry_seconds=None, qos=0) == ("mine", None)
    made, expiry_seconds = choose_session(durable=None, client_id=None, expiry_seconds=None, qos=0)
    assert (made.startswith("plantops-"), expiry_seconds) == (True, None)


def test_a_durable_session_has_the_same_client_id_each_time_and_is_kept_for_a_day() -> None:
    assert choose_session(durable="one", client_id=None, expiry_seconds=None, qos=1) == ("plantops-one", 86_400)
    assert choose_session(durable="one", client_id=None, expiry_seconds=5, qos=2) == ("plantops-one", 5)


@pytest.mark.parametrize(
    ("session", "named"),
    [
        ({"expiry_seconds": 5}, "a session expiry is for a durable session"),
        ({"durable": "one", "client_id": "mine"}, "client id of its own"),
        ({"durable": ""}, "durable name ''"),
        ({"durable": "a\nb"}, "durable name"),
        ({"durable": "x" * 65_001}, "durable name"),
        ({"durable": "one", "qos": 0}, "keeps nothing of QoS 0"),
    ],
)
def test_a_session_that_contradicts_itself_is_refused(session: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        choose_session(**{"durable": None, "client_id": None, "expiry_seconds": None, "qos": 1, **session})


@pytest.mark.parametrize("text", ["4", "", "3.1", "AUTO"])
def test_a_version_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown MQTT version"):
        parse_version(text)
    assert [parse_version(name) for name in ("auto", "5", "3.1.1")] == list(MQTTVersion)


def test_a_durable_session_leaves_less_unacknowledged_for_a_crash_of_the_broker_to_cost() -> None:
    asked = ConnectOptions(host="h", session_expiry_seconds=60, max_packet_bytes=100).properties
    assert asked == {"ReceiveMaximum": 500, "MaximumPacketSize": 100, "SessionExpiryInterval": 60}
    assert "SessionExpiryInterval" not in ConnectOptions(host="h").properties
    assert ConnectOptions(host="h").receive_maximum == RECEIVE_MAXIMUM == 65_535
    assert ConnectOptions(host="h", session_expiry_seconds=60).receive_maximum == DURABLE_RECEIVE_MAXIMUM == 500
