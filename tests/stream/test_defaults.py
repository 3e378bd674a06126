"""What a broker is told by default, in bytes, and by the command line as by the library."""

import inspect

import pytest

from plantops_cli.cli.listen.listen_flags import ListenFlags
from plantops_cli.stream.options import ConnectOptions
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.command_line import BY_COMMAND, read
from tests.support.scripted_broker import CONNECT, ScriptedBroker, serving
from tests.support.subscribing import subscribing

BY_LIBRARY = {name: one.default for name, one in inspect.signature(MQTTSubscriber).parameters.items()}
OF_LIBRARY = {
    "keepalive": "keepalive_seconds",
    "connect_timeout": "connect_timeout_seconds",
    "session_expiry": "session_expiry_seconds",
    "max_packet_size": "max_packet_bytes",
    "mqtt_version": "mqtt_version",
    "qos": "qos",
    "durable": "durable",
    "group": "group",
    "client_id": "client_id",
    "websockets": "websocket_path",
    "unix": "unix_socket",
}
"""Flags of ``listen``, and the keyword of ``MQTTSubscriber`` that each sets."""


async def test_a_durable_connect_asks_for_the_defaults() -> None:
    async with serving(ScriptedBroker()) as broker:
        async with subscribing(broker, durable="shed") as subscriber:
            await subscriber.connect()
        body = broker.of_kind(CONNECT)[0].body
    assert body[:7] == b"\0\4MQTT\5"
    assert body[7] == 0xC0  # user name and password; no clean start, no will
    assert body[8:10] == (15).to_bytes(2, "big")  # keep-alive
    size, properties = body[10], body[11:]
    expected = {
        b"\x11" + (86_400).to_bytes(4, "big"),  # Session Expiry Interval
        b"\x21" + (500).to_bytes(2, "big"),  # Receive Maximum
        b"\x27" + (16 * 1024 * 1024).to_bytes(4, "big"),  # Maximum Packet Size
    }
    assert all(properties[:size].count(one) == 1 for one in expected)
    assert size == sum(map(len, expected))  # and nothing else
    assert properties[size:].startswith(b"\0\x0dplantops-shed")


@pytest.mark.parametrize("flag", OF_LIBRARY)
def test_a_flag_that_is_not_given_means_what_the_library_means(flag: str) -> None:
    listen = {option.name: option.default for option in BY_COMMAND["listen"]}
    assert listen[flag] == BY_LIBRARY[OF_LIBRARY[flag]]
    flags = read(ListenFlags)
    [typed] = [getattr(one, flag) for one in (flags, flags.connection, flags.session) if hasattr(one, flag)]
    assert typed == listen[flag]


def test_a_connection_without_a_subscriber_has_the_same_defaults() -> None:
    options = ConnectOptions(host="localhost")
    assert options.keepalive_seconds == BY_LIBRARY["keepalive_seconds"]
    assert options.max_packet_bytes == BY_LIBRARY["max_packet_bytes"]
    assert options.timeout_seconds == BY_LIBRARY["connect_timeout_seconds"]
    assert options.mqtt_version == BY_LIBRARY["mqtt_version"]
