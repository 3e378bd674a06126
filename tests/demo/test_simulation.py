import asyncio
import random
from typing import NamedTuple

import pytest

from plantops_cli.demo.brokers import DemoBroker
from plantops_cli.demo.plants import DEVICE_IDS, RETAINED_DEVICES, make_plants
from plantops_cli.demo.simulation import publish_fleet
from plantops_cli.topics import parse_topic
from tests.support import wire


class Sent(NamedTuple):
    topic: str
    qos: int
    retain: bool


class Recorder:
    def __init__(self, *, enough: int) -> None:
        self.sent: list[Sent] = []
        self.is_enough = asyncio.Event()
        self._enough = enough

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        self.sent.append(Sent(topic, qos, retain))
        if len(self.sent) >= self._enough:
            self.is_enough.set()


async def run_until(event: asyncio.Event, publisher: Recorder) -> None:
    fleet = asyncio.create_task(publish_fleet(publisher, make_plants(random.Random(7))))
    try:
        async with asyncio.timeout(20):
            await event.wait()
    finally:
        fleet.cancel()
        await asyncio.gather(fleet, return_exceptions=True)


async def test_the_fleet_publishes_at_qos_1_and_keeps_on() -> None:
    recorder = Recorder(enough=12)
    await run_until(recorder.is_enough, recorder)
    assert {sent.qos for sent in recorder.sent} == {1}
    assert recorder.sent[0].retain


async def test_a_publisher_that_fails_ends_the_fleet_with_its_error() -> None:
    class Broken:
        async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await publish_fleet(Broken(), make_plants(random.Random(7)))


async def test_a_subscriber_hears_every_device_of_the_fleet(broker: DemoBroker) -> None:
    async with (
        wire.client(broker.port, client_id=b"ear") as ear,
        wire.client(broker.port, client_id=b"mouth") as mouth,
    ):
        await ear.subscribe("devices/#")
        fleet = asyncio.create_task(publish_fleet(mouth, make_plants(random.Random(7))))
        heard: set[str] = set()
        while heard != set(DEVICE_IDS):
            topic, _, _ = await ear.receive()
            heard.add(parse_topic(topic).device_id)
        fleet.cancel()
        await asyncio.gather(fleet, return_exceptions=True)


async def test_a_newcomer_gets_the_retained_heartbeats_marked(broker: DemoBroker) -> None:
    async with wire.client(broker.port, client_id=b"mouth") as mouth:
        fleet = asyncio.create_task(publish_fleet(mouth, make_plants(random.Random(7))))
        await asyncio.sleep(0.3)
        async with wire.client(broker.port, client_id=b"newcomer") as newcomer:
            await newcomer.subscribe("devices/+/heartbeat")
            found = [await newcomer.receive() for _ in RETAINED_DEVICES]
        fleet.cancel()
        await asyncio.gather(fleet, return_exceptions=True)
    assert {parse_topic(topic).device_id for topic, _, retained in found if retained} == RETAINED_DEVICES
