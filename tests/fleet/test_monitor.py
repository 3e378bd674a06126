"""A presence that follows a subscriber, on a real broker and step by step."""

import time
from contextlib import aclosing

from plantops_cli import DeviceState, FleetMonitor, Message, MQTTSubscriber, Presence
from plantops_cli.errors import ConnectionLostError
from plantops_cli.fleet.monitor import SETTLING_SECONDS, clock_offset_seconds
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.hearing import LATE_SECONDS
from plantops_cli.stream.status import Connected, Lost, Status
from plantops_cli.testing import testing
from tests.support.brokers import Mosquitto
from tests.support.scripted_broker import ScriptedBroker, publish, serving
from tests.support.subscribing import eventually, publish_all, subscribing

CONNECTED = Connected("127.0.0.1:1883", "5", {})
LOST = Lost(ConnectionLostError("the broker went away", endpoint="127.0.0.1:1883"))
PUBLISH, RETAINED, DUP = 0x30, 0x31, 0x3A
SILENCE_SECONDS = 0.3


def never_connected(presence: Presence | None = None) -> FleetMonitor:
    return FleetMonitor.follow(MQTTSubscriber("127.0.0.1"), presence=presence)


def batch_of(*packets: tuple[int, bytes]) -> Batch:
    return Batch([Read(0, [(first, topic, 0, b"", b"{}") for first, topic in packets])])


def message(topic: bytes) -> Message:
    return batch_of((PUBLISH, topic))[0]


def states(monitor: FleetMonitor) -> dict[str, DeviceState]:
    return {report.device_id: report.state for report in monitor.presence.reports(monitor.now)}


async def test_one_call_is_enough_to_hear_both_topics() -> None:
    mqtt = MQTTSubscriber("broker.invalid")
    monitor = FleetMonitor.follow(mqtt)
    async with testing(mqtt) as broker:
        await broker.deliver("devices/a/telemetry", {})
        await broker.deliver("devices/a/heartbeat")
        (report,) = monitor.presence.reports(monitor.now)
        assert report.state is DeviceState.ONLINE
        assert report.last_telemetry
        assert report.last_heartbeat
        assert monitor.listened_seconds > 0


async def test_a_reader_of_batches_hands_them_on_without_handlers(own_mosquitto: Mosquitto) -> None:
    async with subscribing(own_mosquitto) as mqtt:
        monitor = FleetMonitor.follow(mqtt, has_handlers=False)
        assert not mqtt.handlers
        await mqtt.subscribe("devices/#")
        await mqtt.connect()
        await publish_all(own_mosquitto, "devices/a/heartbeat", ["1"])
        async with aclosing(mqtt.batches()) as batches:
            monitor.take(await anext(batches))
        assert states(monitor) == {"a": DeviceState.ONLINE}


async def test_an_outage_is_noticed_and_held_against_no_device(own_mosquitto: Mosquitto) -> None:
    async with subscribing(own_mosquitto) as mqtt:
        monitor = FleetMonitor.follow(mqtt, presence=Presence(offline_after_seconds=60))
        await mqtt.connect()
        await mqtt.start()
        own_mosquitto.stop()
        await eventually(lambda: mqtt.health.outage_count)
        listened = monitor.listened_seconds
        assert monitor.listened_seconds == listened > 0
        own_mosquitto.start()
        await eventually(lambda: mqtt.health.connection_count == 2)
        assert monitor.listened_seconds >= listened
        await publish_all(own_mosquitto, "devices/a/heartbeat", ["1"])
        await eventually(lambda: states(monitor) == {"a": DeviceState.ONLINE})


async def test_who_follows_a_connected_subscriber_listens_from_then_on() -> None:
    mqtt = MQTTSubscriber("broker.invalid")
    async with testing(mqtt):
        monitor = FleetMonitor.follow(mqtt)
        assert monitor.listened_seconds > 0


async def test_the_listener_of_the_constructor_and_each_monitor_are_told() -> None:
    steps: list[Status] = []
    mqtt = MQTTSubscriber("broker.invalid", on_status=steps.append)
    one, other = FleetMonitor.follow(mqtt), FleetMonitor.follow(mqtt)
    async with testing(mqtt):
        assert any(isinstance(step, Connected) for step in steps)
        assert one.listened_seconds > 0
        assert other.listened_seconds > 0


def test_the_time_of_an_outage_is_no_silence() -> None:
    monitor = never_connected(Presence(offline_after_seconds=SILENCE_SECONDS))
    monitor.on_status(CONNECTED)
    monitor.handle(message(b"devices/a/telemetry"))
    monitor.on_status(LOST)
    time.sleep(SILENCE_SECONDS * 1.1)
    monitor.on_status(CONNECTED)
    assert states(monitor) == {"a": DeviceState.ONLINE}


def test_the_time_after_a_disconnect_of_our_own_is_no_silence() -> None:
    monitor = never_connected(Presence(offline_after_seconds=SILENCE_SECONDS))
    monitor.on_status(CONNECTED)
    monitor.handle(message(b"devices/a/telemetry"))
    time.sleep(SILENCE_SECONDS * 1.1)
    monitor.on_status(CONNECTED)
    assert states(monitor) == {"a": DeviceState.ONLINE}
    assert monitor.listened_seconds < SILENCE_SECONDS


def test_while_nothing_is_heard_of_the_broker_nobody_is_declared_silent() -> None:
    monitor = never_connected(Presence(offline_after_seconds=0.01))
    monitor.on_status(CONNECTED)
    monitor.handle(message(b"devices/a/telemetry"))
    time.sleep(0.02)
    assert states(monitor) == {"a": DeviceState.ONLINE}


async def test_the_time_in_which_this_program_stood_still_is_no_silence() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as mqtt:
        monitor = FleetMonitor.follow(mqtt, presence=Presence(offline_after_seconds=1))
        await mqtt.connect()
        await mqtt.start()
        for _ in range(2):
            await broker.send(publish(b"devices/a/telemetry"))
            await broker.send(publish(b"devices/b/heartbeat"))
        await eventually(lambda: monitor.presence.message_count == 4)
        monitor.presence.changes(monitor.now)
        time.sleep(LATE_SECONDS + 0.5)  # nothing is to go on
        await broker.send(publish(b"devices/a/telemetry"))
        await eventually(lambda: monitor.presence.message_count == 5)
        assert monitor.presence.changes(monitor.now) == []
        assert monitor.listened_seconds < LATE_SECONDS


def test_what_came_last_is_certain_only_when_it_has_had_time_to_be_read() -> None:
    monitor = never_connected()
    monitor.on_status(CONNECTED)
    monitor.handle(message(b"devices/a/telemetry"))
    certain_at = monitor.presence.certain_at
    [report] = monitor.presence.reports(monitor.now)
    assert certain_at is not None
    assert report.last_telemetry is not None
    assert certain_at < report.last_telemetry
    time.sleep(SETTLING_SECONDS * 1.1)
    assert monitor.now == monitor.presence.certain_at == report.last_telemetry


def test_what_the_network_held_back_is_held_against_no_device() -> None:
    monitor = never_connected(Presence(offline_after_seconds=SILENCE_SECONDS))
    monitor.on_status(CONNECTED)
    both = batch_of((PUBLISH, b"devices/a/telemetry"), (PUBLISH, b"devices/b/telemetry"))
    monitor.take(both)
    time.sleep(SETTLING_SECONDS + SILENCE_SECONDS)
    monitor.take(both)
    assert [change.state for change in monitor.presence.changes(monitor.now)] == [DeviceState.ONLINE] * 2


def test_of_a_batch_only_what_is_live_proves_anything() -> None:
    monitor = never_connected()
    monitor.take(
        batch_of(
            (PUBLISH, b"devices/live/telemetry"),
            (RETAINED, b"devices/kept/telemetry"),
            (DUP, b"devices/again/telemetry"),
        )
    )
    assert states(monitor) == {
        "live": DeviceState.ONLINE,
        "kept": DeviceState.NEVER_SEEN,
        "again": DeviceState.NEVER_SEEN,
    }


def test_a_loss_before_any_connection_is_none() -> None:
    monitor = never_connected()
    monitor.on_status(LOST)
    assert monitor.listened_seconds == 0.0


def test_its_clock_is_that_of_the_wall_moved_by_the_offset() -> None:
    assert abs(never_connected().now + clock_offset_seconds() - time.time()) < 5
