import asyncio
import base64
import contextlib
import gc
import hashlib
import logging
import re
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt import client as paho

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    StateError,
    SubscriptionRefusedError,
)
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch
from plantops_cli.stream.client import PRIVATE_NAMES
from plantops_cli.stream.inbox import MAX_PENDING_BYTES, MESSAGE_BYTES
from plantops_cli.stream.options import ConnectOptions, MQTTVersion, random_client_id
from plantops_cli.stream.session import (
    SILENT_SECONDS,
    Session,
    _silence_seconds,
    open_session,
)
from plantops_cli.stream.status import Connecting, FellBack, Status, describe
from plantops_cli.stream.tap import READ_BYTES
from plantops_cli.stream.tls import TLSOptions
from tests.stream.test_tap import shake_hands
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.certificates import Certificates
from tests.support.scripted_broker import (
    CLOSE,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBCOMP,
    PUBREC,
    SUBSCRIBE,
    Packet,
    ScriptedBroker,
    connack,
    packet_of,
    publish,
    serving,
)
from tests.support.subscribing import (
    SECRET,
    WAIT_SECONDS,
    eventually,
    is_left_unread,
    no_room,
    open_files,
    publish_all,
    take,
)

CONNACK_311_BAD_VERSION = b"\x20\x02\x00\x01"
PUBLISH_TOO_SHORT_FOR_ITS_TOPIC = b"\x30\x03\x00\x10a"
PUBLISH = 0x30
MIB = 1024 * 1024
FEW_BYTES = 128 * 1024
LENGTH_OF_FIVE_BYTES = b"\x30\xff\xff\xff\xff\x7f"


@asynccontextmanager
async def session_on(
    broker: ScriptedBroker,
    *,
    version: str = "5",
    seconds: float = WAIT_SECONDS,
    said: list[Status] | None = None,
    max_pending_bytes: int = MAX_PENDING_BYTES,
    keepalive_seconds: int = 15,
) -> AsyncIterator[Session]:
    options = ConnectOptions(
        host="127.0.0.1",
        port=broker.port,
        username="alice",
        password=SECRET,
        mqtt_version=MQTTVersion(version),
        timeout_seconds=seconds,
        max_pending_bytes=max_pending_bytes,
        keepalive_seconds=keepalive_seconds,
    )
    session = await open_session(options, (said if said is not None else []).append)
    try:
        yield session
    finally:
        await session.close()


async def refusal(broker: ScriptedBroker, *, version: str = "5", seconds: float = WAIT_SECONDS) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        async with session_on(broker, version=version, seconds=seconds):
            pass
    return caught.value


async def collect(session: Session, received: list[Message]) -> None:
    async for batch in session.batches():
        received += batch


def test_each_private_name_of_aiomqtt_and_paho_is_still_there() -> None:
    missing = [
        f"{owner.__module__}.{name}"
        for owner, names in PRIVATE_NAMES.items()
        for name in names
        if not callable(getattr(owner, name, None))
    ]
    assert missing == []


@pytest.mark.parametrize("kind", [aiomqtt.Client, paho.Client])
async def test_a_release_that_has_moved_a_private_name_is_refused_at_once(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRIVATE_NAMES, kind, ("_moved_away",))
    with pytest.raises(ConfigError, match=r"Client of the installed release has no _moved_away"):
        await open_session(ConnectOptions(host="127.0.0.1"), lambda status: None)


@pytest.mark.parametrize(
    ("kind", "name"), [(aiomqtt.Client, "_hostname"), (paho.Client, "_sock"), (paho.Client, "_ping_t")]
)
async def test_a_release_that_has_moved_an_attribute_is_refused_before_connecting(
    kind: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialize = kind.__init__  # type: ignore[misc]  # of this very class

    def without(self: object, *args: object, **kwargs: object) -> None:
        initialize(self, *args, **kwargs)
        monkeypatch.delattr(self, name, raising=False)

    monkeypatch.setattr(kind, "__init__", without)
    with pytest.raises(ConfigError, match=rf"of the installed release has no {name}"):
        await open_session(ConnectOptions(host="127.0.0.1"), lambda status: None)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_the_overridden_methods_carry_a_session_from_connect_to_disconnect(version: str) -> None:
    body = publish(b"a/b", b"1", qos=1, mid=9, version=5 if version == "5" else 4)
    async with serving(ScriptedBroker(after_suback=body)) as broker:
        async with session_on(broker, version=version) as session:
            assert session.client is not None
            assert await session.subscribe({"a/+": 1}) == {"a/+": 1}
            async for batch in session.batches():
                assert [(m.topic, m.payload, m.qos, m.mid) for m in batch] == [("a/b", b"1", 1, 9)]
                session.finish()
        await broker.wait_for(DISCONNECT)
        assert broker.acknowledged == [9]
        assert session.client is None


@pytest.mark.parametrize(("version", "code"), [("3.1.1", 4), ("3.1.1", 5), ("5", 0x86), ("5", 0x87)])
async def test_refused_credentials_name_the_user_and_never_the_password(
    version: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(ScriptedBroker(answers=[code])) as broker:
        error = await refusal(broker, version=version)
        assert SECRET.encode() in broker.received[0].body
    assert isinstance(error, CredentialsRefusedError)
    assert "'alice'" in str(error)
    assert SECRET not in f"{error} {error!r} {error.hint} {error.__cause__!r} {caplog.text}"


@pytest.mark.parametrize("code", [0x86, 0x87])
async def test_auto_does_not_try_again_with_refused_credentials(code: int) -> None:
    async with serving(ScriptedBroker(answers=[code])) as broker:
        assert isinstance(await refusal(broker, version="auto"), CredentialsRefusedError)
        assert broker.connection_count == 1


@pytest.mark.parametrize(("version", "code"), [("5", 0x88), ("5", 0x89), ("5", 0x97), ("3.1.1", 3)])
async def test_a_busy_broker_may_be_tried_again(version: str, code: int) -> None:
    async with serving(ScriptedBroker(answers=[code])) as broker:
        assert isinstance(await refusal(broker, version=version), BrokerUnreachableError)


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
        options = ConnectOptions(host="127.0.0.1", port=broker.port, keepalive_seconds=keepalive_seconds)
        session = await open_session(options, said.append)
        seconds = asyncio.get_running_loop().time() - began
        await session.close()
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4]
    assert session.is_version_a_guess
    assert [describe(status) for status in said][1:] == [
        f"127.0.0.1:{broker.port}: no MQTT answer within 3 s; trying MQTT 3.1.1"
    ]
    return seconds


async def test_three_seconds_of_silence_on_mqtt_5_are_followed_by_3_1_1_whatever_the_keep_alive() -> None:
    tries = (seconds_to_fall_back(keepalive_seconds=seconds) for seconds in (1, 5, 15, 60, 65_535))
    assert all(SILENT_SECONDS <= took < SILENT_SECONDS + 1 for took in await asyncio.gather(*tries))


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


@pytest.mark.parametrize("keepalive_seconds", [1, 15])
async def test_a_keep_alive_does_not_end_the_wait_for_the_connack(keepalive_seconds: int) -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker, asyncio.timeout(WAIT_SECONDS):
        options = ConnectOptions(
            host="127.0.0.1",
            port=broker.port,
            keepalive_seconds=keepalive_seconds,
            mqtt_version=MQTTVersion.V5,
            timeout_seconds=2.5,
        )
        with pytest.raises(BrokerUnreachableError, match=r"no MQTT answer within 2\.5 s"):
            await open_session(options, lambda _: None)
        assert broker.connection_count == 1


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
        (0.0, 6.5, 3.0),
        (0.001, 6.499, 3.0),
        (1.0, 5.5, 2.25),  # and the same is left after another second to connect
        (0.0, 2.0, 1.0),
        (0.0, 0.5, 0.25),
        (2.0, 4.5, 2.0),  # its answer may take as long as the connection did
        (4.0, 2.5, 3.0),
        (0.0, 60.0, 3.0),
    ],
)
def test_silence_leaves_3_1_1_as_much_time_as_mqtt_5_had(took: float, left: float, seconds: float) -> None:
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


async def test_ten_tries_on_a_silent_broker_leave_no_socket_no_task_and_no_thread() -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker:
        await refusal(broker, seconds=0.1)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        files, threads = open_files(), threading.active_count()
        for _ in range(10):
            await refusal(broker, seconds=0.1)
        await eventually(lambda: open_files() == files)
        await eventually(lambda: threading.active_count() <= threads)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        assert broker.connection_count == 11


@pytest.mark.parametrize("delay_seconds", [0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016])
async def test_a_cancelled_attempt_leaves_no_socket_and_no_thread(delay_seconds: float) -> None:
    async with serving(ScriptedBroker(answers=[None])) as broker:
        files, threads = open_files(), threading.active_count()
        attempt = asyncio.create_task(refusal(broker))
        await asyncio.sleep(delay_seconds)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await eventually(lambda: open_files() == files and threading.active_count() == threads)


async def test_an_attempt_given_up_says_nothing_when_its_tcp_handshake_succeeds_late() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy:
        busy.setblocking(False)
        port = busy.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # fills the queue of the listener
            await refusal(ScriptedBroker(port=port), seconds=0.2)
            (await loop.sock_accept(busy))[0].close()
            async with asyncio.timeout(WAIT_SECONDS):
                late, _ = await loop.sock_accept(busy)
                assert await loop.sock_recv(late, 100) == b""
            late.close()


@pytest.mark.parametrize("tls", [None, TLSOptions(cafile=Path(__file__))], ids=["plain", "TLS"])
async def test_an_attempt_without_room_for_one_more_open_file_may_be_repeated(tls: TLSOptions | None) -> None:
    options = ConnectOptions(host="127.0.0.1", port=free_port(), tls=tls)
    with no_room(), pytest.raises(BrokerUnreachableError, match="cannot connect: too many open files") as caught:
        await open_session(options, lambda _: None)
    assert caught.value.hint
    assert "ulimit -n" in caught.value.hint


async def test_no_broker_at_all_is_unreachable() -> None:
    error = await refusal(ScriptedBroker(port=free_port()))
    assert str(error).endswith("nothing listens there")


@pytest.mark.parametrize(("version", "code"), [("3.1.1", 0x80), ("5", 0x80), ("5", 0x87), ("5", 0x8F)])
async def test_a_refused_filter_is_named_with_its_code(version: str, code: int) -> None:
    async with (
        serving(ScriptedBroker(subacks=[[1, code]])) as broker,
        session_on(broker, version=version) as session,
    ):
        with pytest.raises(SubscriptionRefusedError) as caught:
            await session.subscribe({"a": 1, "secret/#": 1})
    assert caught.value.filters == {"secret/#": code}
    assert f"'secret/#' (SUBACK 0x{code:02x})" in str(caught.value)


async def test_a_granted_qos_below_the_one_asked_for_is_returned() -> None:
    async with serving(ScriptedBroker(subacks=[[0, 1]])) as broker, session_on(broker) as session:
        assert await session.subscribe({"a": 1, "b": 2}) == {"a": 0, "b": 1}


async def test_a_disconnect_instead_of_a_suback_gives_its_reason_at_once() -> None:
    async with serving(ScriptedBroker(subacks=[b"\xe0\x02\x9e\x00"])) as broker, session_on(broker) as session:
        async with asyncio.timeout(2):
            with pytest.raises(ConnectionLostError, match="0x9e, Shared subscription not supported"):
                await session.subscribe({"$share/g/a": 1})


async def test_a_suback_that_never_comes_is_an_error() -> None:
    async with serving(ScriptedBroker(subacks=[None])) as broker, session_on(broker) as session:
        with pytest.raises(ConnectionLostError, match="no answer to SUBSCRIBE"):
            await session.subscribe({"a": 1})


@pytest.mark.parametrize("codes", [[], [1], [1, 1, 1]])
async def test_a_suback_for_another_number_of_filters_is_an_error(codes: list[int]) -> None:
    async with serving(ScriptedBroker(subacks=[codes])) as broker, session_on(broker) as session:
        with pytest.raises(ConnectionLostError, match="codes for 2 filters"):
            await session.subscribe({"a": 1, "b": 1})


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


@pytest.mark.parametrize("topic", [b"bad/\xff", b"a/+", b"#", b"a\0b", b""])
async def test_a_topic_that_mqtt_forbids_is_counted_acknowledged_and_passed_over(
    topic: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    script = publish(topic, qos=1, mid=7) + publish(topic) + publish(b"good", b"1", qos=1, mid=8)
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        assert [m.topic for m in await take(session, 1)] == ["good"]
        await eventually(lambda: broker.acknowledged == [7])
        await asyncio.sleep(0.1)  # a reader that spins would go on counting
        assert session.invalid == 2
        assert session.client is not None
    assert caplog.text.count("message passed over") == 2


async def test_of_long_topics_each_is_examined_and_none_remembered() -> None:
    valid, wrong = b"a" * 129, b"a" * 128 + b"+"
    script = (publish(valid) + publish(wrong)) * 2 + publish(b"b")
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 0})
        assert [message.topic for message in await take(session, 3)] == [valid.decode(), valid.decode(), "b"]
        assert session.invalid == 2
        assert session.inbox._topics == {b"b"}


async def test_what_is_passed_over_is_acknowledged_in_the_order_in_which_it_came() -> None:
    topics = [b"good", b"a/+", b"good", b"#", b"a\0b", b"good"]
    script = b"".join(publish(topic, qos=1, mid=mid) for mid, topic in enumerate(topics, start=1))
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        async for batch in session.batches():
            assert [message.mid for message in batch] == [1, 3, 6]
            await asyncio.sleep(0.05)
            assert broker.acknowledged == []
            session.finish()
        await eventually(lambda: broker.acknowledged == [1, 2, 3, 4, 5, 6])


async def test_what_is_passed_over_behind_a_batch_waits_until_that_is_acknowledged() -> None:
    script = publish(b"good", qos=1, mid=1)
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert [message.mid for message in await anext(batches)] == [1]
        await broker.send(publish(b"a/+", qos=1, mid=2))
        await eventually(lambda: session.invalid == 1)
        assert broker.acknowledged == []
        reading = asyncio.create_task(anext(batches))  # nothing to be yielded comes of it
        await eventually(lambda: broker.acknowledged == [1, 2])
        await broker.send(publish(b"good", qos=1, mid=3))
        assert [message.mid for message in await reading] == [3]
        await batches.aclose()


async def test_of_what_is_passed_over_the_topics_count_too() -> None:
    async with (
        serving(ScriptedBroker(after_suback=publish(b"good"))) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert len(await anext(batches)) == 1
        flooding = asyncio.create_task(broker.send(publish(b"+" * 60_000) * 200))
        await eventually(lambda: is_left_unread(session))
        assert session.invalid * 60_000 < FEW_BYTES + 2 * READ_BYTES
        flooding.cancel()
        await batches.aclose()


async def test_a_flood_that_is_passed_over_does_not_fill_the_memory() -> None:
    flood = publish(b"a/+") * 5_000
    async with (
        serving(ScriptedBroker(after_suback=publish(b"good"))) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert len(await anext(batches)) == 1
        await broker.send(flood)
        await eventually(lambda: is_left_unread(session))
        assert session.held <= FEW_BYTES // MESSAGE_BYTES
        reading = asyncio.create_task(anext(batches))
        await eventually(lambda: session.invalid == 5_000)
        await broker.send(publish(b"good", b"last"))
        assert [message.payload for message in await reading] == [b"last"]
        await batches.aclose()


@pytest.mark.parametrize(
    "data",
    [
        PUBLISH_TOO_SHORT_FOR_ITS_TOPIC,
        LENGTH_OF_FIVE_BYTES,
        packet_of(0x36, b"\x00\x01a\x00\x01\x00"),  # QoS 3
        packet_of(0x00, b""),  # a reserved packet type
        packet_of(0x30, b"\x00\x01a\x02\x99\x00"),  # an unknown property
        packet_of(0x30, b"\x00"),
        packet_of(0x90, b""),
        packet_of(0xE0, b"\x03"),  # an unknown reason code
    ],
)
async def test_a_malformed_packet_ends_the_connection_after_what_came_before_it(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    script = publish(b"good", b"1") + data
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        received: list[Message] = []
        with pytest.raises(ConnectionLostError):
            await collect(session, received)
        assert [message.topic for message in received] == ["good"]
        assert session.client is None
    assert "Traceback" not in caplog.text


async def test_a_flood_in_small_pieces_is_read_in_larger_ones_and_whole(tmp_path: Path) -> None:
    count = 20_000
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    options = ConnectOptions(host="127.0.0.1", port=broker.port, username=USERNAME, password=PASSWORD)
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"a": 0})
        publishing = asyncio.create_task(publish_all(broker, "a", map(str, range(count)), qos=0))
        seen: list[int] = []
        async for batch in session.batches():
            seen += [int(message.payload) for message in batch]
            if len(seen) == count:
                session.finish()
        await publishing
    finally:
        await session.close()
        broker.stop()
    assert seen == list(range(count))


async def test_a_packet_cut_off_by_the_end_of_the_connection_is_dropped() -> None:
    script = publish(b"good") + publish(b"half")[:-2]
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        broker.hang_up()
        received: list[Message] = []
        with pytest.raises(ConnectionLostError, match="the network connection ended"):
            await collect(session, received)
        assert [message.topic for message in received] == ["good"]


async def test_a_puback_due_when_the_connection_ends_leaves_no_writer_behind() -> None:
    script = publish(b"bad/+", qos=1) + b"\xe0\x02\x8b\x00"
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        with pytest.raises(ConnectionLostError, match="0x8b"):
            await take(session, 1)
        await asyncio.sleep(0.02)  # asyncio's complaint would come now


async def test_acknowledgements_that_cannot_be_sent_any_more_leave_no_writer_behind() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        assert session.client is not None
        broker.stop_reading()
        client = session.client
        while client._tap is not None and not client._tap.unsent_bytes:
            session.acknowledge([(0x32, b"a", 1, b"", b"")] * 10_000)
        descriptor = client._tap.fileno() if client._tap else -1
        assert asyncio.get_running_loop().remove_writer(descriptor)  # there was one
        session.acknowledge([(0x32, b"a", 1, b"", b"")])
        client.abort()
        assert not asyncio.get_running_loop().remove_writer(descriptor)


async def test_a_batch_is_acknowledged_in_order_when_the_next_one_is_asked_for() -> None:
    first = b"".join(publish(b"a", qos=1, mid=mid) for mid in (3, 1, 2))
    async with serving(ScriptedBroker(after_suback=first)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches()
        assert [m.mid for m in await anext(batches)] == [3, 1, 2]
        await asyncio.sleep(0.05)
        assert broker.acknowledged == []
        following = asyncio.create_task(anext(batches))
        await eventually(lambda: broker.acknowledged == [3, 1, 2])
        await broker.send(publish(b"a"))
        await following
        await batches.aclose()


async def test_a_reader_that_breaks_off_leaves_its_batch_unacknowledged() -> None:
    async with serving(ScriptedBroker(after_suback=publish(b"a", qos=1, mid=5))) as broker:
        async with session_on(broker) as session:
            await session.subscribe({"#": 1})
            await take(session, 1)
        await broker.wait_for(DISCONNECT)
        assert broker.acknowledged == []


PUBREL_6 = b"\x62\x02\x00\x06"


async def test_qos_2_is_delivered_once_and_answered_after_handling() -> None:
    script = publish(b"a", qos=2, mid=6)
    async with (
        serving(ScriptedBroker(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker) as session,
    ):
        await session.subscribe({"#": 2})
        batches = session.batches()
        assert [(m.qos, m.mid) for m in await anext(batches)] == [(2, 6)]
        await broker.send(publish(b"a", qos=2, mid=6))  # once more, before its PUBREC
        await asyncio.sleep(0.05)
        assert broker.of_kind(PUBREC) == []
        following = asyncio.create_task(anext(batches))
        await broker.wait_for(PUBREC)
        await broker.send(publish(b"a", qos=2, mid=6))  # and once more, as if that had been lost
        await broker.wait_for(PUBREC, 2)
        await broker.send(PUBREL_6)
        await broker.wait_for(PUBCOMP)
        await broker.send(publish(b"a", b"new", qos=2, mid=6))
        assert [m.text for m in await following] == ["new"]
        await batches.aclose()
        assert [packet.body for packet in broker.of_kind(PUBREC)] == 2 * [b"\0\x06"]
        assert [packet.body for packet in broker.of_kind(PUBCOMP)] == [b"\0\x06"]


async def test_a_pubrel_for_nothing_that_is_known_is_completed() -> None:
    async with serving(ScriptedBroker(after_suback=PUBREL_6)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 2})
        await broker.wait_for(PUBCOMP)
        assert session.held == 0


@pytest.mark.parametrize("count", [150, 600])
async def test_a_broker_that_sends_no_pubrel_is_told_so_before_the_memory_fills(count: int) -> None:
    script = b"".join(publish(b"a", bytes(10_000), qos=2, mid=mid) for mid in range(1, count + 1))
    async with (
        serving(ScriptedBroker(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 2})
        received: list[Message] = []
        with pytest.raises(ConnectionLostError, match="messages of QoS 2 without their PUBREL"):
            await collect(session, received)
        await session.close()
        await broker.wait_for(DISCONNECT)
        assert broker.of_kind(DISCONNECT)[0].body == b"\x93"
        assert len(received) >= 104  # a mebibyte


async def test_a_broker_whose_pubrels_come_late_is_not_taken_for_one_that_sends_none() -> None:
    count = 150
    script = b"".join(publish(b"a", bytes(10_000), qos=2, mid=mid) for mid in range(1, count + 1))

    late: list[bytes] = []

    class Late(ScriptedBroker):
        """Answers all PUBRECs together, and a ping behind them."""

        def _answer(self, packet: Packet, writer: asyncio.StreamWriter, *, version: int) -> None:
            if packet.kind == PUBREC:
                late.append(b"\x62\x02" + packet.body)
            elif packet.kind == PINGREQ:
                writer.write(b"".join(late))
            super()._answer(packet, writer, version=version)

    async with (
        serving(Late(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 2})
        received: list[Message] = []
        reading = asyncio.create_task(collect(session, received))
        await eventually(lambda: len(received) == count)
        await broker.wait_for(PINGREQ)
        await asyncio.sleep(0.1)
        assert session.client is not None
        session.finish()
        await reading


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


async def test_who_subscribes_past_the_session_gets_what_that_was_granted() -> None:
    broker = ScriptedBroker(subacks=[[1], [2]])
    async with serving(broker), session_on(broker) as session:
        await session.subscribe({"a": 1})
        assert session.client is not None
        await session.client.subscribe("b", qos=2)
        await broker.send(publish(b"b", qos=2))
        assert [message.qos for message in await take(session, 1)] == [2]


async def test_a_broker_that_sends_and_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plantops_cli.stream.writing.UNSENT_BYTES", 10_000)
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"a": 1})
        broker.stop_reading()
        reading = asyncio.create_task(collect(session, []))
        while not reading.done():
            session.acknowledge([(0x32, b"a", 1, b"", b"")] * 1_000)
            await asyncio.sleep(0)
        with pytest.raises(ConnectionLostError, match="takes no acknowledgements"):
            await reading


# Keep-alive


@pytest.mark.parametrize(("server", "seconds"), [(0, 1), (60, 1), (1, 60)])
async def test_a_silent_broker_is_noticed_by_the_shorter_keep_alive(server: int, seconds: int) -> None:
    class Silent(ScriptedBroker):
        def _answer(self, packet: Packet, writer: asyncio.StreamWriter, *, version: int) -> None:
            if packet.kind != PINGREQ:
                super()._answer(packet, writer, version=version)

    connack = b"\x20\x06\x00\x00\x03\x13" + server.to_bytes(2, "big")
    async with (
        serving(Silent(answers=[connack])) as broker,
        session_on(broker, keepalive_seconds=seconds) as session,
    ):
        await session.subscribe({"a": 1})
        with pytest.raises(ConnectionLostError, match="no answer to keep-alive pings"):
            async with asyncio.timeout(6):
                await collect(session, [])
        assert broker.of_kind(PINGREQ)


async def test_an_event_loop_that_was_held_up_takes_unread_answers_for_a_sign_of_life(
    mosquitto: Mosquitto,
) -> None:
    options = ConnectOptions(
        host="127.0.0.1", port=mosquitto.port, username=USERNAME, password=PASSWORD, keepalive_seconds=1
    )
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"a": 1})
        assert session.client is not None
        for _ in range(4):
            await asyncio.sleep(1.05)  # a ping is on its way
            time.sleep(1.3)  # less than after what the broker gives us up
        assert session.client is not None
    finally:
        await session.close()


async def test_retain_dup_and_properties_arrive_by_mosquittos_names() -> None:
    properties = b"\x03\x00\x04text" + b"\x26\x00\x01k\x00\x01v" + b"\x02\x00\x00\x00\x09"
    packet = packet_of(0x3B, b"\x00\x01a\x00\x05" + bytes([len(properties)]) + properties + b"{}")
    async with serving(ScriptedBroker(after_suback=packet)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        (message,) = await take(session, 1)
    assert (message.retain, message.dup, message.mid) == (True, True, 5)
    assert message.properties == {
        "content-type": "text",
        "user-properties": [["k", "v"]],
        "message-expiry-interval": 9,
    }


async def test_a_flood_that_nobody_takes_stops_the_reading_and_arrives_complete_in_the_end() -> None:
    count = 50_000
    flood = b"".join(publish(b"devices/a/telemetry", b"%d" % number) for number in range(count))
    async with (
        serving(ScriptedBroker(after_suback=flood)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES) as session,
    ):
        await session.subscribe({"#": 0})
        await eventually(lambda: is_left_unread(session))
        held = session.held
        await asyncio.sleep(0.05)
        assert session.held == held <= FEW_BYTES // MESSAGE_BYTES
        received = await take(session, count)
    assert [int(message.payload) for message in received] == list(range(count))


async def test_what_came_before_the_end_of_a_connection_is_read_however_long_it_had_to_wait() -> None:
    count = 160  # a few more than are read, so few that they have come
    flood = b"".join(publish(b"a", b"%0900d" % number) for number in range(count))
    async with (
        serving(ScriptedBroker(after_suback=flood)) as broker,
        session_on(broker, max_pending_bytes=FEW_BYTES, keepalive_seconds=1) as session,
    ):
        await session.subscribe({"#": 1})
        await eventually(lambda: is_left_unread(session))
        broker.hang_up()
        await asyncio.sleep(3.5)  # in which pings would go out, and be answered by a reset
        received: list[Message] = []
        with pytest.raises(ConnectionLostError):
            await collect(session, received)
        assert len(received) == count


async def test_large_payloads_stop_the_reading_by_their_bytes() -> None:
    count, payload = 8, bytes(5 * MIB)
    script = publish(b"a", payload) * count
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 0})
        await eventually(lambda: session.held == 3)
        await asyncio.sleep(0.05)
        assert session.held == 3  # and of the fourth one no more than there was room for
        assert session.client is not None
        assert session.client._tap is not None
        assert 15 * MIB + session.client._tap.partial_bytes <= MAX_PENDING_BYTES + READ_BYTES
        assert [len(message.payload) for message in await take(session, count)] == [len(payload)] * count


async def test_qos_1_of_a_slow_reader_waits_in_the_broker_and_arrives_once_in_order(tmp_path: Path) -> None:
    count = 3_000
    broker = Mosquitto(tmp_path, extra="max_inflight_messages 0\nmax_queued_messages 0")
    broker.start()
    options = ConnectOptions(
        host="127.0.0.1",
        port=broker.port,
        username=USERNAME,
        password=PASSWORD,
        max_pending_bytes=FEW_BYTES,
    )
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"a": 1})
        await publish_all(broker, "a", map(str, range(count)))
        await eventually(lambda: is_left_unread(session))
        assert session.held <= FEW_BYTES // MESSAGE_BYTES
        assert [int(message.payload) for message in await take(session, count)] == list(range(count))
    finally:
        await session.close()
        broker.stop()


async def test_a_close_is_bounded_when_the_broker_reads_nothing() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session, asyncio.timeout(3):
        broker.stop_reading()
        assert session.client is not None
        publishing = asyncio.create_task(session.client.publish("a", bytes(32 * 1024 * 1024)))
        await asyncio.sleep(0.05)
        await session.close()
        assert session.client is None
        publishing.cancel()


async def test_a_batch_may_hold_many_messages() -> None:
    script = b"".join(publish(b"a", b"%d" % number) for number in range(500))
    async with serving(ScriptedBroker(after_suback=script)) as broker, session_on(broker) as session:
        await session.subscribe({"#": 0})
        await eventually(lambda: session.held == 500)
        async for batch in session.batches():
            assert len(batch) == 500
            session.finish()


def test_a_random_client_id_fits_every_broker_and_differs_each_time() -> None:
    assert len(random_client_id()) <= 23
    assert random_client_id() != random_client_id()


def test_the_password_does_not_show_in_the_options() -> None:
    assert SECRET not in repr(ConnectOptions(host="h", username="alice", password=SECRET))


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


def test_an_unchecked_certificate_is_a_danger() -> None:
    (danger,) = ConnectOptions(host="h", password=SECRET, tls=TLSOptions(insecure=True)).dangers
    assert "not checked" in danger


@pytest.mark.parametrize("code", [0x00, 0x10, 0x87, 0x97])
async def test_publishing_at_qos_1_returns_the_reason_code_of_the_puback(code: int) -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        publishing = asyncio.create_task(session.publish("a", b"1", qos=1, retain=False))
        await broker.wait_for(PUBLISH)
        mid = broker.of_kind(PUBLISH)[0].body[3:5]
        await broker.send(b"\x40\x03" + mid + bytes([code]))
        assert await publishing == code


async def test_two_messages_on_their_way_get_a_code_each() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        publishing = [asyncio.create_task(session.publish("a", b"", qos=1, retain=False)) for _ in range(2)]
        await broker.wait_for(PUBLISH, 2)
        first, second = (packet.body[3:5] for packet in broker.of_kind(PUBLISH))
        await broker.send(b"\x40\x03" + second + b"\x87" + b"\x40\x03" + first + b"\x10")
        assert await asyncio.gather(*publishing) == [0x10, 0x87]


@pytest.mark.parametrize(("version", "qos"), [("5", 0), ("3.1.1", 0), ("3.1.1", 1), ("5", 2)])
async def test_publishing_returns_0_where_the_broker_says_no_more(
    mosquitto: Mosquitto, version: str, qos: int
) -> None:
    options = ConnectOptions(
        host="127.0.0.1",
        port=mosquitto.port,
        username=USERNAME,
        password=PASSWORD,
        mqtt_version=MQTTVersion(version),
    )
    session = await open_session(options, lambda status: None)
    try:
        assert await session.publish("a/b", b"1", qos=qos, retain=False) == 0
    finally:
        await session.close()


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


async def test_a_unix_socket_carries_a_session() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = f"{name}/s"
        broker = ScriptedBroker()
        serving_tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving_tasks.add(asyncio.create_task(broker.serve(reader, writer)))

        server = await asyncio.start_unix_server(accept, path)
        session = await open_session(ConnectOptions(host="nowhere.invalid", unix_socket=path), lambda status: None)
        assert await session.subscribe({"a": 1}) == {"a": 1}
        await session.close()
        await broker.wait_for(DISCONNECT)
        server.close()
        await asyncio.gather(*serving_tasks)


@pytest.mark.parametrize("name", ["missing", "a-file", "x" * 200])
async def test_a_unix_socket_that_is_none_is_unreachable_and_left_closed(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").touch()
    options = ConnectOptions(host="h", unix_socket=str(tmp_path / name))
    files = open_files()
    with pytest.raises(BrokerUnreachableError, match=r"cannot connect|nothing listens"):
        await open_session(options, lambda status: None)
    await eventually(lambda: open_files() == files)


def test_a_unix_socket_is_its_own_endpoint_and_no_danger() -> None:
    options = ConnectOptions(host="10.0.0.1", username="u", password=SECRET, unix_socket="/run/mosquitto.sock")
    assert options.endpoint == "/run/mosquitto.sock"
    assert options.dangers == []


async def read_all(batches: AsyncIterator[Batch], yielded: list[Batch]) -> None:
    yielded.extend([batch async for batch in batches])


async def test_a_few_messages_are_offered_in_the_turn_in_which_they_are_read() -> None:
    offered: list[int] = []

    def at_once(batch: Batch) -> bool:
        offered.extend(message.mid for message in batch)
        return True

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        yielded: list[Batch] = []
        reading = asyncio.create_task(read_all(session.batches(at_once), yielded))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=7))
        await eventually(lambda: broker.acknowledged == [7])
        await broker.send(publish(b"a", qos=1, mid=8))
        await eventually(lambda: broker.acknowledged == [7, 8])
        assert offered == [7, 8]
        assert session.held == 0
        session.finish()
        await reading
        assert yielded == []


async def test_qos_2_is_not_offered_at_once_but_yielded_together() -> None:
    offered: list[Batch] = []

    def at_once(batch: Batch) -> bool:
        offered.append(batch)
        return True

    mids = range(1, 4)
    async with serving(ScriptedBroker(subacks=[[2]])) as broker, session_on(broker) as session:
        await session.subscribe({"#": 2})
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        await broker.send(b"".join(publish(b"a", qos=2, mid=mid) for mid in mids))
        assert [(message.qos, message.mid) for message in await reading] == [(2, mid) for mid in mids]
        assert offered == []
        await batches.aclose()


async def test_messages_of_all_qos_come_in_the_order_in_which_they_were_sent() -> None:
    script = b"".join(publish(b"a", b"%d" % number, qos=number % 3, mid=number + 1) for number in range(30))
    async with (
        serving(ScriptedBroker(subacks=[[2]], after_suback=script)) as broker,
        session_on(broker) as session,
    ):
        await session.subscribe({"#": 2})
        assert [int(message.payload) for message in await take(session, 30)] == list(range(30))


async def test_nothing_is_offered_at_once_while_something_waits() -> None:
    offered: list[int] = []

    def at_once(batch: Batch) -> bool:
        offered.extend(message.mid for message in batch)
        return len(offered) > 1  # so that the second one would overtake the first one

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        for mid in (1, 2):
            session._delivery.take([(0x32, b"a", mid, b"", b"")], 8)
        assert [message.mid for message in await reading] == [1, 2]
        assert offered == [1]
        await batches.aclose()


async def test_what_comes_before_a_malformed_packet_is_handled_at_once_and_acknowledged() -> None:
    offered: list[int] = []

    def at_once(batch: Batch) -> bool:
        offered.extend(message.mid for message in batch)
        return True

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        reading = asyncio.create_task(read_all(session.batches(at_once), []))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=3) + packet_of(0x30, b"\x00\x01a\x02\x99\x00"))
        with pytest.raises(ConnectionLostError, match="malformed packet"):
            await reading
        assert offered == [3]
        await eventually(lambda: broker.acknowledged == [3])


async def test_what_is_refused_at_once_is_yielded_and_nothing_overtakes_it() -> None:
    offered: list[list[int]] = []

    def at_once(batch: Batch) -> bool:
        offered.append([message.mid for message in batch])
        return False

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=1))
        assert [message.mid for message in await reading] == [1]
        await broker.send(publish(b"a", qos=1, mid=2))
        await eventually(lambda: session.held == 1)
        assert offered == [[1]]  # a batch is being handled: the second one waits
        assert broker.acknowledged == []
        assert [message.mid for message in await anext(batches)] == [2]
        await eventually(lambda: broker.acknowledged == [1])
        await batches.aclose()


@pytest.mark.parametrize(("count", "size"), [(9, 1), (1, 3_000)])
async def test_many_messages_or_long_ones_are_not_offered_at_once(count: int, size: int) -> None:
    offered: list[Batch] = []

    def at_once(batch: Batch) -> bool:
        offered.append(batch)
        return True

    packets = b"".join(publish(b"a", b"x" * size, qos=1, mid=mid + 1) for mid in range(count))
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        batches = session.batches(at_once)
        reading = asyncio.create_task(anext(batches))
        await asyncio.sleep(0)
        await broker.send(packets)
        assert len(await reading) == count
        assert offered == []
        await batches.aclose()


async def test_what_is_raised_at_once_reaches_the_reader_and_acknowledges_nothing() -> None:
    def at_once(batch: Batch) -> bool:
        raise LookupError(f"{len(batch)} too many")

    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await session.subscribe({"#": 1})
        reading = asyncio.create_task(anext(session.batches(at_once)))
        await asyncio.sleep(0)
        await broker.send(publish(b"a", qos=1, mid=4))
        with pytest.raises(LookupError, match="1 too many"):
            await reading
        assert broker.acknowledged == []


# WebSocket


async def test_a_websocket_handshake_without_end_leaves_no_thread_and_no_socket() -> None:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except OSError:
            ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        options = ConnectOptions(
            host="127.0.0.1",
            port=server.sockets[0].getsockname()[1],
            websocket_path="/mqtt",
            timeout_seconds=0.5,
        )
        with pytest.raises(BrokerUnreachableError, match="no MQTT answer"):
            await open_session(options, lambda status: None)
        async with asyncio.timeout(WAIT_SECONDS):
            await ended.wait()
        await eventually(
            lambda: not [thread for thread in threading.enumerate() if thread.name == "plantops-blocking"]
        )


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\n\r\n", b""])
async def test_a_websocket_that_is_refused_closes_its_socket(answer: bytes) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    before = open_files()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        options = ConnectOptions(host="127.0.0.1", port=server.sockets[0].getsockname()[1], websocket_path="/mqtt")
        with pytest.raises(BrokerError):
            await open_session(options, lambda status: None)
    gc.collect()  # which would warn of a socket that nobody closed
    await eventually(lambda: open_files() <= before)


async def test_a_websocket_frame_without_end_ends_the_connection() -> None:
    frame = b"\x82\x7f" + (1 << 40).to_bytes(8, "big")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = re.findall(rb"(?i)sec-websocket-key: (\S+)", request)[0]
        accepted = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
        )
        await reader.readexactly(20)
        writer.write(b"\x82\x05" + b"\x20\x03\0\0\0" + frame)
        with contextlib.suppress(OSError):
            while True:
                writer.write(publish(b"a", bytes(1_000)) * 64)
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = ConnectOptions(host="127.0.0.1", port=port, websocket_path="/mqtt", mqtt_version=MQTTVersion.V5)
        session = await open_session(options, lambda status: None)
        try:
            with pytest.raises(ConnectionLostError, match="a WebSocket frame of more than"):
                await asyncio.wait_for(collect(session, []), WAIT_SECONDS)
        finally:
            await session.close()
