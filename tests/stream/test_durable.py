"""Sessions that survive, groups that share, and messages that are kept because a handler failed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import ConfigError, SessionTakenOverError
from plantops_cli.messages import Message
from plantops_cli.stream.backoff import Backoff
from plantops_cli.stream.reconnection import Reconnection
from plantops_cli.stream.status import Connected, Paused, SessionBegun, SessionLost, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import Mosquitto, free_port
from tests.support.scripted_broker import (
    CONNECT,
    DISCONNECT,
    SUBSCRIBE,
    ScriptedBroker,
    packet_of,
    publish,
    serving,
)
from tests.support.subscribing import eventually, publish_all, subscribing, take

RESUMED = b"\x20\x03\x01\x00\x00"  # a CONNACK with session present
RETAINED = packet_of(0x31, b"\x00\x13devices/a/telemetry\x00{}")
TAKEN_OVER = b"\xe0\x02\x8e\x00"
WANTED = "devices/+/telemetry"
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Mosquitto]:
    """A Mosquitto that keeps any number of messages for those who are away."""
    broker = Mosquitto(tmp_path, extra="max_queued_messages 0")
    broker.start()
    yield broker
    broker.stop()


@contextlib.asynccontextmanager
async def listening(broker: Mosquitto, heard: list[str], **options: object) -> AsyncIterator[MQTTSubscriber]:
    async with subscribing(broker, **options) as subscriber:
        subscriber.register_handler(WANTED, lambda message: heard.append(message.text))
        await subscriber.connect()
        await subscriber.start()
        yield subscriber


@VERSIONS
async def test_what_is_published_while_a_durable_listener_is_away_waits_for_it(
    keeping: Mosquitto, version: str
) -> None:
    heard: list[str] = []
    async with listening(keeping, heard, durable="one", mqtt_version=version):
        await publish_all(keeping, "devices/a/telemetry", ["before"])
        await eventually(lambda: heard == ["before"])
    away = [str(number) for number in range(3_000)]  # more than is held at once
    await publish_all(keeping, "devices/a/telemetry", away)
    async with listening(keeping, heard, durable="one", mqtt_version=version) as subscriber:
        await eventually(lambda: len(heard) == 1 + len(away))
        assert heard == ["before", *away]
        assert subscriber.health.lost_sessions == 0


async def test_without_durable_nothing_waits(keeping: Mosquitto) -> None:
    heard: list[str] = []
    async with listening(keeping, heard, client_id="one"):
        pass
    await publish_all(keeping, "devices/a/telemetry", ["away"])
    async with listening(keeping, heard, client_id="one"):
        await publish_all(keeping, "devices/a/telemetry", ["here"])
        await eventually(lambda: heard)
    assert heard == ["here"]


async def test_what_was_not_done_when_the_listener_went_comes_again_marked_dup(keeping: Mosquitto) -> None:
    async with subscribing(keeping, durable="one") as subscriber:
        await subscriber.connect()
        await subscriber.subscribe(WANTED)
        await publish_all(keeping, "devices/a/telemetry", ["1", "2"])
        first = await take(subscriber, 2)  # breaks off without an acknowledgement
    assert [(message.text, message.dup) for message in first] == [("1", False), ("2", False)]
    async with subscribing(keeping, durable="one") as subscriber:
        again = await take(subscriber, 2)
    assert [(message.text, message.dup) for message in again] == [("1", True), ("2", True)]


async def test_the_connect_packet_asks_for_what_was_promised() -> None:
    async with serving(ScriptedBroker()) as broker:
        options = {"durable": "shed", "session_expiry_seconds": 3_600, "max_packet_bytes": 100_000}
        async with subscribing(broker, **options) as subscriber:
            await subscriber.connect()
        body = broker.of_kind(CONNECT)[0].body
    assert not body[7] & 0x02  # clean start
    assert b"\x11" + (3_600).to_bytes(4, "big") in body
    assert b"\x21" + (500).to_bytes(2, "big") in body
    assert b"\x27" + (100_000).to_bytes(4, "big") in body
    assert b"plantops-shed" in body


async def test_a_broker_is_asked_to_keep_a_durable_session_for_a_day_and_no_other_at_all() -> None:
    async with serving(ScriptedBroker()) as broker:
        for durable in ("shed", None):
            async with subscribing(broker, durable=durable) as subscriber:
                await subscriber.connect()
        kept, not_kept = [packet.body for packet in broker.of_kind(CONNECT)]
    expiry = b"\x11" + (86_400).to_bytes(4, "big")
    assert expiry in kept
    assert expiry not in not_kept
    assert not_kept[7] & 0x02  # clean start
    assert b"\x21" + (65_535).to_bytes(2, "big") in not_kept


async def test_a_durable_session_may_hold_a_filter_of_qos_0_if_it_is_asked_for() -> None:
    async with serving(ScriptedBroker()) as broker, subscribing(broker, durable="one") as subscriber:
        await subscriber.subscribe("a", qos=0)
        await subscriber.connect()
        assert broker.of_kind(SUBSCRIBE)[0].body.endswith(b"\x00\x01a\x00")


async def test_a_session_that_the_broker_has_forgotten_is_told_and_counted() -> None:
    said: list[Status] = []
    async with (
        serving(ScriptedBroker(answers=[0, RESUMED, 0])) as broker,
        subscribing(broker, durable="one", on_status=said.append) as subscriber,
    ):
        await subscriber.start()
        await eventually(lambda: subscriber.health.connection_count == 1)
        broker.hang_up()
        await eventually(lambda: subscriber.health.connection_count == 2)
        broker.hang_up()
        await eventually(lambda: subscriber.health.connection_count == 3)
        assert subscriber.health.lost_sessions == 1
        assert [outage.is_bridged for outage in subscriber.health.outages] == [True, False]
    assert [type(status) for status in said].count(SessionLost) == 1


NOT_KEPT = "nothing of QoS 0 is kept while this listener is away"


async def test_the_first_live_message_of_qos_0_in_a_durable_session_is_warned_of_and_no_other(
    keeping: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    async with listening(keeping, heard, durable="one"):
        await publish_all(keeping, "devices/a/telemetry", ["1"], qos=1)
        await eventually(lambda: len(heard) == 1)
        assert NOT_KEPT not in caplog.text
        for count in (2, 3):
            await publish_all(keeping, "devices/a/telemetry", ["0"], qos=0)
            await eventually(lambda count=count: len(heard) == count)  # type: ignore[misc]  # bound early
    assert caplog.text.count(f"a message of 'devices/a/telemetry' came at QoS 0: {NOT_KEPT}") == 1
    assert caplog.text.count(NOT_KEPT) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"durable": "one"}, RETAINED), ({}, publish(b"devices/a/telemetry"))],
    ids=["retained", "not durable"],
)
async def test_other_messages_of_qos_0_are_not_warned_of(
    options: dict[str, object], message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(ScriptedBroker(after_suback=message)) as broker,
        subscribing(broker, **options) as subscriber,
    ):
        subscriber.register_handler(WANTED, print)
        await subscriber.start()
        await eventually(lambda: subscriber.health.received)
    assert NOT_KEPT not in caplog.text


async def test_a_durable_filter_to_which_qos_0_is_granted_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        serving(ScriptedBroker(subacks=[[1], [0]])) as broker,
        subscribing(broker, durable="one") as subscriber,
    ):
        await subscriber.subscribe("a")
        await subscriber.connect()
        assert NOT_KEPT not in caplog.text
        await subscriber.subscribe("b")
        await subscriber.subscribe("b")
    assert caplog.text.count(f"the broker granted QoS 0 to 'b': {NOT_KEPT}") == 1
    assert caplog.text.count(NOT_KEPT) == 1


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        (0, {"durable": "one"}, [Connected, SessionBegun]),
        (RESUMED, {"durable": "one"}, [Connected]),
        (0, {}, [Connected]),
    ],
)
async def test_the_first_connection_tells_whether_a_durable_session_is_new(
    answer: int | bytes, options: dict[str, object], expected: list[type]
) -> None:
    said: list[Status] = []
    async with (
        serving(ScriptedBroker(answers=[answer])) as broker,
        subscribing(broker, on_status=said.append, **options) as subscriber,
    ):
        await subscriber.connect()
        assert [type(status) for status in said[1:]] == expected
        assert (subscriber.health.lost_sessions, subscriber.health.outage_count) == (0, 0)


async def test_the_filters_of_a_resumed_session_are_subscribed_again_without_waiting() -> None:
    # the SUBACK never comes, for it would come behind all that the broker has kept
    async with serving(ScriptedBroker(answers=[RESUMED], subacks=[None])) as broker:
        async with subscribing(broker, durable="one") as subscriber:
            await subscriber.subscribe(WANTED)
            await subscriber.connect()
            await broker.wait_for(SUBSCRIBE)
            await broker.send(publish(b"devices/a/telemetry", b"kept", qos=1, mid=3))
            assert [message.text for message in await take(subscriber, 1)] == ["kept"]
        retain_handling = broker.of_kind(SUBSCRIBE)[0].body[-1] >> 4 & 3
    assert retain_handling == 1  # retained messages only for a new subscription (MQTT 5, 3.8.3.1)


async def test_a_filter_may_be_added_before_start_to_a_session_with_a_long_backlog(keeping: Mosquitto) -> None:
    heard: list[str] = []
    async with listening(keeping, heard, durable="one"):
        pass
    away = [str(number) for number in range(3_000)]
    await publish_all(keeping, "devices/a/telemetry", away)
    async with subscribing(keeping, durable="one") as subscriber:
        subscriber.register_handler(WANTED, lambda message: heard.append(message.text))
        await subscriber.connect()
        await eventually(lambda: subscriber._lifeline.session and subscriber._lifeline.session.held)
        assert await subscriber.subscribe("added", lambda message: heard.append(message.text)) == 1
        await subscriber.start()
        await eventually(lambda: len(heard) == len(away))
        await publish_all(keeping, "added", ["last"])
        await eventually(lambda: len(heard) > len(away))
        assert (heard, subscriber.health.outage_count) == ([*away, "last"], 0)


async def test_a_handler_registered_between_connect_and_start_is_subscribed_in_a_resumed_session_too() -> None:
    async with (
        serving(ScriptedBroker(answers=[RESUMED])) as broker,
        subscribing(broker, durable="one") as subscriber,
    ):
        await subscriber.connect()
        await asyncio.sleep(0)
        subscriber.register_handler(WANTED, print)
        await subscriber.start()
        await broker.wait_for(SUBSCRIBE)
        assert WANTED.encode() in broker.of_kind(SUBSCRIBE)[0].body


async def test_two_listeners_of_a_group_share_the_messages(keeping: Mosquitto) -> None:
    first: list[str] = []
    second: list[str] = []
    numbers = [str(number) for number in range(200)]
    async with listening(keeping, first, group="shed"), listening(keeping, second, group="shed"):
        await publish_all(keeping, "devices/a/telemetry", numbers)
        await eventually(lambda: len(first) + len(second) == len(numbers))
    assert sorted(first + second, key=int) == numbers
    assert first
    assert second


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"durable": ""}, "durable name ''"),
        ({"durable": "a\nb"}, "durable name"),
        ({"durable": "a", "client_id": "b"}, "client id of its own"),
        ({"durable": "a", "session_expiry_seconds": 0}, "session expiry of 0 s"),
        ({"durable": "a", "session_expiry_seconds": 2**32}, "out of range"),
        ({"session_expiry_seconds": 60}, "session expiry is for a durable session"),
        ({"durable": "a", "qos": 0}, "nothing of QoS 0"),
        ({"max_packet_bytes": 10}, "largest packet of 10 bytes"),
        ({"max_packet_bytes": 2**30}, "out of range"),
        ({"group": ""}, "group"),
        ({"group": "a/b"}, "group 'a/b'"),
        ({"group": "+"}, "group '\\+'"),
        ({"on_error": "drop"}, "on_error 'drop'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MQTTSubscriber("localhost", **options)  # type: ignore[arg-type]  # wrong on purpose


async def test_a_durable_listener_outlives_a_broker_that_hangs_up_again_and_again() -> None:
    async with (
        serving(ScriptedBroker(answers=[0, RESUMED])) as broker,
        subscribing(broker, durable="one") as subscriber,
    ):
        await subscriber.start()
        for connections in range(1, 6):
            await broker.wait_for(CONNECT, connections)
            await asyncio.sleep(0.05)
            broker.hang_up()
        await broker.wait_for(CONNECT, 6)


@VERSIONS
async def test_two_listeners_with_the_same_name_are_told_of_each_other(
    keeping: Mosquitto, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"durable": "one", "mqtt_version": version}
    async with listening(keeping, [], **options), listening(keeping, [], **options):
        await eventually(lambda: "is there another client with the id 'plantops-one'?" in caplog.text)


async def test_a_durable_session_that_is_taken_over_is_cured_by_another_name() -> None:
    async with (
        serving(ScriptedBroker(after_suback=TAKEN_OVER)) as broker,
        subscribing(broker, durable="one") as subscriber,
    ):
        await check_cure_of_takeover(subscriber)


async def test_twenty_kicks_of_a_durable_session_are_a_takeover_too() -> None:
    async with (
        serving(ScriptedBroker(answers=[0, RESUMED], after_suback=b"\xe0\x00")) as broker,
        subscribing(broker, durable="one") as subscriber,
    ):
        subscriber._lifeline.reconnection = Reconnection(
            has_own_client_id=True, is_durable=True, backoff=Backoff(base_seconds=0)
        )
        await check_cure_of_takeover(subscriber)
        assert subscriber.health.outage_count == 20


async def check_cure_of_takeover(subscriber: MQTTSubscriber) -> None:
    subscriber.register_handler(WANTED, print)
    await subscriber.start()
    with pytest.raises(SessionTakenOverError) as caught:
        await subscriber.wait()
    assert "durable=NAME" in str(caught.value.hint)
    assert "client_id=" not in str(caught.value.hint)


# Handlers that fail


class Clumsy:
    """A handler that fails on one payload, so many times."""

    def __init__(self, payload: str, times: int) -> None:
        self.payload, self.times = payload, times
        self.handled: list[tuple[str, bool]] = []

    def __call__(self, message: Message) -> None:
        if message.text == self.payload and self.times:
            self.times -= 1
            raise RuntimeError("full")
        self.handled.append((message.text, message.dup))


@VERSIONS
async def test_a_message_that_a_handler_keeps_comes_again_and_those_before_it_do_not(
    keeping: Mosquitto, version: str
) -> None:
    handler = Clumsy("2", times=1)
    options = {"durable": "one", "on_error": "keep", "mqtt_version": version}
    async with subscribing(keeping, **options) as subscriber:
        subscriber.register_handler(WANTED, handler)
        await subscriber.connect()
        await subscriber.start()
        await publish_all(keeping, "devices/a/telemetry", ["1", "2", "3"])
        await eventually(lambda: len(handler.handled) >= 3)
        health = subscriber.health
    assert [text for text, _ in handler.handled] == ["1", "2", "3"]
    assert ("2", True) in handler.handled
    assert (health.handler_errors, health.outage_count, health.lost_sessions) == (1, 1, 0)


async def test_a_message_of_qos_2_that_a_handler_keeps_comes_again_with_all_behind_it_and_each_once(
    keeping: Mosquitto,
) -> None:
    handler = Clumsy("2", times=1)
    async with subscribing(keeping, durable="one", qos=2, on_error="keep") as subscriber:
        subscriber.register_handler(WANTED, handler)
        await subscriber.connect()
        await publish_all(keeping, "devices/a/telemetry", ["1", "2", "3", "4"], qos=2)
        await eventually(
            lambda: subscriber._lifeline.session and subscriber._lifeline.session.held == 4
        )  # in one batch
        await subscriber.start()
        await eventually(lambda: len(handler.handled) >= 4)
    assert [text for text, _ in handler.handled] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_disconnect_that_waits_no_longer_acknowledges_what_was_handled(
    keeping: Mosquitto, monkeypatch: pytest.MonkeyPatch, qos: int
) -> None:
    monkeypatch.setattr("plantops_cli.stream.handling.feeding.DRAIN_SECONDS", 0.2)
    heard: list[str] = []

    async def handle(message: Message) -> None:
        if message.text == "3":
            await asyncio.sleep(60)
        heard.append(message.text)

    async with subscribing(keeping, durable="one", qos=qos) as subscriber:
        subscriber.register_handler(WANTED, handle)
        await subscriber.connect()
        await publish_all(keeping, "devices/a/telemetry", ["1", "2", "3", "4"], qos=qos)
        await eventually(
            lambda: subscriber._lifeline.session and subscriber._lifeline.session.held == 4
        )  # in one batch
        await subscriber.start()
        await eventually(lambda: len(heard) == 2)
    async with listening(keeping, heard, durable="one", qos=qos):
        await eventually(lambda: len(heard) >= 4)
    assert heard == ["1", "2", "3", "4"]


async def test_a_message_whose_handler_fails_counts_as_handled_by_default(keeping: Mosquitto) -> None:
    handler = Clumsy("2", times=1)
    async with subscribing(keeping, durable="one") as subscriber:
        subscriber.register_handler(WANTED, handler)
        await subscriber.connect()
        await subscriber.start()
        await publish_all(keeping, "devices/a/telemetry", ["1", "2", "3"])
        await eventually(lambda: len(handler.handled) == 2)
    heard: list[str] = []
    async with listening(keeping, heard, durable="one"):
        await publish_all(keeping, "devices/a/telemetry", ["4"])
        await eventually(lambda: heard)
    assert heard == ["4"]


# What may slow or break a connection


async def test_a_slow_reader_is_told_of_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plantops_cli.stream.handling.holdup.SLOW_SECONDS", 0.05)
    said: list[Status] = []
    async with (
        serving(ScriptedBroker(after_suback=publish(b"a", b"1", qos=1))) as broker,
        subscribing(broker, on_status=said.append) as subscriber,
    ):
        subscriber.register_handler("a", lambda message: asyncio.sleep(0.5))
        await subscriber.connect()
        await subscriber.start()
        await eventually(lambda: broker.acknowledged)
        await eventually(lambda: subscriber.health.paused_seconds >= 0.5)
    told = [status.seconds for status in said if isinstance(status, Paused)]
    assert 2 <= len(told) <= 5  # ever more seldom
    assert told == sorted(told)


async def test_a_reader_that_keeps_up_is_not_called_slow(keeping: Mosquitto) -> None:
    said: list[Status] = []
    async with subscribing(keeping, on_status=said.append) as subscriber:
        await subscriber.subscribe(WANTED)
        await subscriber.connect()
        await publish_all(keeping, "devices/a/telemetry", [str(number) for number in range(2_000)])
        await take(subscriber, 2_000)
        assert subscriber.health.paused_seconds == 0
    assert not any(isinstance(status, Paused) for status in said)


@pytest.mark.parametrize("delivery", [b"\x30", b"\x34"], ids=["QoS 0", "QoS 2"])
async def test_a_packet_beyond_the_limit_is_answered_by_disconnect_and_a_new_connection(delivery: bytes) -> None:
    large = delivery + b"\xff\xff\x7f"  # two million bytes are announced, none has to come
    async with (
        serving(ScriptedBroker(after_suback=publish(b"a", b"1") + large)) as broker,
        subscribing(broker, max_packet_bytes=1_000) as subscriber,
    ):
        await subscriber.subscribe("#")
        await subscriber.connect()
        assert [message.text for message in await take(subscriber, 1)] == ["1"]
        await broker.wait_for(DISCONNECT)
        assert broker.of_kind(DISCONNECT)[0].body == b"\x95"


async def test_a_malformed_packet_is_answered_by_its_reason_code() -> None:
    qos_3 = packet_of(0x36, b"\x00\x01a\x00\x01\x00")
    async with serving(ScriptedBroker(after_suback=qos_3)) as broker, subscribing(broker) as subscriber:
        await subscriber.subscribe("#")
        await subscriber.start()
        await broker.wait_for(DISCONNECT)
        assert broker.of_kind(DISCONNECT)[0].body == b"\x81"
        await broker.wait_for(CONNECT, 2)


async def test_many_messages_are_acknowledged_in_one_write_and_in_order(keeping: Mosquitto) -> None:
    script = b"".join(publish(b"a", b"%d" % mid, qos=1, mid=mid) for mid in range(1, 501))
    async with serving(ScriptedBroker(after_suback=script)) as broker:
        async with subscribing(broker) as subscriber:
            handled = asyncio.Event()
            subscriber.register_handler("a", lambda message: handled.set() if message.mid == 500 else None)
            await subscriber.connect()
            await subscriber.start()
            await handled.wait()
            await eventually(lambda: len(broker.acknowledged) == 500)
        assert broker.acknowledged == list(range(1, 501))


async def test_a_websocket_carries_a_session(tmp_path: Path) -> None:
    # Mosquitto 2.0.11 does not start with a WebSocket alone
    plain = f"listener {free_port()} 127.0.0.1"
    broker = Mosquitto(tmp_path, listener=f"{plain}\nlistener {{port}} 127.0.0.1\nprotocol websockets")
    broker.start()
    try:
        async with subscribing(broker, websocket_path="/mqtt") as subscriber:
            await subscriber.subscribe("a")
            await subscriber.connect()
            assert subscriber.client is not None
            for number in range(300):
                await subscriber.client.publish("a", f"{number}", qos=1)
            assert [int(message.text) for message in await take(subscriber, 300)] == list(range(300))
    finally:
        broker.stop()
