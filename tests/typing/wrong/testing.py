"""Tests that use the kit wrongly."""

from plantops_cli import MQTTSubscriber
from plantops_cli.testing import InMemoryBroker, Mosquitto, testing


async def test_it(mqtt: MQTTSubscriber, broker: InMemoryBroker) -> None:
    testing()  # wrong: whom?
    testing("localhost")  # wrong
    testing(mqtt, patience=5)  # wrong: patience_seconds
    broker.deliver("a", b"1")  # wrong: never awaited
    await broker.deliver(b"1")  # wrong: topics are text
    await broker.deliver("a", b"1", qos=3)  # wrong
    await broker.deliver("a", b"1", 1)  # wrong: it has a name
    await broker.lose_connection()  # wrong: it is no coroutine
    broker.settled()  # wrong: it is one
    broker.refuse_login("no")  # wrong: a code
    broker.slow("1s")  # wrong: seconds
    broker.published = []  # wrong: read only
    broker.publish("a", b"1")  # wrong: a broker delivers
    async with testing(mqtt) as wrapped:
        wrapped.deliver_all()  # wrong
        (await wrapped.deliver("a")).errors.append(None)  # wrong: a tuple


def test_a_real_one(mosquitto_broker: Mosquitto) -> None:
    MQTTSubscriber(mosquitto_broker)  # wrong: its host and port
    mosquitto_broker.start(1883)  # wrong: its port is chosen
