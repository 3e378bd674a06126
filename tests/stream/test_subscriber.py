"""The whole subscriber: how it is used, and how it ends."""

import asyncio
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from plantops_cli.errors import (
    BrokerUnreachableError,
    ConfigError,
    StateError,
    TopicError,
)
from plantops_cli.messages import Message
from plantops_cli.stream.status import State
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import Mosquitto, free_port
from tests.support.scripted_broker import (
    CONNECT,
    DISCONNECT,
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import (
    Recorder,
    eventually,
    subscribing,
    take,
)

END_SECONDS = 5.0

SCREEN_LINES, SCREEN_COLUMNS = 24, 80
PUBLIC = [name for name in vars(MQTTSubscriber) if not name.startswith("_")]


def lines_on_screen(text: str) -> int:
    """How many lines a text takes, with those that are too long for the screen wrapped."""
    return sum(max(1, -(-len(line) // SCREEN_COLUMNS)) for line in text.splitlines())


def help_of(name: str) -> str:
    """What pydoc shows, as it did before Python 3.13, which gives each parameter a line of its own."""
    member = getattr(MQTTSubscriber, name)
    awaited = "async " if inspect.iscoroutinefunction(member) else ""
    head = f"{awaited}{name}{inspect.signature(member)}\n" if callable(member) else ""
    return f"Help on {name}:\n\n{head}{textwrap.indent(inspect.getdoc(member) or '', ' ' * 4)}"


@pytest.mark.parametrize("name", PUBLIC)
def test_the_help_of_each_method_fits_a_screen(name: str) -> None:
    text = help_of(name)
    assert lines_on_screen(text) <= SCREEN_LINES, text


def test_what_is_said_of_the_class_itself_fits_two_screens() -> None:
    text = textwrap.indent(inspect.getdoc(MQTTSubscriber) or "", " |  ")
    assert lines_on_screen(text) <= 2 * SCREEN_LINES, text


def test_what_is_no_handler_is_refused_and_its_topics_are_not_subscribed() -> None:
    subscriber = MQTTSubscriber("127.0.0.1")
    nothing: Any = None  # as a decorator returns it that forgets its `return`
    with pytest.raises(ConfigError, match="a handler of type NoneType cannot be called"):
        subscriber.register_handler("a", nothing)
    with pytest.raises(ConfigError, match="a handler of type NoneType cannot be called"):
        subscriber.on("a")(nothing)
    assert subscriber.handlers == {}


def test_a_decorator_without_a_pattern_is_refused_at_once() -> None:
    decorate: Any = MQTTSubscriber("127.0.0.1").on
    with pytest.raises(TopicError, match="a topic filter is text, not of type function"):
        decorate(lambda message: None)


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


async def test_a_second_connect_while_the_first_is_under_way_is_refused() -> None:
    broker = ScriptedBroker()
    async with serving(broker), subscribing(broker) as subscriber:
        first = asyncio.create_task(subscriber.connect())
        await asyncio.sleep(0)
        with pytest.raises(StateError):
            await subscriber.connect()
        await first
        assert broker.connection_count == 1
