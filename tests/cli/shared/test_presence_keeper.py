"""The consumer of the commands that show a fleet."""

import asyncio

from plantops_cli.cli.shared.presence_keeper import PresenceKeeper
from plantops_cli.fleet.presence import Presence
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.samples import batch_of, message


async def test_what_comes_shows_in_the_next_look() -> None:
    mqtt = MQTTSubscriber("127.0.0.1", on_status=lambda _: None)
    keeper = PresenceKeeper(mqtt, Presence(roster=["a", "b"]))
    batch = batch_of(message(topic="devices/a/heartbeat"), message(topic="elsewhere"))
    await keeper.take(batch, stopped=asyncio.Event())
    look = keeper.look()
    assert (look.messages, look.passed_over, look.missing) == (2, 1, ["b"])
    assert (look.listened_seconds, look.outages) == (0, 0)


def test_no_handler_of_its_own_hears_a_message_a_second_time() -> None:
    mqtt = MQTTSubscriber("127.0.0.1", on_status=lambda _: None)
    PresenceKeeper(mqtt, Presence())
    assert mqtt.handlers == {}
