"""The order of events of one connection: the versions tried, what is asked, and how it ends."""

import asyncio
import socket
import ssl
import time

import pytest

from plantops_cli.errors import (
    BrokerUnreachableError,
    ConnectionLostError,
    CredentialsRefusedError,
    StateError,
    SubscriptionRefusedError,
)
from plantops_cli.messages import Message
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import SILENT_SECONDS, _silence_seconds, open_session
from plantops_cli.stream.status import Connecting, FellBack, Status, describe
from plantops_cli.stream.tls import TLSOptions
from tests.stream.test_tap import shake_hands
from tests.support.certificates import Certificates
from tests.support.scripted_broker import (
    CLOSE,
    CONNECT,
    DISCONNECT,
    SUBSCRIBE,
    ScriptedBroker,
    connack,
    publish,
    serving,
)
from tests.support.subscribing import (
    WAIT_SECONDS,
    collect,
    refusal,
    session_on,
    take,
)

CONNACK_311_BAD_VERSION = b"\x20\x02\x00\x01"
PUBLISH = 0x30


@pytest.mark.parametrize("code", [0x86, 0x87])
async def test_auto_does_not_try_again_with_refused_credentials(code: int) -> None:
    async with serving(ScriptedBroker(answers=[code])) as broker:
        assert isinstance(await refusal(broker, version="auto"), CredentialsRefusedError)
        assert broker.connection_count == 1


@pytest.mark.parametrize("answer", [0x84, CONNACK_311_BAD_VERSION, CLOSE])
async def test_a_refused_mqtt_5_is_followed_by_one_try_with_3_1_1(answer: int | bytes) -> None:
    said: list[Status] = []
    async with (
        serving(ScriptedBroker(answers=[answer, 0])) as broker,
        session_on(broker, version="auto", said=said),
    ):
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4]
    assert [type(status) for status in said] == [Connecting, FellBack]


async def seconds_to_fall_back(*, keepalive_seconds: int) -> float:
    said: list[Status] = []
    async with serving(ScriptedBroker(answers=[None, 0])) as broker:
        began = asyncio.get_running_loop().time()
        options = ConnectOptions(
            host="127.0.0.1", port=broker.port, keepalive_seconds=keepalive_seconds, timeout_seconds=30
        )
        session = await open_session(options, said.append)
        seconds = asyncio.get_running_loop().time() - began
        await session.close()
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4]
    assert session.is_version_a_guess
    assert [describe(status) for status in said][1:] == [
        f"127.0.0.1:{broker.port}: no MQTT answer within 10 s; trying MQTT 3.1.1"
    ]
    return seconds


async def test_ten_seconds_of_silence_on_mqtt_5_are_followed_by_3_1_1_whatever_the_keep_alive() -> None:
    tries = (seconds_to_fall_back(keepalive_seconds=seconds) for seconds in (1, 5, 15, 60, 65_535))
    assert all(SILENT_SECONDS <= took < SILENT_SECONDS + 5 for took in await asyncio.gather(*tries))


@pytest.mark.parametrize("layers", ["tls", "websocket", "tls websocket"])
async def test_silence_is_measured_behind_tls_and_websocket(layers: str, certificates: Certificates) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.server_cert, certificates.server_key)
    answers = iter([b"", b"\x82\x04" * ("websocket" in layers) + connack(0, version=4)])

    def serve(listener: socket.socket) -> None:
        """Make two connections, slowly, and answer CONNECT on the second."""
        for answer in answers:
            accepted, _ = listener.accept()
            time.sleep(0.2)  # what connecting takes is no silence
            with server.wrap_socket(accepted, server_side=True) if "tls" in layers else accepted as theirs:
                if "websocket" in layers:
                    shake_hands(theirs)
                assert theirs.recv(4_096)
                theirs.sendall(answer)
                while theirs.recv(4_096):
                    pass

    said: list[Status] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving_both = asyncio.create_task(asyncio.to_thread(serve, listener))
        options = ConnectOptions(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            tls=TLSOptions(cafile=certificates.ca) if "tls" in layers else None,
            websocket_path="/mqtt" if "websocket" in layers else None,
            timeout_seconds=3,
        )
        session = await open_session(options, said.append)
        assert session.options.mqtt_version is MQTTVersion.V311
        await session.close()
        await serving_both
    assert [type(status) for status in said] == [Connecting, FellBack]


async def test_a_broker_silent_on_both_versions_is_one_error_of_the_whole_attempt() -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker, asyncio.timeout(WAIT_SECONDS):
        error = await refusal(broker, version="auto", seconds=1)
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4]
    assert isinstance(error, BrokerUnreachableError)
    assert "no MQTT answer within 1 s" in str(error)


async def test_a_connection_that_is_not_even_made_is_no_silence_on_mqtt_5() -> None:
    said: list[Status] = []
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as busy,
        socket.create_connection(busy.getsockname()),  # fills the queue of the listener
    ):
        broker = ScriptedBroker(port=busy.getsockname()[1])
        options = ConnectOptions(host="127.0.0.1", port=broker.port, timeout_seconds=1)
        with pytest.raises(BrokerUnreachableError):
            await open_session(options, said.append)
    assert [type(status) for status in said] == [Connecting]


@pytest.mark.parametrize(
    ("took", "left", "seconds"),
    [
        (0.0, 30.0, 10.0),
        (0.001, 29.999, 10.0),
        (5.0, 25.0, 10.0),
        (9.0, 21.0, 9.0),  # its answer may take as long as the connection did
        (1.0, 5.4, 3.3),
        (0.0, 10.0, 7.5),
        (0.0, 0.4, 0.3),
        (0.0, 0.1, 0.075),
        (0.004, 7.996, 6.0),
        (2.0, 4.5, 2.0),
        (12.0, 2.5, 10.0),
        (0.0, 60.0, 10.0),
    ],
)
def test_silence_leaves_a_quarter_of_a_short_attempt_to_3_1_1(took: float, left: float, seconds: float) -> None:
    assert _silence_seconds(took, left) == seconds


async def test_a_broker_that_takes_neither_version_is_given_up_after_one_try_each() -> None:
    async with serving(ScriptedBroker(answers=[CLOSE])) as broker:
        assert isinstance(await refusal(broker, version="auto"), BrokerUnreachableError)
        assert broker.connection_count == 2


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_pinned_version_is_not_changed(version: str) -> None:
    async with serving(ScriptedBroker(answers=[CONNACK_311_BAD_VERSION])) as broker:
        await refusal(broker, version=version)
        assert broker.connection_count == 1


async def test_a_broker_that_never_answers_is_unreachable_within_the_timeout() -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker, asyncio.timeout(WAIT_SECONDS):
        error = await refusal(broker, seconds=0.5)
    assert isinstance(error, BrokerUnreachableError)
    assert "no MQTT answer within 0.5 s" in str(error)


@pytest.mark.parametrize(("version", "code"), [("3.1.1", 0x80), ("5", 0x80), ("5", 0x87), ("5", 0x8F)])
async def test_a_refused_filter_is_named_with_its_code(version: str, code: int) -> None:
    async with (
        serving(ScriptedBroker(subacks=[[1, code]])) as broker,
        session_on(broker, version=version) as session,
    ):
        with pytest.raises(SubscriptionRefusedError) as caught:
            await session.subscribe({"a": 1, "secret/#": 1})
    assert caught.value.filters == {"secret/#": code}
    assert f"'secret/#' (SUBACK 0x{code:02x}, " in str(caught.value)


async def test_a_granted_qos_below_the_one_asked_for_is_returned() -> None:
    async with serving(ScriptedBroker(subacks=[[0, 1]])) as broker, session_on(broker) as session:
        assert await session.subscribe({"a": 1, "b": 2}) == {"a": 0, "b": 1}


async def test_a_session_that_is_closed_subscribes_to_nothing() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.close()
        with pytest.raises((StateError, ConnectionLostError)):
            await session.subscribe({"a": 1})


async def test_a_close_ends_a_subscribe_that_waits() -> None:
    async with serving(ScriptedBroker(subacks=[None])) as broker, session_on(broker) as session:
        waiting = asyncio.create_task(session.subscribe({"a": 1}))
        await broker.wait_for(SUBSCRIBE)
        await session.close()
        with pytest.raises((StateError, ConnectionLostError)):
            await waiting


@pytest.mark.parametrize(("asked", "granted", "sent"), [(0, 0, 1), (1, 1, 2), (1, 0, 1), (2, 1, 2)])
async def test_a_message_of_a_higher_qos_than_was_granted_ends_the_connection(
    asked: int, granted: int, sent: int
) -> None:
    async with serving(ScriptedBroker(subacks=[[granted]])) as broker, session_on(broker) as session:
        await session.subscribe({"#": asked})
        await broker.send(publish(b"a") + publish(b"a", qos=sent))
        received: list[Message] = []
        with pytest.raises(ConnectionLostError, match=f"PUBLISH of QoS {sent}, where {granted} was granted"):
            await collect(session, received)
        assert [message.qos for message in received] == [0]
        await session.close()
        await broker.wait_for(DISCONNECT)
        assert broker.of_kind(DISCONNECT)[0].body == b"\x82"


async def test_a_resumed_session_may_hold_messages_of_a_higher_qos_than_is_granted_now() -> None:
    broker = ScriptedBroker(
        answers=[b"\x20\x03\x01\x00\x00"], subacks=[[0]], after_suback=publish(b"a", qos=2, mid=1)
    )
    async with serving(broker), session_on(broker) as session:
        await session.subscribe({"#": 0})
        assert [message.qos for message in await take(session, 1)] == [2]


async def test_a_connection_that_ends_ends_a_publish_that_waits_for_its_puback() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session, asyncio.timeout(5):
        publishing = asyncio.create_task(session.publish("a", b"1", qos=1, retain=False))
        await broker.wait_for(PUBLISH)
        broker.hang_up()
        with pytest.raises(ConnectionLostError):
            await publishing


async def test_a_close_ends_a_publish_that_waits() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session, asyncio.timeout(5):
        publishing = asyncio.create_task(session.publish("a", b"1", qos=1, retain=False))
        await broker.wait_for(PUBLISH)
        await session.close()
        with pytest.raises((StateError, ConnectionLostError)):
            await publishing


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_user_name_can_go_alone(version: str) -> None:
    async with serving(ScriptedBroker()) as broker:
        options = ConnectOptions(
            host="127.0.0.1", port=broker.port, username="tok3n", mqtt_version=MQTTVersion(version)
        )
        await (await open_session(options)).close()
    (connect,) = broker.of_kind(CONNECT)
    # the flags of user name and password (MQTT 5, 3.1.2.8, 3.1.2.9)
    assert connect.body[7] & 0xC0 == 0x80
    assert connect.body.endswith(b"\x00\x05tok3n")
