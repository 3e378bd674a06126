import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from plantops_cli.config import load_settings
from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    ConfigError,
    CredentialsRefusedError,
    HeldUpError,
    SessionTakenOverError,
    StateError,
    SubscriptionRefusedError,
    TopicError,
)
from plantops_cli.messages import Message, now
from plantops_cli.stream.reconnection import Reconnection
from plantops_cli.stream.status import Connected, Connecting, Lost, Resumed, Retrying, State, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.stream.tls import TLSOptions
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.scripted_broker import (
    CLOSE,
    CONNECT,
    DISCONNECT,
    PUBREC,
    SUBSCRIBE,
    ScriptedBroker,
    publish,
    serving,
    suback,
)
from tests.support.subscribing import SECRET, eventually, open_files, publish_all, subscribing, take

END_SECONDS = 5.0
KICK = b"\xe0\x02\x8b\x00"
TAKEN_OVER = b"\xe0\x02\x8e\x00"


class Recorder:
    """A handler that remembers the topics it was called with."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def __call__(self, message: Message) -> None:
        self.topics.append(message.topic)


def one_of_each_kind(device_id: str) -> bytes:
    return b"".join(publish(f"devices/{device_id}/{kind}".encode()) for kind in ("telemetry", "heartbeat"))


# Handlers


async def test_each_handler_gets_the_messages_of_its_filter() -> None:
    telemetry, heartbeat = Recorder(), Recorder()
    broker = ScriptedBroker(after_suback=one_of_each_kind("a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("devices/+/telemetry", telemetry)
        subscriber.register_handler("devices/+/heartbeat", heartbeat)
        await subscriber.connect()
        await subscriber.start()
        await eventually(lambda: subscriber.health.received == 2)
    assert telemetry.topics == ["devices/a/telemetry"]
    assert heartbeat.topics == ["devices/a/heartbeat"]


async def test_a_topic_that_is_too_long_to_be_remembered_has_its_handlers_each_time() -> None:
    handler = Recorder()
    topic = "a" * 129
    broker = ScriptedBroker(after_suback=publish(topic.encode()) * 2 + publish(b"b"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("#", handler)
        await subscriber.start()
        await eventually(lambda: handler.topics == [topic, topic, "b"])
        assert list(subscriber._handlers._routes) == ["b"]


async def test_handlers_may_be_functions_or_coroutine_functions_and_share_a_filter() -> None:
    plain, waited = Recorder(), Recorder()

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        waited(message)

    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", plain)
        subscriber.register_handler("a", handle)
        await subscriber.start()
        await eventually(lambda: plain.topics == waited.topics == ["a"])
        assert subscriber.handlers == {"a": [plain, handle]}


async def test_a_message_that_matches_two_filters_runs_a_handler_of_both_once() -> None:
    handler = Recorder()
    broker = ScriptedBroker(after_suback=publish(b"a/b") + publish(b"end"))
    async with serving(broker), subscribing(broker) as subscriber:
        for topic_filter in ("a/+", "a/#", "end"):
            subscriber.register_handler(topic_filter, handler)
        await subscriber.start()
        await eventually(lambda: "end" in handler.topics)
    assert handler.topics == ["a/b", "end"]


async def test_a_handler_that_raises_is_logged_with_name_and_topic_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def clumsy(message: Message) -> None:
        raise ValueError("oops")

    other = Recorder()
    broker = ScriptedBroker(after_suback=publish(b"a/b", qos=1, mid=1) + publish(b"a/c", qos=1, mid=2))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a/+", clumsy)
        subscriber.register_handler("a/+", other)
        await subscriber.start()
        await eventually(lambda: broker.acknowledged == [1, 2])
        assert subscriber.health.handler_errors == 2
    assert other.topics == ["a/b", "a/c"]
    assert "clumsy failed on a message of 'a/b'" in caplog.text


async def test_the_puback_goes_out_only_after_a_slow_handler_has_returned() -> None:
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        begun.set()
        await may_end.wait()

    broker = ScriptedBroker(after_suback=publish(b"a", qos=1, mid=1) + publish(b"a", qos=1, mid=2))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", slow)
        await subscriber.start()
        await begun.wait()
        await asyncio.sleep(0.05)
        assert broker.acknowledged == []
        may_end.set()
        await eventually(lambda: broker.acknowledged == [1, 2])


async def test_a_forbidden_topic_is_counted_in_the_health_and_stops_nothing() -> None:
    handler = Recorder()
    broker = ScriptedBroker(after_suback=publish(b"\xff", qos=1, mid=1) + publish(b"a/+") + publish(b"good"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("#", handler)
        await subscriber.start()
        await eventually(lambda: handler.topics == ["good"])
        await eventually(lambda: broker.acknowledged == [1])
        assert subscriber.health.invalid == 2
    assert subscriber.health.invalid == 2


async def test_the_health_tells_when_the_newest_message_was_read_as_the_message_does() -> None:
    messages: list[Message] = []
    broker = ScriptedBroker(after_suback=publish(b"a") + publish(b"b"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("#", messages.append)
        assert subscriber.health.last_message_at is None
        began = now()
        await subscriber.start()
        await eventually(lambda: len(messages) == 2)
        assert subscriber.health.last_message_at == messages[-1].received_at
        assert began - timedelta(milliseconds=1) < messages[-1].received_at <= now()


# When handlers are registered


async def test_handlers_registered_before_between_and_after_connect_and_start_all_hear(
    mosquitto: Mosquitto,
) -> None:
    before, between, after = Recorder(), Recorder(), Recorder()
    async with subscribing(mosquitto) as subscriber:
        subscriber.register_handler("when/before", before)
        await subscriber.connect()
        subscriber.register_handler("when/between", between)
        await subscriber.start()
        await asyncio.sleep(0.05)
        subscriber.register_handler("when/after", after)
        await subscriber.subscribe("when/ready")  # answered after the one before it
        for name in ("before", "between", "after"):
            await publish_all(mosquitto, f"when/{name}", ["1"])
        await eventually(lambda: before.topics and between.topics and after.topics)


async def test_a_handler_registered_late_hears_topics_that_came_before_it() -> None:
    early, late = Recorder(), Recorder()
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", early)
        await subscriber.start()
        await eventually(lambda: early.topics)
        subscriber.register_handler("a", late)
        await broker.send(publish(b"a"))
        await eventually(lambda: late.topics == ["a"])


async def test_a_filter_registered_while_connecting_is_subscribed_next() -> None:
    broker = ScriptedBroker(subacks=[None, "grant"])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        connecting = asyncio.create_task(subscriber.connect())
        await broker.wait_for(SUBSCRIBE)
        subscriber.register_handler("b", Recorder())
        await broker.send(suback(broker.of_kind(SUBSCRIBE)[0].body, "grant", version=5))
        await connecting
        await subscriber.start()
        await broker.wait_for(SUBSCRIBE, 2)
        assert b"\x00\x01b" in broker.of_kind(SUBSCRIBE)[1].body


async def test_subscribe_returns_the_granted_qos() -> None:
    broker = ScriptedBroker(subacks=[[0]])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        assert await subscriber.subscribe("a", qos=2) == 0


async def test_subscribe_without_a_connection_takes_note_for_later() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        assert await subscriber.subscribe("a") is None
        await subscriber.connect()
        assert len(broker.of_kind(SUBSCRIBE)) == 1


async def test_a_refused_filter_fails_connect_and_leaves_no_connection() -> None:
    broker = ScriptedBroker(subacks=[[0x87]])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("secret/#", Recorder())
        with pytest.raises(SubscriptionRefusedError) as caught:
            await subscriber.connect()
        assert caught.value.filters == {"secret/#": 0x87}
        assert subscriber.client is None
        await broker.wait_for(DISCONNECT)


async def test_a_refused_filter_does_not_come_back_with_the_next_connection() -> None:
    broker = ScriptedBroker(subacks=[[1], [0x87], [1]])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.connect()
        await subscriber.start()
        with pytest.raises(SubscriptionRefusedError):
            await subscriber.subscribe("secret/#", Recorder())
        assert list(subscriber.handlers) == ["a"]
        broker.hang_up()
        await eventually(lambda: subscriber.health.connection_count == 2)


async def test_a_refused_late_handler_ends_the_subscriber() -> None:
    broker = ScriptedBroker(subacks=[[1], [0x87]])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.connect()
        await subscriber.start()
        await asyncio.sleep(0)
        subscriber.register_handler("secret/#", Recorder())
        with pytest.raises(SubscriptionRefusedError):
            await subscriber.wait()
        assert subscriber.health.state is State.FAILED


def behind_messages(broker: ScriptedBroker, codes: list[int]) -> bytes:
    """Many messages, and behind them the answer to the newest SUBSCRIBE."""
    return publish(b"a") * 1_500 + suback(broker.of_kind(SUBSCRIBE)[-1].body, codes, version=5)


FEW_BYTES = 64 * 1024
"""Less than these messages take."""


async def test_subscribe_before_start_is_answered_behind_messages_that_nobody_has_taken_yet() -> None:
    broker = ScriptedBroker(subacks=["grant", None])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.connect()
        subscribing_late = asyncio.create_task(subscriber.subscribe("b"))
        await broker.wait_for(SUBSCRIBE, 2)
        await broker.send(behind_messages(broker, [1]))
        assert await subscribing_late == 1


async def test_subscribe_in_a_handler_is_answered_behind_messages_that_the_handler_holds_up() -> None:
    granted: list[int | None] = []
    late = Recorder()

    async def subscribe(message: Message) -> None:
        if not granted:
            granted.append(await subscriber.subscribe("b", late))

    broker = ScriptedBroker(subacks=["grant", None], after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", subscribe)
        await subscriber.start()
        await broker.wait_for(SUBSCRIBE, 2)
        await broker.send(behind_messages(broker, [1]) + publish(b"b"))
        await eventually(lambda: late.topics)
        assert (granted, subscriber.health.outage_count) == ([1], 0)


async def test_subscribe_before_start_does_not_wait_behind_more_messages_than_may_wait() -> None:
    early, late = Recorder(), Recorder()
    broker = ScriptedBroker(subacks=["grant", None])
    async with serving(broker), subscribing(broker, max_pending_bytes=FEW_BYTES) as subscriber:
        subscriber.register_handler("a", early)
        await subscriber.connect()
        subscribing_late = asyncio.create_task(subscriber.subscribe("b", late))
        await broker.wait_for(SUBSCRIBE, 2)
        await broker.send(behind_messages(broker, [1]) + publish(b"b"))
        async with asyncio.timeout(1.0):
            with pytest.raises(HeldUpError):
                await subscribing_late
        await subscriber.start()
        await eventually(lambda: late.topics)
        assert (len(early.topics), late.topics) == (1_500, ["b"])
        assert subscriber.health.outage_count == 0


async def test_subscribe_in_a_handler_does_not_wait_behind_more_messages_than_may_wait() -> None:
    errors: list[HeldUpError] = []
    late = Recorder()

    async def subscribe(message: Message) -> None:
        if not errors:
            try:
                await subscriber.subscribe("b", late)
            except HeldUpError as exc:
                errors.append(exc)

    broker = ScriptedBroker(subacks=["grant", None], after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker, max_pending_bytes=FEW_BYTES) as subscriber:
        subscriber.register_handler("a", subscribe)
        await subscriber.start()
        await broker.wait_for(SUBSCRIBE, 2)
        await broker.send(behind_messages(broker, [1]) + publish(b"b"))
        await eventually(lambda: late.topics)
        assert "messages that wait to be handled" in str(errors[0])
        assert subscriber.health.outage_count == 0


async def test_a_refusal_that_comes_after_subscribe_has_given_up_ends_the_subscriber() -> None:
    broker = ScriptedBroker(subacks=["grant", None])
    async with serving(broker), subscribing(broker, max_pending_bytes=FEW_BYTES) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.connect()
        subscribing_late = asyncio.create_task(subscriber.subscribe("secret/#"))
        await broker.wait_for(SUBSCRIBE, 2)
        await broker.send(behind_messages(broker, [0x87]))
        with pytest.raises(HeldUpError):
            await subscribing_late
        await subscriber.start()
        with pytest.raises(SubscriptionRefusedError):
            await subscriber.wait()


async def test_subscribe_does_not_wait_for_an_answer_for_ever() -> None:
    broker = ScriptedBroker(subacks=["grant", None])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        assert await subscriber.subscribe("b") is None
        assert subscriber.health.outage_count == 0


async def test_subscribe_that_disconnect_overtakes_ends_with_it() -> None:
    broker = ScriptedBroker(subacks=["grant", None])
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        subscribing_late = asyncio.create_task(subscriber.subscribe("b"))
        await broker.wait_for(SUBSCRIBE, 2)
        await subscriber.disconnect()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("plantops")]
        with pytest.raises(BrokerError, match="connection lost"):
            await subscribing_late


async def test_filters_registered_at_once_are_subscribed_together_and_each_only_once() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        subscriber.register_handler("b", Recorder())
        subscriber.register_handler("c", Recorder())
        await subscriber.subscribe("d")
        bodies = [packet.body[3:] for packet in broker.of_kind(SUBSCRIBE)[1:]]
        assert sorted(bodies) == [b"\x00\x01b\x01\x00\x01c\x01", b"\x00\x01d\x01"]


# Connecting, and what ends it


async def test_start_without_connect_keeps_trying_until_a_broker_appears() -> None:
    said: list[Status] = []
    broker = ScriptedBroker(port=free_port())
    async with subscribing(broker, on_status=said.append) as subscriber:
        await subscriber.start()
        await eventually(lambda: any(isinstance(status, Retrying) for status in said))
        async with serving(broker):
            await eventually(lambda: subscriber.health.state is State.CONNECTED)
            assert subscriber.health.outage_count == 0


async def test_start_goes_on_after_a_busy_broker() -> None:
    broker = ScriptedBroker(answers=[0x88, 0])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)


@pytest.mark.parametrize("code", [0x86, 0x87])
async def test_credentials_refused_at_the_start_end_it_after_one_try(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ScriptedBroker(answers=[code])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        with pytest.raises(CredentialsRefusedError, match="'alice'"):
            await subscriber.wait()
        assert broker.connection_count == 1
        assert subscriber.health.state is State.FAILED
    assert SECRET not in caplog.text


async def test_credentials_refused_on_a_reconnection_end_it() -> None:
    broker = ScriptedBroker(answers=[0, 0x87])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        with pytest.raises(CredentialsRefusedError):
            await subscriber.wait()
        assert broker.connection_count == 2


async def test_connect_makes_one_attempt_only() -> None:
    broker = ScriptedBroker(answers=[0x88])
    async with serving(broker), subscribing(broker) as subscriber:
        with pytest.raises(BrokerUnreachableError):
            await subscriber.connect()
        assert broker.connection_count == 1
        assert subscriber.health.state is State.DISCONNECTED


async def test_a_cancelled_connect_leaves_nothing_behind_and_may_be_repeated() -> None:
    broker = ScriptedBroker(answers=[None, 0])
    async with serving(broker), subscribing(broker) as subscriber:
        connecting = asyncio.create_task(subscriber.connect())
        await broker.wait_for(CONNECT)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert subscriber.client is None
        await subscriber.connect()


async def test_a_connect_that_disconnect_overtakes_ends_with_an_error_and_no_connection() -> None:
    broker = ScriptedBroker(answers=[None])
    async with serving(broker), subscribing(broker) as subscriber:
        connecting = asyncio.create_task(subscriber.connect())
        await broker.wait_for(CONNECT)
        await subscriber.disconnect()
        with pytest.raises(StateError, match="disconnected while connecting"):
            await connecting
        assert subscriber.client is None


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


async def test_what_stands_in_the_way_is_known_step_by_step() -> None:
    broker = ScriptedBroker(answers=[None, 0], subacks=[None, "grant"])
    async with serving(broker), subscribing(broker, mqtt_version="5") as subscriber:
        where = f"127.0.0.1:{broker.port}"
        connecting = asyncio.create_task(subscriber.connect())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert subscriber.obstacle == f"{where}: no connection (name, TCP)"
        await eventually(lambda: subscriber.obstacle == f"{where}: no MQTT answer")
        await subscriber.disconnect()
        with pytest.raises(StateError):
            await connecting
        assert subscriber.obstacle is None
        subscriber.register_handler("#", Recorder())
        connecting = asyncio.create_task(subscriber.connect())
        await eventually(lambda: subscriber.obstacle == f"{where}: no answer to SUBSCRIBE")
        with pytest.raises(BrokerError):
            await connecting
        await subscriber.connect()
        assert subscriber.obstacle is None


async def test_a_fallback_is_kept_for_the_reconnections() -> None:
    broker = ScriptedBroker(answers=[0x84, 0])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        await eventually(lambda: subscriber.health.connection_count == 2)
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4, 4]


async def test_a_fallback_from_silence_is_not_kept_for_a_slow_broker_is_silent_too() -> None:
    broker = ScriptedBroker(answers=[None, 0])
    said: list[Status] = []
    async with (
        serving(broker),
        subscribing(broker, connect_timeout_seconds=0.5, on_status=said.append) as subscriber,
    ):
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        await eventually(lambda: subscriber.health.connection_count == 2)
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4, 5]
    assert [status.mqtt_version for status in said if isinstance(status, Connected)] == ["3.1.1", "5"]


async def test_after_silence_on_both_versions_the_next_attempt_begins_with_mqtt_5() -> None:
    broker = ScriptedBroker(answers=[None, None, 0])
    async with serving(broker), subscribing(broker, connect_timeout_seconds=0.5) as subscriber:
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4, 5]


async def test_a_fallback_that_failed_too_is_not_kept() -> None:
    broker = ScriptedBroker(answers=[CLOSE, CLOSE, 0])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        assert [packet.body[6] for packet in broker.of_kind(CONNECT)] == [5, 4, 5]


# Outages


async def test_an_outage_is_reported_and_kept_with_begin_end_and_reason() -> None:
    said: list[Status] = []
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, on_status=said.append) as subscriber:
        began_at = datetime.now(UTC)
        await subscriber.connect()
        await subscriber.start()
        await broker.send(KICK)
        await eventually(lambda: subscriber.health.connection_count == 2)
        health = subscriber.health
    (outage,) = health.outages
    assert outage.ended_at
    assert began_at <= outage.began_at <= outage.ended_at <= datetime.now(UTC)
    assert "0x8b, Server shutting down" in outage.reason
    assert health.outage_count == 1
    steps = [type(status) for status in said if isinstance(status, (Lost, Retrying, Connected, Resumed))]
    assert steps == [Connected, Lost, Retrying, Connected, Resumed]


async def test_an_outage_that_lasts_has_no_end() -> None:
    broker = ScriptedBroker(answers=[0, 0x88])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        await eventually(lambda: subscriber.health.state is State.WAITING)
        assert [outage.ended_at for outage in subscriber.health.outages] == [None]
        assert subscriber.health.connected_since is None
        assert subscriber.client is None


async def test_an_outage_begins_when_the_connection_ends_however_long_a_handler_then_takes() -> None:
    may_end = asyncio.Event()
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", lambda _: may_end.wait())
        await subscriber.start()
        await eventually(lambda: subscriber.health.received)
        broker.hang_up()
        await eventually(lambda: subscriber.client is None)
        ended_by = now()
        await asyncio.sleep(0.05)
        may_end.set()
        await eventually(lambda: subscriber.health.connection_count == 2)
    (outage,) = subscriber.health.outages
    assert outage.began_at <= ended_by


async def test_every_filter_is_subscribed_again_at_its_qos_after_an_outage() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a/+", Recorder())
        await subscriber.connect()
        await subscriber.start()
        await subscriber.subscribe("late", qos=2)
        broker.hang_up()
        await broker.wait_for(SUBSCRIBE, 3)
        assert broker.of_kind(SUBSCRIBE)[2].body.endswith(b"\x00\x03a/+\x01\x00\x04late\x02")


async def test_a_malformed_packet_is_answered_by_a_new_connection(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        await broker.send(b"\x36\x06\x00\x01a\x00\x01\x00")
        await eventually(lambda: subscriber.health.connection_count == 2)
    assert caplog.text.count("the broker sent a malformed packet") == 1
    assert "Traceback" not in caplog.text


async def test_a_session_taken_over_ends_it_with_the_cure() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        await subscriber.connect()
        await subscriber.start()
        await broker.send(TAKEN_OVER)
        with pytest.raises(SessionTakenOverError) as caught:
            await subscriber.wait()
    assert "--client-id" in str(caught.value.hint)
    assert broker.connection_count == 1


async def kicked_after_each_connack(broker: ScriptedBroker, count: int) -> None:
    for number in range(1, count + 1):
        await broker.wait_for(SUBSCRIBE, number)
        await asyncio.sleep(0.02)
        broker.hang_up()


async def test_three_kicks_in_a_row_mean_that_a_client_id_of_ones_own_is_taken() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await kicked_after_each_connack(broker, 3)
        with pytest.raises(SessionTakenOverError):
            await subscriber.wait()
        assert subscriber.health.outage_count == 3


async def test_a_kick_is_one_however_long_a_handler_then_takes() -> None:
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        subscriber._lifeline._reconnection = Reconnection(has_own_client_id=True, stable_seconds=1.0)
        subscriber.register_handler("a", lambda _: asyncio.sleep(1.1))
        await subscriber.start()
        await kicked_after_each_connack(broker, 3)
        with pytest.raises(SessionTakenOverError):
            await subscriber.wait()


async def test_kicks_of_a_random_client_id_are_no_takeover() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await kicked_after_each_connack(broker, 3)
        await eventually(lambda: subscriber.health.connection_count == 4)


@pytest.mark.parametrize("malformed", [b"\x36\x06\x00\x01a\x00\x01\x00", b"\x00\x00"], ids=["by us", "by paho"])
async def test_connections_that_were_given_up_for_malformed_packets_are_no_takeover(malformed: bytes) -> None:
    broker = ScriptedBroker(after_suback=malformed)
    async with serving(broker), subscribing(broker, client_id="mine") as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        await eventually(lambda: subscriber.health.connection_count == 4)


async def test_connections_that_were_given_up_to_keep_a_message_are_no_takeover() -> None:
    def fail(_: Message) -> None:
        raise RuntimeError("the database is down")

    broker = ScriptedBroker(after_suback=publish(b"a", qos=1))
    async with serving(broker), subscribing(broker, client_id="mine", on_error="keep") as subscriber:
        subscriber.register_handler("a", fail)
        await subscriber.start()
        await eventually(lambda: subscriber.health.connection_count == 4)


@pytest.mark.parametrize("way", ["publish", "subscribe", "unsubscribe"])
async def test_who_waits_for_an_answer_hears_at_once_of_the_end_of_the_connection(way: str) -> None:
    async with serving(ScriptedBroker(subacks=[None])) as broker, subscribing(broker) as subscriber:
        await subscriber.connect()
        client = subscriber.client
        assert client is not None
        options = {"qos": 1} if way != "unsubscribe" else {}
        asking = asyncio.create_task(getattr(client, way)("a", **options))
        await asyncio.sleep(0.1)
        broker.hang_up()
        async with asyncio.timeout(2):
            with pytest.raises(aiomqtt.MqttError, match="connection lost: the network connection ended"):
                await asking


# The end


async def test_wait_returns_after_disconnect() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        waiting = asyncio.create_task(subscriber.wait())
        await eventually(lambda: subscriber.health.state is State.CONNECTED)
        await subscriber.disconnect()
        await waiting
        await broker.wait_for(DISCONNECT)
    assert subscriber.health.state is State.DISCONNECTED
    assert subscriber.health.outage_count == 0


async def test_disconnect_may_come_first_twice_and_at_once() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.disconnect()
        await subscriber.connect()
        await subscriber.start()
        await asyncio.gather(subscriber.disconnect(), subscriber.disconnect())
        await subscriber.disconnect()
        await broker.wait_for(DISCONNECT)
        assert len(broker.of_kind(DISCONNECT)) == 1


async def test_a_subscriber_may_be_used_again_after_disconnect() -> None:
    handler = Recorder()
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", handler)
        for count in (1, 2):
            await subscriber.connect()
            await subscriber.start()
            await eventually(lambda count=count: len(handler.topics) == count)  # type: ignore[misc]  # bound early
            await subscriber.disconnect()


async def test_disconnect_lets_a_handler_finish_and_acknowledges_its_message() -> None:
    begun, finished = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        finished.set()

    broker = ScriptedBroker(after_suback=publish(b"a", qos=1, mid=4))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", slow)
        await subscriber.start()
        await begun.wait()
        await subscriber.disconnect()
        assert finished.is_set()
        await broker.wait_for(DISCONNECT)
        assert broker.acknowledged == [4]


async def test_a_handler_may_disconnect() -> None:
    broker = ScriptedBroker(after_suback=publish(b"a") * 3)
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", lambda message: subscriber.disconnect())
        await subscriber.start()
        async with asyncio.timeout(END_SECONDS):
            await subscriber.wait()


async def test_disconnect_ends_in_time_with_a_stuck_handler_and_leaves_its_message_to_the_broker() -> None:
    begun = asyncio.Event()

    async def stuck(message: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    broker = ScriptedBroker(after_suback=publish(b"a", qos=1))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("a", stuck)
        await subscriber.start()
        await begun.wait()
        before = asyncio.all_tasks()
        async with asyncio.timeout(END_SECONDS):
            await subscriber.disconnect()
        await asyncio.sleep(0)
        left = {task.get_name() for task in asyncio.all_tasks() & before}
        assert not [name for name in left if name.startswith("plantops")]
        await broker.wait_for(DISCONNECT)
        assert broker.acknowledged == []


async def until_connected(subscriber: MQTTSubscriber, broker: ScriptedBroker) -> None:
    await eventually(lambda: subscriber.health.state is State.CONNECTED)


async def until_connecting(subscriber: MQTTSubscriber, broker: ScriptedBroker) -> None:
    await broker.wait_for(CONNECT)


async def until_waiting(subscriber: MQTTSubscriber, broker: ScriptedBroker) -> None:
    await eventually(lambda: subscriber.health.state is State.WAITING)


async def until_gone(subscriber: MQTTSubscriber, broker: ScriptedBroker) -> None:
    await until_connected(subscriber, broker)
    broker.hang_up()


@pytest.mark.parametrize(
    ("answer", "moment"), [(0, until_connected), (None, until_connecting), (0x88, until_waiting), (0, until_gone)]
)
async def test_disconnect_ends_at_once_at_any_moment_and_leaves_no_task(
    answer: int | None, moment: Callable[[MQTTSubscriber, ScriptedBroker], Any]
) -> None:
    broker = ScriptedBroker(answers=[answer])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        await moment(subscriber, broker)
        async with asyncio.timeout(END_SECONDS):
            await subscriber.disconnect()
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("plantops")]
        assert subscriber.health.state is State.DISCONNECTED


async def test_disconnect_ends_in_time_when_the_broker_is_gone(own_mosquitto: Mosquitto) -> None:
    async with subscribing(own_mosquitto) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        own_mosquitto.stop()
        async with asyncio.timeout(END_SECONDS):
            await subscriber.disconnect()


async def test_stop_lets_batches_end_after_what_has_arrived() -> None:
    broker = ScriptedBroker(after_suback=publish(b"a") * 5)
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("a")
        await subscriber.connect()
        await eventually(lambda: subscriber._lifeline.session and subscriber._lifeline.session.held == 5)
        subscriber.stop()
        assert [len(batch) async for batch in subscriber.batches()] == [5]


async def test_batches_go_on_over_a_reconnection_and_raise_what_cannot_heal() -> None:
    broker = ScriptedBroker(answers=[0, 0, 0x87], after_suback=publish(b"a") + KICK)
    received: list[str] = []
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("a")
        with pytest.raises(CredentialsRefusedError):
            received.extend([message.topic async for batch in subscriber.batches() for message in batch])
        assert subscriber.health.received == 2
        assert subscriber.health.state is State.FAILED


# In a block, and one message at a time


async def read_into(recorder: Recorder, subscriber: MQTTSubscriber) -> None:
    async for message in subscriber.messages():
        recorder(message)


async def test_a_block_connects_and_disconnects() -> None:
    heard = Recorder()
    broker = ScriptedBroker(after_suback=publish(b"a"))
    async with serving(broker):
        async with MQTTSubscriber("127.0.0.1", broker.port) as subscriber:
            assert subscriber.client is not None
            await subscriber.subscribe("a", heard)
            await subscriber.start()
            await eventually(lambda: heard.topics)
        assert subscriber.client is None
        assert subscriber.health.state is State.DISCONNECTED
        await broker.wait_for(DISCONNECT)


async def test_a_block_that_cannot_connect_is_not_entered() -> None:
    subscriber = MQTTSubscriber("127.0.0.1", free_port())
    with pytest.raises(BrokerUnreachableError):
        async with subscriber:
            pytest.fail("entered")
    assert subscriber.client is None


async def test_messages_are_acknowledged_each_when_the_next_one_is_asked_for() -> None:
    numbered = [publish(b"a", qos=1, mid=mid) for mid in (1, 2)] + [publish(b"a", qos=2, mid=3), publish(b"end")]
    broker = ScriptedBroker(subacks=[[2]], after_suback=b"".join(numbered))
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("#", qos=2)
        async with aclosing(subscriber.messages()) as messages:
            for mid in (1, 2, 3):
                assert (await anext(messages)).mid == mid
                await asyncio.sleep(0.02)
                assert broker.acknowledged == [1, 2][: mid - 1]
            assert (await anext(messages)).topic == "end"
            await broker.wait_for(PUBREC)
        assert broker.acknowledged == [1, 2]
        assert subscriber.health.received == 4


@pytest.mark.parametrize("way", [asyncio.CancelledError, RuntimeError, GeneratorExit])
async def test_the_message_at_which_a_loop_is_left_stays_unacknowledged(way: type[BaseException]) -> None:
    broker = ScriptedBroker(after_suback=b"".join(publish(b"a", qos=1, mid=mid) for mid in (1, 2, 3)))
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("a")

        async def read() -> None:
            async with aclosing(subscriber.messages()) as messages:
                async for message in messages:
                    if message.mid == 2:
                        raise way

        with pytest.raises(way):
            await read()
        await subscriber.disconnect()
        await broker.wait_for(DISCONNECT)
        assert broker.acknowledged == [1]


async def test_what_was_passed_over_between_messages_is_acknowledged_in_its_turn() -> None:
    packets = [publish(b"a", qos=1, mid=1), publish(b"a/+", qos=1, mid=2), publish(b"a", qos=1, mid=3)]
    broker = ScriptedBroker(after_suback=b"".join([*packets, publish(b"\xff", qos=1, mid=4)]))
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("a")
        heard = Recorder()
        reading = asyncio.create_task(read_into(heard, subscriber))
        await eventually(lambda: broker.acknowledged == [1, 2, 3, 4])
        subscriber.stop()
        await reading
    assert heard.topics == ["a", "a"]


async def test_messages_go_on_over_a_reconnection() -> None:
    broker = ScriptedBroker(answers=[0, 0, 0x87], after_suback=publish(b"a", qos=1, mid=1) + KICK)
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("a")
        heard = Recorder()
        with pytest.raises(CredentialsRefusedError):
            await read_into(heard, subscriber)
        assert heard.topics == ["a", "a"]


# One event loop after the other


def test_a_subscriber_works_on_a_second_event_loop_after_the_first_has_ended(mosquitto: Mosquitto) -> None:
    heard = Recorder()
    subscriber = MQTTSubscriber("127.0.0.1", mosquitto.port, USERNAME, PASSWORD)
    subscriber.register_handler("loops/one", heard)

    async def live(count: int) -> None:
        async with subscriber:
            await subscriber.start()
            await publish_all(mosquitto, "loops/one", ["1"])
            await eventually(lambda: len(heard.topics) == count)

    for count in (1, 2):
        asyncio.run(live(count))
    assert subscriber.health.connection_count == 2
    assert subscriber.health.outage_count == 0


@pytest.mark.parametrize("way", ["connected", "started", "reading"])
def test_a_subscriber_works_on_after_an_event_loop_that_ended_without_disconnect(
    mosquitto: Mosquitto, way: str
) -> None:
    heard = Recorder()
    subscriber = MQTTSubscriber("127.0.0.1", mosquitto.port, USERNAME, PASSWORD)
    subscriber.register_handler("loops/two", heard)

    async def leave_it_so() -> None:
        await subscriber.connect()
        if way == "started":
            await subscriber.start()
        elif way == "reading":
            messages = subscriber.messages()
            reading = asyncio.ensure_future(anext(messages))
            await publish_all(mosquitto, "loops/two", ["1"])
            await reading

    async def live() -> None:
        async with subscriber:
            await subscriber.start()
            await publish_all(mosquitto, "loops/two", ["2"])
            await eventually(lambda: heard.topics)

    before = open_files()
    asyncio.run(leave_it_so())
    assert subscriber.client is None
    asyncio.run(live())
    assert open_files() <= before


def test_a_subscriber_may_be_disconnected_on_another_event_loop_than_that_which_has_ended(
    mosquitto: Mosquitto,
) -> None:
    subscriber = MQTTSubscriber("127.0.0.1", mosquitto.port, USERNAME, PASSWORD)
    asyncio.run(subscriber.connect())
    asyncio.run(subscriber.disconnect())
    assert subscriber.health.state is State.DISCONNECTED
    with pytest.raises(StateError, match="not started"):
        asyncio.run(subscriber.wait())


async def test_a_subscriber_in_use_does_not_move_to_another_event_loop() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        with pytest.raises(StateError, match="in use on another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(subscriber.disconnect()))
        assert subscriber.client is not None


# Who is told about each step


async def test_every_status_listener_is_told_until_it_is_removed() -> None:
    first, second, third = list[Status](), list[Status](), list[Status]()
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, on_status=first.append) as subscriber:
        subscriber.add_status_listener(second.append)
        subscriber.add_status_listener(third.append)
        await subscriber.connect()
        subscriber.remove_status_listener(third.append)
        subscriber.remove_status_listener(print)
        told = len(third)
        await subscriber.disconnect()
        await subscriber.connect()
    assert first == second
    assert [type(status) for status in first] == [Connecting, Connected] * 2
    assert third == first[:told]


async def test_attempts_to_connect_name_the_file_that_had_a_say_in_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[Status]()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MQTT_HOST=127.0.0.1\n")
    (tmp_path / ".env").chmod(0o600)
    settings = load_settings(mqtt_port=free_port(), mqtt_backend_password=SECRET)
    subscriber = MQTTSubscriber.from_settings(settings)
    subscriber.add_status_listener(said.append)
    with pytest.raises(BrokerUnreachableError):
        await subscriber.connect()
    assert said == [Connecting(f"127.0.0.1:{settings.port}", "MQTT_HOST from .env")]


# Misuse


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


async def test_what_was_started_cannot_be_connected_or_started_again() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        with pytest.raises(StateError, match="connected already"):
            await subscriber.connect()
        await subscriber.start()
        with pytest.raises(StateError, match="started already"):
            await subscriber.start()


async def test_wait_without_start_is_refused() -> None:
    with pytest.raises(StateError, match="not started"):
        await MQTTSubscriber("127.0.0.1").wait()


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


@pytest.mark.parametrize("topic_filter", ["", "devices/+bad/x", "a/#/b", "a\0"])
def test_a_filter_that_mqtt_forbids_is_refused_before_connecting(topic_filter: str) -> None:
    subscriber = MQTTSubscriber("127.0.0.1")
    with pytest.raises(TopicError):
        subscriber.register_handler(topic_filter, Recorder())
    assert subscriber.handlers == {}


@pytest.mark.parametrize("qos", [-1, 3])
async def test_a_qos_that_mqtt_does_not_know_is_refused(qos: int) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        await MQTTSubscriber("127.0.0.1").subscribe("a", qos=qos)


def test_where_it_connects_and_as_whom_can_be_read() -> None:
    subscriber = MQTTSubscriber("broker.invalid", 1884, "alice", SECRET)
    login = (subscriber.host, subscriber.port, subscriber.username, subscriber.password)
    assert login == ("broker.invalid", 1884, "alice", SECRET)
    assert (subscriber.client, subscriber.handlers) == (None, {})


def test_the_password_shows_neither_in_the_subscriber_nor_in_its_options() -> None:
    subscriber = MQTTSubscriber("127.0.0.1", 1884, "alice", SECRET)
    assert repr(subscriber) == "<MQTTSubscriber 127.0.0.1:1884, username='alice', disconnected>"
    assert SECRET not in repr(subscriber.options)


async def test_a_danger_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    subscriber = MQTTSubscriber("broker.invalid", 1883, "alice", SECRET, connect_timeout_seconds=0.01)
    for _ in range(2):
        with pytest.raises(BrokerError):
            await subscriber.connect()
    dangers = [record for record in caplog.records if "unencrypted" in record.getMessage()]
    assert [record.levelno for record in dangers] == [logging.WARNING]


async def test_what_ends_it_is_logged_even_if_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker(answers=[0x87])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.start()
        await eventually(lambda: subscriber.health.state is State.FAILED)
    assert "stopped listening: " in caplog.text


async def test_the_client_publishes_while_connected(mosquitto: Mosquitto) -> None:
    async with subscribing(mosquitto) as subscriber:
        assert subscriber.client is None
        await subscriber.subscribe("echo/me")
        await subscriber.connect()
        assert subscriber.client is not None
        await subscriber.client.publish("echo/me", b"7", qos=1)
        (message,) = await take(subscriber, 1)
    assert (message.topic, message.payload, message.qos) == ("echo/me", b"7", 1)
    assert subscriber.health.outages == ()


# What others do must not end the stream unseen


async def test_a_handler_that_meets_a_cancelled_future_is_counted_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = Recorder()

    async def wait_for_what_was_cancelled(_: Message) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    broker = ScriptedBroker(after_suback=one_of_each_kind("a"))
    async with serving(broker), subscribing(broker) as subscriber:
        subscriber.register_handler("devices/+/+", wait_for_what_was_cancelled)
        subscriber.register_handler("devices/+/+", heard)
        await subscriber.start()
        await eventually(lambda: len(heard.topics) == 2)
        assert subscriber.health.handler_errors == 2
    assert "wait_for_what_was_cancelled" in caplog.text


async def test_a_status_listener_that_raises_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Status) -> None:
        raise RuntimeError("the screen is gone")

    heard = Recorder()
    broker = ScriptedBroker(after_suback=one_of_each_kind("a"))
    async with serving(broker), subscribing(broker, on_status=fail) as subscriber:
        subscriber.register_handler("devices/+/+", heard)
        await subscriber.start()
        await eventually(lambda: len(heard.topics) == 2)
    assert "fail failed on Connected" in caplog.text


async def test_a_second_connect_while_the_first_is_under_way_is_refused() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        first = asyncio.create_task(subscriber.connect())
        await asyncio.sleep(0)
        with pytest.raises(StateError):
            await subscriber.connect()
        await first
        assert broker.connection_count == 1


async def test_an_outage_ends_with_the_next_connection_whoever_makes_it() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        await subscriber.start()
        broker.hang_up()
        await eventually(lambda: subscriber.health.outage_count)
        await subscriber.disconnect()
        await subscriber.connect()
        assert all(outage.ended_at for outage in subscriber.health.outages)
