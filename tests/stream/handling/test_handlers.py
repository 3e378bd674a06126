"""Who gets what."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.handlers import Handlers
from plantops_cli.stream.subscriber import MQTTSubscriber
from plantops_cli.topics import parse_pattern
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


@dataclass
class Unhashable:
    """A handler of which Python makes no hash."""

    name: str = "same"

    def __call__(self, message: Message) -> None: ...


def add(handlers: Handlers, pattern: str, handler: Any, **options: Any) -> None:
    """Register a handler."""
    handlers.add(handlers.make(parse_pattern(pattern), handler, **options))


def called(handlers: Handlers, topic: str) -> list[Any]:
    """The handlers of a topic, in the order in which they are called."""
    return [call.registration.handler for part in handlers.route(topic) for call in part.calls]


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
        dispatcher = subscriber._feeding._dispatcher
        assert dispatcher is not None
        assert list(dispatcher._ways) == [b"b"]


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


def test_a_message_that_nobody_wants_has_no_parts() -> None:
    assert Handlers().route("a") == ()


def test_a_forgotten_filter_has_no_handlers_and_a_filter_without_any_is_known() -> None:
    handlers, heard = Handlers(), Recorder()
    add(handlers, "a", heard)
    handlers.note("b")
    assert handlers.by_filter == {"a": [heard], "b": []}
    assert called(handlers, "a") == [heard]
    handlers.forget("a")
    assert (handlers.by_filter, called(handlers, "a")) == ({"b": []}, [])


def test_each_change_of_the_handlers_has_another_version() -> None:
    handlers = Handlers()
    versions = [handlers.version]
    add(handlers, "a", Recorder())
    versions.append(handlers.version)
    handlers.forget("a")
    versions.append(handlers.version)
    assert len({*versions}) == 3


def test_a_handler_that_was_only_made_gets_nothing() -> None:
    handlers = Handlers()
    handlers.make(parse_pattern("a"), Recorder())
    assert (handlers.by_filter, handlers.version, handlers.route("a")) == ({}, 0, ())


def test_those_that_take_one_message_at_a_time_take_turns_and_each_other_one_has_a_part_of_its_own() -> None:
    handlers = Handlers()
    slow, first, fast, second = Recorder(), Recorder(), Recorder(), Recorder()
    for handler, concurrency in ((slow, 5), (first, 1), (fast, 9), (second, 1)):
        add(handlers, "a", handler, concurrency=concurrency)
    parts = handlers.route("a")
    assert [[call.registration.handler for call in part.calls] for part in parts] == [
        [first, second],
        [slow],
        [fast],
    ]
    assert [part.owner and part.owner.handler for part in parts] == [None, slow, fast]


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("devices/abc/telemetry", "abc"),
        ("devices/abc/heartbeat", "abc"),
        ("devices/abc", "devices/abc"),
        ("a", "a"),
    ],
)
def test_messages_of_a_device_keep_their_order_and_so_do_those_of_any_other_topic(topic: str, key: str) -> None:
    handlers = Handlers()
    add(handlers, "#", Recorder())
    assert [part.key for part in handlers.route(topic)] == [key]


@pytest.mark.parametrize(
    ("options", "is_plain"),
    [({"blocking": False}, True), ({}, False), ({"blocking": False, "timeout_seconds": 1}, False)],
)
def test_a_single_handler_on_the_event_loop_that_may_take_any_time_is_plain(options: Any, is_plain: bool) -> None:
    handlers = Handlers()
    add(handlers, "#", Recorder(), **options)
    (part,) = handlers.route("a")
    assert (part.plain is not None) is is_plain


def test_two_handlers_for_one_topic_are_not_plain() -> None:
    handlers = Handlers()
    for _ in range(2):
        add(handlers, "#", Recorder(), blocking=False)
    assert [part.plain for part in handlers.route("a")] == [None]


def test_a_handler_of_two_filters_is_called_once_as_the_first_of_them_says() -> None:
    handlers, handler = Handlers(), Recorder()
    add(handlers, "a/{name}", handler, concurrency=3)
    add(handlers, "+/{other}", handler)
    ((call,),) = [part.calls for part in handlers.route("a/b")]
    assert (call.registration.concurrency, call.captures) == (3, {"name": "b"})


def test_a_bound_method_is_one_handler_however_often_it_is_looked_up() -> None:
    handlers, recorder = Handlers(), Recorder()
    add(handlers, "a/+", recorder.__call__)
    add(handlers, "a/#", recorder.__call__)
    assert len(called(handlers, "a/b")) == 1


def test_a_handler_needs_no_hash() -> None:
    handlers, one, same = Handlers(), Unhashable(), Unhashable()
    add(handlers, "a/+", one)
    add(handlers, "a/#", one)
    assert called(handlers, "a/b") == [one]
    assert one == same


def test_two_handlers_of_a_filter_take_its_payload_for_the_same_model() -> None:
    def of_numbers(payload: list[int]) -> None: ...
    def of_texts(payload: list[str]) -> None: ...
    def of_all(message: Message) -> None: ...

    handlers = Handlers()
    add(handlers, "devices/{name}/a", of_numbers)
    with pytest.raises(ConfigError, match=r"of_numbers and .*of_texts take 'devices/\+/a' for different models"):
        handlers.make(parse_pattern("devices/+/a"), of_texts)
    add(handlers, "devices/+/a", of_all)
    add(handlers, "devices/+/a", of_numbers)
    add(handlers, "devices/#", of_texts)


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="on_error 'drop' does not exist"):
        Handlers("drop")  # type: ignore[arg-type]  # that is the test


def test_a_handler_has_the_policy_of_all_unless_it_has_its_own() -> None:
    handlers = Handlers("keep")
    assert handlers.make(parse_pattern("a"), Recorder()).on_error == "keep"
    assert handlers.make(parse_pattern("a"), Recorder(), on_error="ack").on_error == "ack"


def test_a_handler_is_not_registered_twice_for_a_filter_with_other_options() -> None:
    mqtt = MQTTSubscriber("broker.invalid")

    async def store(_: Message) -> None: ...

    mqtt.register_handler("a/{x}", store, concurrency=2)
    mqtt.register_handler("a/+", store, concurrency=2)
    with pytest.raises(ConfigError, match="with other options already"):
        mqtt.register_handler("a/+", store)


@pytest.mark.parametrize("durable", [None, "shed"])
def test_to_keep_messages_without_a_durable_session_is_warned_of(
    durable: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    mqtt = MQTTSubscriber("broker.invalid", durable=durable)

    async def store(_: Message) -> None: ...

    mqtt.register_handler("a", store, on_error="keep")
    assert ("store keeps messages" in caplog.text) == (durable is None)


def test_an_option_that_is_misspelt_is_told_with_the_one_that_it_is_like() -> None:
    mqtt = MQTTSubscriber("broker.invalid")

    async def store(_: Message) -> None: ...

    with pytest.raises(TypeError, match="did you mean 'timeout_seconds'"):
        mqtt.register_handler("a", store, timeout_second=1)  # type: ignore[call-overload]  # that is the slip
