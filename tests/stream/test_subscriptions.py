"""What the broker is asked for."""

import asyncio

import pytest

from plantops_cli.errors import (
    BrokerError,
    ConfigError,
    HeldUpError,
    SubscriptionRefusedError,
    TopicError,
)
from plantops_cli.messages import Message, QoS
from plantops_cli.stream.status import State
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import Mosquitto
from tests.support.scripted_broker import (
    DISCONNECT,
    SUBSCRIBE,
    ScriptedBroker,
    connack,
    filters_of,
    properties_of,
    publish,
    serving,
    suback,
)
from tests.support.subscribing import (
    Recorder,
    eventually,
    publish_all,
    subscribing,
)


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


FEW_BYTES = 64 * 1024
"""Less than these messages take."""


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
    async with serving(broker), subscribing(broker, connect_timeout_seconds=2) as subscriber:
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


@pytest.mark.parametrize("topic_filter", ["", "devices/+bad/x", "a/#/b", "a\0"])
def test_a_filter_that_mqtt_forbids_is_refused_before_connecting(topic_filter: str) -> None:
    subscriber = MQTTSubscriber("127.0.0.1")
    with pytest.raises(TopicError):
        subscriber.register_handler(topic_filter, Recorder())
    assert subscriber.handlers == {}


@pytest.mark.parametrize("qos", [-1, 3])
async def test_a_qos_that_mqtt_does_not_know_is_refused(qos: QoS) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        await MQTTSubscriber("127.0.0.1").subscribe("a", qos=qos)


async def test_a_broker_that_takes_a_lower_qos_alone_is_asked_for_that_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = ScriptedBroker(answers=[connack(0, version=5, properties=properties_of(MaximumQoS=0))])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        for name in ("a", "b"):
            await subscriber.subscribe(name)
    assert [filters_of(packet.body) for packet in broker.of_kind(SUBSCRIBE)] == [[("a", 0)], [("b", 0)]]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"127.0.0.1:{broker.port}: the broker takes QoS 0 at most: subscribed so, not at QoS 1"]


# Groups where nothing tells whether the broker shares

BAD_VERSION = 0x84


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "shared" in record.getMessage()]


@pytest.mark.parametrize(("group", "name"), [("barn", "a"), (None, "$share/barn/a")])
async def test_a_group_on_a_broker_that_does_not_speak_mqtt_5_is_refused_and_not_asked_for(
    group: str | None, name: str
) -> None:
    broker = ScriptedBroker(answers=[BAD_VERSION, 0])
    async with serving(broker), subscribing(broker, group=group) as subscriber:
        subscriber.register_handler(name, Recorder())
        with pytest.raises(SubscriptionRefusedError, match=r"MQTT 3\.1\.1 has no shared subscriptions") as caught:
            await subscriber.connect()
        assert caught.value.filters == {"$share/barn/a": 0x9E}
        assert "group_anyway=True" in str(caught.value.hint)
        assert broker.of_kind(SUBSCRIBE) == []


async def test_a_group_on_a_broker_that_was_merely_slow_is_told_how_to_wait_for_it() -> None:
    broker = ScriptedBroker(answers=[None, 0])
    async with serving(broker), subscribing(broker, group="barn", connect_timeout_seconds=2) as subscriber:
        subscriber.register_handler("a", Recorder())
        with pytest.raises(SubscriptionRefusedError, match=r"did not answer MQTT 5 within \S+ s") as caught:
            await subscriber.connect()
        assert "mqtt_version='5'" in str(caught.value.hint)


async def test_a_group_is_refused_again_where_mqtt_3_1_1_is_known_from_an_earlier_connection() -> None:
    broker = ScriptedBroker(answers=[BAD_VERSION, 0])
    async with serving(broker), subscribing(broker, group="barn") as subscriber:
        await subscriber.connect()
        for _ in range(2):
            with pytest.raises(SubscriptionRefusedError):
                await subscriber.subscribe("a")
        await subscriber.disconnect()
        subscriber.register_handler("a", Recorder())
        with pytest.raises(SubscriptionRefusedError):
            await subscriber.connect()


async def test_a_group_whose_session_is_resumed_with_mqtt_3_1_1_is_refused_too() -> None:
    kept = b"\x20\x02\x01\x00"
    broker = ScriptedBroker(answers=[BAD_VERSION, kept])
    async with serving(broker), subscribing(broker, group="barn", durable="shed") as subscriber:
        subscriber.register_handler("a", Recorder())
        await subscriber.start()
        with pytest.raises(SubscriptionRefusedError, match=r"MQTT 3\.1\.1 has no shared subscriptions"):
            await subscriber.wait()
    assert broker.of_kind(SUBSCRIBE) == []


async def test_who_insists_on_a_group_gets_it_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker(answers=[BAD_VERSION, 0])
    async with serving(broker), subscribing(broker, group="barn", group_anyway=True) as subscriber:
        await subscriber.connect()
        assert await subscriber.subscribe("a") == 1
        assert await subscriber.subscribe("b") == 1
    assert len(warnings_of(caplog)) == 1
    assert "nothing comes" in warnings_of(caplog)[0]


async def test_who_chooses_mqtt_3_1_1_gets_a_group_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker, group="barn", mqtt_version="3.1.1") as subscriber:
        await subscriber.connect()
        assert await subscriber.subscribe("a") == 1
    assert b"$share/barn/a" in broker.of_kind(SUBSCRIBE)[0].body
    assert len(warnings_of(caplog)) == 1


async def test_without_a_group_mqtt_3_1_1_is_worth_no_word(caplog: pytest.LogCaptureFixture) -> None:
    broker = ScriptedBroker(answers=[BAD_VERSION, 0])
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.connect()
        assert await subscriber.subscribe("a") == 1
    assert warnings_of(caplog) == []


async def test_a_broker_that_says_that_it_does_not_share_is_asked_by_who_insists_alone() -> None:
    said = properties_of(SharedSubscriptionAvailable=0)
    for is_forced in (False, True):
        broker = ScriptedBroker(answers=[connack(0, version=5, properties=said)])
        async with serving(broker), subscribing(broker, group="barn", group_anyway=is_forced) as subscriber:
            await subscriber.connect()
            if is_forced:
                assert await subscriber.subscribe("a") == 1
            else:
                with pytest.raises(SubscriptionRefusedError) as caught:
                    await subscriber.subscribe("a")
                assert caught.value.filters == {"$share/barn/a": 0x9E}
            assert len(broker.of_kind(SUBSCRIBE)) == is_forced


async def test_mosquitto_shares_with_mqtt_3_1_1_too(mosquitto: Mosquitto) -> None:
    heard = Recorder()
    async with subscribing(mosquitto, group="barn", mqtt_version="3.1.1") as subscriber:
        await subscriber.connect()
        await subscriber.subscribe("a", heard)
        await subscriber.start()
        await publish_all(mosquitto, "a", ["1"])
        await eventually(lambda: heard.topics)
