"""Who gets what."""

import asyncio

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.stream.handlers import Handlers
from tests.support.scripted_broker import (
    ScriptedBroker,
    publish,
    serving,
)
from tests.support.subscribing import (
    Recorder,
    eventually,
    one_of_each_kind,
    subscribing,
)


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


async def test_whether_a_message_was_handled_is_told_and_failures_are_counted() -> None:
    def fail(_: Message) -> None:
        raise ValueError("oops")

    handlers, heard = Handlers(), Recorder()
    handlers.add("#", heard)
    assert await handlers.dispatch(Message.of("a"))
    handlers.add("a", fail)
    assert not await handlers.dispatch(Message.of("a"))
    assert await handlers.dispatch(Message.of("b"))
    assert (heard.topics, handlers.failure_count) == (["a", "a", "b"], 1)


async def test_a_message_that_nobody_wants_is_handled() -> None:
    assert await Handlers().dispatch(Message.of("a"))


async def test_a_cancelled_dispatch_ends_and_counts_no_failure() -> None:
    handlers = Handlers()
    handlers.add("a", lambda _: asyncio.sleep(60))
    dispatching = asyncio.create_task(handlers.dispatch(Message.of("a")))
    await asyncio.sleep(0)
    dispatching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dispatching
    assert handlers.failure_count == 0


def test_a_forgotten_filter_has_no_handlers_and_a_filter_without_any_is_known() -> None:
    handlers, heard = Handlers(), Recorder()
    handlers.add("a", heard)
    handlers.add("b", None)
    assert handlers.by_filter == {"a": [heard], "b": []}
    assert handlers.route("a") == (heard,)
    handlers.forget("a")
    assert handlers.route("a") == ()


def test_what_becomes_of_a_failed_message_is_ack_or_keep() -> None:
    assert [Handlers(way).keeps_failed for way in ("ack", "keep")] == [False, True]
    with pytest.raises(ConfigError, match="on_error 'drop' does not exist"):
        Handlers("drop")
