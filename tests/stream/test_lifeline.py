"""One session after another."""

import asyncio
import logging
from contextlib import aclosing

import aiomqtt
import pytest

from plantops_cli.errors import (
    BrokerError,
    BrokerUnreachableError,
    CredentialsRefusedError,
    StateError,
)
from plantops_cli.stream.status import Connected, Retrying, State, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto, free_port
from tests.support.scripted_broker import (
    CLOSE,
    CONNECT,
    DISCONNECT,
    PUBREC,
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import (
    SECRET,
    Recorder,
    eventually,
    open_files,
    publish_all,
    subscribing,
)

KICK = b"\xe0\x02\x8b\x00"


async def test_start_without_connect_keeps_trying_until_a_broker_appears() -> None:
    said: list[Status] = []
    broker = ScriptedBroker(port=free_port())
    async with subscribing(broker, on_status=said.append) as subscriber:
        await subscriber.start()
        await eventually(lambda: any(isinstance(status, Retrying) for status in said))
        async with serving(broker):
            await eventually(lambda: subscriber.health.state is State.CONNECTED)
            assert subscriber.health.outage_count == 0


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


async def test_what_stands_in_the_way_is_known_step_by_step() -> None:
    broker = ScriptedBroker(answers=[None, 0], subacks=[None, "grant"])
    async with (
        serving(broker),
        subscribing(broker, mqtt_version="5", connect_timeout_seconds=2) as subscriber,
    ):
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


async def test_a_danger_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    subscriber = MQTTSubscriber("broker.invalid", 1883, "alice", SECRET, connect_timeout_seconds=0.01)
    for _ in range(2):
        with pytest.raises(BrokerError):
            await subscriber.connect()
    dangers = [record for record in caplog.records if "unencrypted" in record.getMessage()]
    assert [record.levelno for record in dangers] == [logging.WARNING]


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


async def read_into(recorder: Recorder, subscriber: MQTTSubscriber) -> None:
    async for message in subscriber.messages():
        recorder(message)


async def test_messages_are_acknowledged_each_when_the_next_one_is_asked_for() -> None:
    numbered = [publish(b"a", qos=1, mid=mid) for mid in (1, 2)] + [publish(b"a", qos=2, mid=3), publish(b"end")]
    broker = ScriptedBroker(subacks=[[2]], after_suback=b"".join(numbered))
    async with serving(broker), subscribing(broker) as subscriber:
        await subscriber.subscribe("#", qos=2)
        async with aclosing(subscriber.messages()) as messages:
            for mid in (1, 2, 3):
                assert (await anext(messages)).mid == mid
                before = [1, 2][: mid - 1]
                await eventually(lambda before=before: broker.acknowledged == before)  # type: ignore[misc]  # bound early
                await asyncio.sleep(0.02)
                assert broker.acknowledged == before
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
    assert (subscriber.client, subscriber.health.state) == (None, State.DISCONNECTED)
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
