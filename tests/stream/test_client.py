"""The boundary with aiomqtt and paho: what they do for a session, and what becomes of their errors."""

import asyncio
import logging
import time

import aiomqtt
import pytest
from paho.mqtt import client as paho

from plantops_cli.errors import (
    BrokerUnreachableError,
    ConfigError,
    ConnectionLostError,
    CredentialsRefusedError,
    PublishRefusedError,
    SubscriptionRefusedError,
)
from plantops_cli.messages import Message, QoS
from plantops_cli.stream.client import PRIVATE_NAMES
from plantops_cli.stream.hearing import LATE_SECONDS
from plantops_cli.stream.options import ConnectOptions, MQTTVersion
from plantops_cli.stream.session import Session, open_session
from plantops_cli.stream.words import words_with
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.scripted_broker import (
    DISCONNECT,
    PINGREQ,
    PUBREL,
    SUBSCRIBE,
    Packet,
    ScriptedBroker,
    connack,
    disconnect,
    filters_of,
    packet_of,
    properties_of,
    publish,
    serving,
    suback,
    with_length,
)
from tests.support.subscribing import SECRET, WAIT_SECONDS, collect, refusal, session_on, take

PUBLISH_TOO_SHORT_FOR_ITS_TOPIC = b"\x30\x03\x00\x10a"
PUBLISH = 0x30
LENGTH_OF_FIVE_BYTES = b"\x30\xff\xff\xff\xff\x7f"


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


@pytest.mark.parametrize(("version", "code"), [("5", 0x88), ("5", 0x89), ("5", 0x97), ("3.1.1", 3)])
async def test_a_busy_broker_may_be_tried_again(version: str, code: int) -> None:
    async with serving(ScriptedBroker(answers=[code])) as broker:
        assert isinstance(await refusal(broker, version=version), BrokerUnreachableError)


async def test_a_disconnect_instead_of_a_connack_is_told_with_what_it_says() -> None:
    answer = disconnect(0x87, ReasonString="not from there")
    async with serving(ScriptedBroker(answers=[answer])) as broker:
        error = await refusal(broker, version="auto")
        assert broker.connection_count == 1
    assert isinstance(error, CredentialsRefusedError)
    assert "(DISCONNECT 0x87, Not authorized): 'not from there'" in str(error)


async def test_a_disconnect_that_may_be_about_the_version_lets_another_one_be_tried() -> None:
    async with serving(ScriptedBroker(answers=[disconnect(0x82), 0])) as broker:
        session = await open_session(ConnectOptions(host="127.0.0.1", port=broker.port))
        assert session.options.mqtt_version is MQTTVersion.V311
        await session.close()


async def test_a_connack_that_is_none_is_not_taken_for_a_closed_connection() -> None:
    async with serving(ScriptedBroker(answers=[b"\x20\x03\x00\x55\x00"])) as broker:
        error = await refusal(broker, version="5")
    assert "the broker sent a malformed packet before any MQTT answer" in str(error)


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


async def test_a_disconnect_instead_of_a_suback_gives_its_reason_at_once() -> None:
    async with serving(ScriptedBroker(subacks=[b"\xe0\x02\x97\x00"])) as broker, session_on(broker) as session:
        async with asyncio.timeout(2):
            with pytest.raises(ConnectionLostError, match="0x97, Quota exceeded"):
                await session.subscribe({"$share/g/a": 1})


async def test_a_disconnect_over_what_was_subscribed_is_a_refusal_of_it() -> None:
    async with serving(ScriptedBroker(subacks=[b"\xe0\x02\x9e\x00"])) as broker, session_on(broker) as session:
        with pytest.raises(SubscriptionRefusedError, match="0x9e, Shared subscription not supported") as caught:
            await session.subscribe({"$share/g/a": 1})
    assert caught.value.filters == {"$share/g/a": 0x9E}
    assert "no shared subscriptions" in str(caught.value.hint)


async def test_a_suback_that_never_comes_is_an_error() -> None:
    async with serving(ScriptedBroker(subacks=[None])) as broker, session_on(broker) as session:
        with pytest.raises(ConnectionLostError, match=r"no answer to SUBSCRIBE within 0\.5 s"):
            await session.subscribe({"a": 1}, timeout_seconds=0.5)


async def test_answers_to_pings_do_not_put_off_the_end_of_the_wait_for_a_suback() -> None:
    async with serving(ScriptedBroker(subacks=[None])) as broker, session_on(broker) as session:
        asking = asyncio.create_task(session.subscribe({"a": 1}, timeout_seconds=0.5))
        pinging = asyncio.create_task(ping_without_end(session))
        with pytest.raises(ConnectionLostError, match=r"no answer to SUBSCRIBE within 0\.5 s"):
            async with asyncio.timeout(WAIT_SECONDS):
                await asking
        pinging.cancel()
        assert len(broker.of_kind(PINGREQ)) > 1


async def ping_without_end(session: Session) -> None:
    while session.client:
        session.client.ask(lambda: None)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("codes", [[], [1], [1, 1, 1]])
async def test_a_suback_for_another_number_of_filters_is_an_error(codes: list[int]) -> None:
    async with serving(ScriptedBroker(subacks=[codes])) as broker, session_on(broker) as session:
        with pytest.raises(ConnectionLostError, match="codes for 2 filters"):
            await session.subscribe({"a": 1, "b": 1})


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


async def test_who_subscribes_past_the_session_gets_what_that_was_granted() -> None:
    broker = ScriptedBroker(subacks=[[1], [2]])
    async with serving(broker), session_on(broker) as session:
        await session.subscribe({"a": 1})
        assert session.client is not None
        await session.client.subscribe("b", qos=2)
        await broker.send(publish(b"b", qos=2))
        assert [message.qos for message in await take(session, 1)] == [2]


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
        host="127.0.0.1", port=mosquitto.port, username=USERNAME, password=PASSWORD, keepalive_seconds=2
    )
    session = await open_session(options, lambda status: None)
    try:
        await session.subscribe({"a": 1})
        assert session.client is not None
        for _ in range(2):
            await asyncio.sleep(2.05)  # a ping is on its way
            time.sleep(2.4)  # the answer is late for us, and the broker gives us up after 3 s only
        assert session.client is not None
    finally:
        await session.close()


async def test_a_close_is_bounded_when_the_broker_reads_nothing() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session, asyncio.timeout(3):
        broker.stop_reading()
        assert session.client is not None
        publishing = asyncio.create_task(session.client.publish("a", bytes(32 * 1024 * 1024)))
        await asyncio.sleep(0.05)
        await session.close()
        assert session.client is None
        publishing.cancel()


@pytest.mark.parametrize("code", [0x00, 0x10, 0x87, 0x97])
async def test_publishing_at_qos_1_returns_the_reason_code_of_the_puback(code: int) -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        publishing = asyncio.create_task(session.publish("a", b"1", qos=1, retain=False))
        await broker.wait_for(PUBLISH)
        mid = broker.of_kind(PUBLISH)[0].body[3:5]
        await broker.send(b"\x40\x03" + mid + bytes([code]))
        assert await publishing == code


@pytest.mark.parametrize("code", [0x80, 0x87, 0x95])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refusal_is_the_end_of_a_message_for_aiomqtt_too(code: int, qos: int) -> None:
    async with serving(ScriptedBroker(pubacks=[code])) as broker, session_on(broker) as session:
        assert session.client is not None
        await session.client.publish("a", b"1", qos=qos)
        assert not broker.of_kind(PUBREL)
        assert session.ended is None


async def test_two_messages_on_their_way_get_a_code_each() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        publishing = [asyncio.create_task(session.publish("a", b"", qos=1, retain=False)) for _ in range(2)]
        await broker.wait_for(PUBLISH, 2)
        first, second = (packet.body[3:5] for packet in broker.of_kind(PUBLISH))
        await broker.send(b"\x40\x03" + second + b"\x87" + b"\x40\x03" + first + b"\x10")
        assert await asyncio.gather(*publishing) == [0x10, 0x87]


@pytest.mark.parametrize(("version", "qos"), [("5", 0), ("3.1.1", 0), ("3.1.1", 1), ("5", 2)])
async def test_publishing_returns_0_where_the_broker_says_no_more(
    mosquitto: Mosquitto, version: str, qos: QoS
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


async def test_who_was_stopped_asks_at_once_whether_the_broker_is_still_there() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker, keepalive_seconds=600) as session:
        await session.subscribe({"#": 0})
        assert not broker.of_kind(PINGREQ)
        time.sleep(LATE_SECONDS + 0.5)  # nothing is to go on
        await broker.wait_for(PINGREQ)


# What the broker says


async def test_what_a_connack_says_is_handed_on_without_the_password() -> None:
    said = properties_of(ReasonString=f"{SECRET} is wrong", ServerReference=f"mqtt://alice:{SECRET}@b.example")
    for code in (0x87, 0x9D):
        broker = ScriptedBroker(answers=[connack(code, version=5, properties=said)])
        async with serving(broker):
            error = await refusal(broker)
        assert error.reason_string == "... is wrong"
        assert error.server_reference == "mqtt://b.example"
        assert "'... is wrong'; the server to use is 'mqtt://b.example'" in str(error)
        assert SECRET not in f"{error!r}{error.hint}"


async def test_what_a_suback_says_is_handed_on() -> None:
    said = b"\x00\x01" + with_length(properties_of(ReasonString="eight at most")) + b"\x01\x97"
    async with serving(ScriptedBroker(subacks=[packet_of(0x90, said)])) as broker, session_on(broker) as session:
        with pytest.raises(SubscriptionRefusedError, match=r"Quota exceeded\): 'eight at most'") as caught:
            await session.subscribe({"a": 1, "b": 1})
    assert caught.value.reason_string == "eight at most"
    assert caught.value.filters == {"b": 0x97}


async def test_what_a_disconnect_says_is_handed_on() -> None:
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        await broker.send(disconnect(0x9C, ReasonString="full", ServerReference="b.example:1884"))
        with pytest.raises(ConnectionLostError, match="Use another server: 'full'") as caught:
            await collect(session, [])
    assert (caught.value.reason_string, caught.value.server_reference) == ("full", "b.example:1884")


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_the_refusal_of_a_message_says_is_handed_on(qos: QoS) -> None:
    said = with_length(properties_of(ReasonString="one a minute"))
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        publishing = asyncio.create_task(session.publish("a", b"1", qos=qos, retain=False))
        await broker.wait_for(PUBLISH)
        await broker.send(packet_of(0x40 if qos == 1 else 0x50, b"\x00\x01\x97" + said))
        code = await publishing
    assert code == 0x97
    assert words_with(code).reason == "one a minute"


# What a CONNACK allows


def broker_that_grants(**granted: int) -> ScriptedBroker:
    return ScriptedBroker(answers=[connack(0, version=5, properties=properties_of(**granted))])


async def test_many_filters_are_asked_for_in_packets_of_eight_and_each_answer_counts() -> None:
    filters = {f"a/{number}": 1 for number in range(20)}
    async with serving(ScriptedBroker()) as broker, session_on(broker) as session:
        assert await session.subscribe(filters) == filters
    asked = [filters_of(packet.body) for packet in broker.of_kind(SUBSCRIBE)]
    assert [len(each) for each in asked] == [8, 8, 4]
    assert {name for each in asked for name, _ in each} == set(filters)


@pytest.mark.parametrize("turn", [0, 1, 2])
async def test_a_refusal_in_any_of_several_answers_counts(turn: int) -> None:
    codes = [[1] * 8, [1] * 8, [1] * 4]
    codes[turn][3] = 0x87
    filters = {f"a/{number}": 1 for number in range(20)}
    async with serving(ScriptedBroker(subacks=codes)) as broker, session_on(broker) as session:
        with pytest.raises(SubscriptionRefusedError) as caught:
            await session.subscribe(filters)
    assert caught.value.filters == {f"a/{8 * turn + 3}": 0x87}


async def test_answers_that_come_in_another_order_are_told_apart() -> None:
    filters = {f"a/{number}": 1 for number in range(9)}
    async with serving(ScriptedBroker(subacks=[None])) as broker, session_on(broker) as session:
        subscribing = asyncio.create_task(session.subscribe(filters))
        await broker.wait_for(SUBSCRIBE, 2)
        first, second = (packet.body for packet in broker.of_kind(SUBSCRIBE))
        await broker.send(suback(second, [0], version=5) + suback(first, [1] * 8, version=5))
        assert await subscribing == {**filters, "a/8": 0}


async def test_no_packet_is_longer_than_the_broker_takes() -> None:
    filters = {f"devices/{number:020}/telemetry": 1 for number in range(20)}
    async with serving(broker_that_grants(MaximumPacketSize=100)) as broker, session_on(broker) as session:
        assert await session.subscribe(filters) == filters
        with pytest.raises(PublishRefusedError, match="100 at most"):
            await session.publish("a", b"x" * 100, qos=0, retain=False)
    asked = [len(packet.body) + 2 for packet in broker.of_kind(SUBSCRIBE)]
    assert max(asked) <= 100
    assert broker.of_kind(PUBLISH) == []


@pytest.mark.parametrize(
    ("granted", "name", "code"),
    [
        ({"WildcardSubscriptionAvailable": 0}, "a/+", 0xA2),
        ({"WildcardSubscriptionAvailable": 0}, "#", 0xA2),
        ({"SharedSubscriptionAvailable": 0}, "$share/g/a", 0x9E),
        ({"MaximumPacketSize": 50}, "a" * 50, 0x95),
    ],
)
async def test_what_the_broker_has_said_that_it_lacks_is_not_asked_for(
    granted: dict[str, int], name: str, code: int
) -> None:
    async with serving(broker_that_grants(**granted)) as broker, session_on(broker) as session:
        with pytest.raises(SubscriptionRefusedError) as caught:
            await session.subscribe({"b": 1, name: 1})
    assert caught.value.filters == {name: code}
    assert broker.of_kind(SUBSCRIBE) == []


async def test_no_higher_qos_is_asked_for_or_sent_than_the_broker_takes() -> None:
    async with serving(broker_that_grants(MaximumQoS=0)) as broker, session_on(broker) as session:
        await session.subscribe({"a": 2, "b": 0})
        with pytest.raises(PublishRefusedError, match="QoS 1, where the broker takes 0 at most"):
            await session.publish("a", b"1", qos=1, retain=False)
    assert filters_of(broker.of_kind(SUBSCRIBE)[0].body) == [("a", 0), ("b", 0)]
    assert broker.of_kind(PUBLISH) == []


async def test_no_more_messages_are_on_their_way_than_the_broker_takes() -> None:
    async with serving(broker_that_grants(ReceiveMaximum=2)) as broker, session_on(broker) as session:
        sending = [asyncio.create_task(session.publish("a", b"1", qos=1, retain=False)) for _ in range(5)]
        await broker.wait_for(PUBLISH, 2)
        for acknowledged in range(5):
            await asyncio.sleep(0.05)  # for one that comes too early to show
            assert len(broker.of_kind(PUBLISH)) == min(5, 2 + acknowledged)
            await broker.send(packet_of(0x40, broker.of_kind(PUBLISH)[acknowledged].body[3:5]))
            await broker.wait_for(PUBLISH, min(5, 3 + acknowledged))
        assert await asyncio.gather(*sending) == [0] * 5


async def test_a_shorter_keep_alive_of_the_broker_is_kept() -> None:
    async with serving(broker_that_grants(ServerKeepAlive=1)) as broker, session_on(broker):
        await broker.wait_for(PINGREQ)
