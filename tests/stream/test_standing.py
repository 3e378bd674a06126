"""What can be seen of a subscriber."""

from pydantic import BaseModel

from plantops_cli.messages import Message
from plantops_cli.stream.status import Connecting, Status
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.testing import testing
from tests.support.subscribing import SECRET


class Reading(BaseModel):
    """What a device sends."""

    soil_moisture: float


def test_where_it_connects_and_as_whom_can_be_read() -> None:
    subscriber = MQTTSubscriber("broker.invalid", 1884, "alice", SECRET)
    login = (subscriber.host, subscriber.port, subscriber.username, subscriber.password)
    assert login == ("broker.invalid", 1884, "alice", SECRET)
    assert (subscriber.client, subscriber.handlers) == (None, {})


def test_the_password_shows_neither_in_the_subscriber_nor_in_its_options() -> None:
    subscriber = MQTTSubscriber("127.0.0.1", 1884, "alice", SECRET)
    assert repr(subscriber) == "<MQTTSubscriber 127.0.0.1:1884, username='alice', disconnected>"
    assert SECRET not in repr(subscriber.options)


def test_the_handlers_can_be_read_by_their_filters() -> None:
    subscriber = MQTTSubscriber("broker.invalid")

    @subscriber.on("devices/{device_id}/telemetry")
    async def handle(message: Message) -> None: ...

    assert subscriber.handlers == {"devices/+/telemetry": [handle]}


async def test_what_does_not_fit_is_counted_by_device_and_else_by_topic() -> None:
    subscriber = MQTTSubscriber("broker.invalid")

    @subscriber.on("#")
    async def handle(reading: Reading) -> None: ...

    async with testing(subscriber) as broker:
        for topic in ("devices/a/telemetry", "devices/b/telemetry", "devices/a/heartbeat", "shed"):
            assert (await broker.deliver(topic, b"wet")).is_acknowledged
    assert subscriber.invalid_by_device == {"a": 2, "b": 1, "shed": 1}
    assert subscriber.health.invalid_payloads == 4


async def test_a_listener_is_told_each_step_until_it_is_removed() -> None:
    subscriber, said = MQTTSubscriber("broker.invalid"), list[Status]()
    subscriber.add_status_listener(said.append)
    async with testing(subscriber):
        assert isinstance(said[0], Connecting)
        subscriber.remove_status_listener(said.append)
        heard = len(said)
    async with testing(subscriber):
        assert len(said) == heard


def test_a_user_name_that_goes_alone_is_not_shown_whole() -> None:
    assert (
        repr(MQTTSubscriber("h", username=SECRET)) == "<MQTTSubscriber h:1883, username='hunt...', disconnected>"
    )
