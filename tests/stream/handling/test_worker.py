"""What becomes of a message in the hands of a worker, whatever its handlers do."""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from plantops_cli.errors import ConnectionLostError, HandlerTimeoutError, PayloadError, StateError
from plantops_cli.messages import Message
from plantops_cli.stream.handling import worker as module
from plantops_cli.stream.handling.policy import Retry, dead_letter
from plantops_cli.stream.handling.turns import TURNS_BETWEEN
from tests.support.handling import Engine, engine, packet
from tests.support.subscribing import Recorder, eventually

SOON = Retry(3, backoff=0)


class Failing:
    """A handler that raises so often, and keeps account of the topics it was called with."""

    def __init__(self, times: int = 10**9, error: BaseException | None = None) -> None:
        self.left = times
        self.error = error or ValueError("oops")
        self.topics: list[str] = []

    def __call__(self, message: Message) -> None:
        self.topics.append(message.topic)
        self.left -= 1
        if self.left >= 0:
            raise self.error


class OwnError(BaseException):
    """What a test framework may raise."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave handlers alone soon that do not end, so that the tests are quick."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.02)


async def handle(made: Engine, *topics: str) -> None:
    """Let messages be handled until all of them are acknowledged."""
    first = len(made.connection.acknowledged) + 1
    await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(topics, first)))
    await eventually(lambda: len(made.connection.acknowledged) == first - 1 + len(topics))


# How handlers are called


def in_thread(heard: list[str]) -> Callable[[Message], object]:
    return lambda message: heard.append(f"{message.topic} {threading.current_thread() is threading.main_thread()}")


def in_coroutine(heard: list[str]) -> Callable[[Message], object]:
    async def wait(message: Message) -> None:
        await asyncio.sleep(0)
        in_thread(heard)(message)

    return wait


def in_lambda(heard: list[str]) -> Callable[[Message], object]:
    return lambda message: in_coroutine(heard)(message)


@pytest.mark.parametrize(
    ("make", "options", "is_main"),
    [
        (in_thread, {}, False),
        (in_thread, {"blocking": False}, True),
        (in_thread, {"timeout_seconds": 30}, False),
        (in_coroutine, {}, True),
        (in_coroutine, {"timeout_seconds": 30}, True),
        (in_lambda, {}, True),
        (in_lambda, {"blocking": False}, True),
    ],
)
@pytest.mark.parametrize("concurrency", [1, 5])
async def test_each_kind_of_handler_gets_all_messages_in_its_order_where_it_is_to_run(
    make: Callable[[list[str]], Callable[[Message], object]], options: Any, is_main: bool, concurrency: int
) -> None:
    heard: list[str] = []
    async with engine() as made:
        made.on("devices/+/telemetry", make(heard), concurrency=concurrency, **options)
        await handle(made, *["devices/abc/telemetry"] * 50)
        assert made.tally.failures == 0
    assert heard == [f"devices/abc/telemetry {is_main}"] * 50


@pytest.mark.parametrize("options", [{}, {"blocking": False}, {"timeout_seconds": 30}, {"concurrency": 3}])
@pytest.mark.parametrize("make", [lambda message: message.topic, lambda message: asyncio.sleep(0, "topic")])
async def test_a_handler_that_returns_something_has_handled_its_message_and_is_told_once(
    make: Any, options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine() as made:
        made.on("#", make, **options)
        await handle(made, *"abc")
    assert caplog.text.count("returned a value of type str, which is ignored") == 1


async def test_quick_messages_share_a_thread_until_one_fails() -> None:
    handler = Failing(1)
    async with engine() as made:
        made.on("#", handler, on_error=SOON)
        await handle(made, *["a"] * 30)
        assert (made.tally.failures, made.tally.retries) == (1, 1)
    assert handler.topics == ["a"] * 31


async def test_one_that_blocks_for_long_lets_the_ones_before_it_be_acknowledged() -> None:
    may_end = threading.Event()
    async with engine() as made:
        made.on("#", lambda message: may_end.wait(30) and None if message.topic == "slow" else None)
        await made.take(packet("a", mid=1), packet("b", mid=2), packet("slow", mid=3), packet("c", mid=4))
        await asyncio.sleep(0.01)
        may_end.set()
        await eventually(lambda: made.connection.acknowledged == [1, 2, 3, 4])


# Handlers that fail


@pytest.mark.parametrize("options", [{}, {"blocking": False}, {"concurrency": 2}, {"timeout_seconds": 30}])
@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        asyncio.CancelledError(),
        SystemExit(3),
        StopIteration(),
        GeneratorExit(),
        OwnError(),
        TimeoutError(),
    ],
)
async def test_whatever_a_handler_raises_is_counted_and_the_stream_goes_on(
    error: BaseException, options: Any
) -> None:
    heard = Recorder()
    async with engine() as made:
        made.on("#", Failing(1, error), **options)
        made.on("#", heard)
        await handle(made, "a", "b")
        assert (made.tally.failures, made.tally.timeouts) == (1, 0)
    assert heard.topics == ["a", "b"]


@pytest.mark.parametrize(
    "error", [ValueError(), asyncio.CancelledError(), SystemExit(3), GeneratorExit(), OwnError()]
)
@pytest.mark.parametrize("options", [{}, {"concurrency": 2}, {"timeout_seconds": 30}])
async def test_whatever_a_coroutine_raises_is_counted_and_the_stream_goes_on(
    error: BaseException, options: Any
) -> None:
    async def fail(_: Message) -> None:
        await asyncio.sleep(0)
        raise error

    async with engine() as made:
        made.on("#", fail, **options)
        await handle(made, "a", "b")
        assert made.tally.failures == 2


@pytest.mark.parametrize("options", [{}, {"concurrency": 2}, {"timeout_seconds": 30}])
async def test_a_handler_that_cancels_its_own_task_has_failed(options: Any) -> None:
    async def cancel_itself(message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with engine() as made:
        made.on("a", cancel_itself, **options)
        made.on("b", Recorder())
        await handle(made, "a", "b", "a")
        assert made.tally.failures == 2


async def test_a_message_is_handled_by_the_others_although_one_handler_fails_and_only_that_is_called_again() -> (
    None
):
    failing, heard = Failing(2), Recorder()
    async with engine() as made:
        made.on("#", failing, on_error=SOON)
        made.on("#", heard)
        await handle(made, "a")
    assert (failing.topics, heard.topics) == (["a"] * 3, ["a"])


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}, {"blocking": False}])
async def test_a_handler_is_called_so_often_and_then_the_message_counts_as_handled(options: Any) -> None:
    failing = Failing()
    async with engine() as made:
        made.on("#", failing, on_error=SOON, **options)
        await handle(made, "a")
        assert (made.tally.failures, made.tally.retries) == (3, 2)
    assert failing.topics == ["a"] * 3


async def test_each_handler_of_a_message_has_its_own_policy() -> None:
    ended: list[str] = []
    first, second = Failing(), Failing()
    async with engine() as made:
        made.on("#", first, on_error=Retry(2, backoff=0, then=lambda *_: ended.append("first")))
        made.on("#", second, on_error=Retry(4, backoff=0, then=lambda *_: ended.append("second")))
        await handle(made, "a")
    assert (len(first.topics), len(second.topics), ended) == (2, 4, ["first", "second"])


@pytest.mark.parametrize("backoff", [lambda _: "soon", lambda _: 1 / 0, lambda _: float("nan")])
async def test_no_further_attempt_is_made_when_the_backoff_fails(
    backoff: Any, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing()
    async with engine() as made:
        made.on("#", failing, on_error=Retry(5, backoff=backoff))
        await handle(made, "a")
    assert failing.topics == ["a"]
    assert "the backoff of a Retry failed" in caplog.text


async def test_a_function_that_meets_no_event_loop_is_told_where_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    async with engine() as made:
        made.on("#", lambda _: asyncio.get_running_loop())
        await handle(made, "a")
    assert "blocking=False calls it on the event loop" in caplog.text


async def test_the_hint_of_an_error_of_ours_is_told_with_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    def publish_as_if_at_home(_: Message) -> None:
        raise StateError("in use on another event loop", hint="call it there")

    async with engine() as made:
        made.on("#", publish_as_if_at_home)
        await handle(made, "a")
    assert "on a message of 'a' (call it there)" in caplog.text


async def test_what_waits_for_a_thread_does_not_take_too_long() -> None:
    heard: list[str] = []

    def block(message: Message) -> None:
        heard.append(message.topic)
        time.sleep(0.1)

    async with engine(threads=1) as made:
        made.on("#", block, concurrency=6, timeout_seconds=0.3, key=lambda message: message.topic)
        await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate("abcdef", 1)))
        await eventually(lambda: len(made.connection.acknowledged) == 6)
        assert (sorted(heard), made.tally.failures) == (["a", "b", "c", "d", "e", "f"], 0)


# What follows on the last attempt


async def told_async(told: list[Any], message: Message, error: BaseException) -> None:
    told.append((message.topic, str(error)))


def told_sync(told: list[Any], message: Message, error: BaseException) -> None:
    told.append((message.topic, str(error)))


@pytest.mark.parametrize(
    "tell", [told_async, told_sync, lambda *args: told_async(*args)], ids=["async", "def", "lambda"]
)
async def test_a_callback_is_told_of_the_message_and_the_last_error_once(tell: Any) -> None:
    told: list[Any] = []
    async with engine() as made:
        made.on("#", Failing(), on_error=Retry(2, backoff=0, then=partial(tell, told)))
        await handle(made, "a")
    assert told == [("a", "oops")]


@pytest.mark.parametrize(
    "error", [ValueError(), asyncio.CancelledError(), SystemExit(), GeneratorExit(), OwnError()]
)
async def test_a_callback_that_raises_is_counted_and_the_message_counts_as_handled(error: BaseException) -> None:
    def fail(message: Message, _: BaseException) -> None:
        raise error

    async with engine() as made:
        made.on("#", Failing(), on_error=Retry(1, then=fail))
        await handle(made, "a")
        assert made.tally.failures == 2


async def test_a_dead_letter_is_the_message_as_it_came_and_tells_why() -> None:
    async with engine() as made:
        made.on("#", Failing(), on_error=Retry(2, backoff=0, then=dead_letter("dead")))
        await handle(made, "a")
        assert made.tally.dead_letters == 1
        ((topic, payload, options),) = made.published
    assert (topic, payload) == ("dead", b"")
    assert options["properties"]["user-properties"] == {"topic": "a", "error": "ValueError: oops", "count": "2"}


async def test_a_dead_letter_has_no_properties_where_there_are_none() -> None:
    async with engine() as made:
        made.connection.has_properties = False
        made.on("#", Failing(), on_error=Retry(1, then=dead_letter("dead")))
        await handle(made, "a")
        assert [options["properties"] for _, _, options in made.published] == [None]


async def test_a_message_is_kept_whose_dead_letter_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with engine(is_durable=True) as made:
        made.refusal = ConnectionLostError("broker: not now", endpoint="broker")
        made.on("#", Failing(), on_error=Retry(1, then=dead_letter("dead")))
        await made.take(packet("a", mid=1))
        await eventually(lambda: made.connection.is_given_up)
        assert (made.connection.acknowledged, made.tally.dead_letters) == ([], 0)
    assert "its dead letter cannot be published: broker: not now" in caplog.text


async def test_a_dead_letter_that_fails_is_none_once_more() -> None:
    async with engine() as made:
        made.on("#", Failing(), on_error=Retry(1, then=dead_letter("dead")))
        await handle(made, "a", "dead")
        assert len(made.published) == 1


# Messages that do not fit


async def test_who_wants_to_be_told_of_what_does_not_fit_is_and_then_the_message_counts_as_handled() -> None:
    told: list[Any] = []

    async def handler(payload: list[int]) -> None: ...

    async with engine() as made:
        for on_invalid in (told_async, told_sync):
            made.on("#", partial(handler), on_invalid=partial(on_invalid, told), concurrency=2)
        await handle(made, "a")
        assert (made.tally.invalid, made.tally.failures) == (2, 0)
    assert [topic for topic, _ in told] == ["a", "a"]


async def test_who_is_told_and_raises_has_failed_as_a_handler_does() -> None:
    def handler(payload: list[int]) -> None: ...

    def fail(message: Message, error: PayloadError) -> None:
        raise ValueError

    async with engine() as made:
        made.on("#", handler, on_invalid=fail, on_error=SOON)
        await handle(made, "a")
        assert (made.tally.failures, made.tally.retries) == (3, 2)


async def test_an_error_of_payload_that_a_handler_raises_itself_is_a_failure() -> None:
    async with engine() as made:
        made.on("#", Failing(error=PayloadError("of my own", topic="a")))
        await handle(made, "a")
        assert (made.tally.invalid, made.tally.failures) == (0, 1)


# Handlers that take too long


async def sleep_on(_: Message) -> None:
    await asyncio.sleep(60)


def sleep_in_thread(may_end: threading.Event) -> Callable[[Message], object]:
    return lambda _: may_end.wait(30) and None


async def end_quietly(_: Message) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return


async def raise_something_else(_: Message) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise ValueError from None


@pytest.mark.parametrize(
    "handler", [sleep_on, end_quietly, raise_something_else, lambda message: sleep_on(message)]
)
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_call_that_takes_too_long_is_cancelled_and_has_failed(handler: Any, concurrency: int) -> None:
    async with engine() as made:
        made.on("#", handler, timeout_seconds=0.01, concurrency=concurrency)
        await handle(made, "a", "a", "b")
        assert (made.tally.failures, made.tally.timeouts) == (3, 3)


async def test_a_call_in_a_thread_that_takes_too_long_is_left_to_itself() -> None:
    may_end = threading.Event()
    async with engine(threads=1) as made:
        made.on("slow", sleep_in_thread(may_end), timeout_seconds=0.05)
        made.on("quick", Recorder())
        await handle(made, "slow", "quick")
        assert made.tally.timeouts == 1
        may_end.set()


async def test_a_call_that_waits_for_a_thread_is_made_however_long_that_takes() -> None:
    may_end, heard = threading.Event(), Recorder()
    async with engine(threads=1) as made:
        made.on("slow", sleep_in_thread(may_end), concurrency=2)
        made.on("late", heard, timeout_seconds=0.02)
        await made.take(packet("slow", mid=1), packet("late", mid=2))
        await asyncio.sleep(0.1)
        may_end.set()
        await eventually(lambda: made.connection.acknowledged == [1, 2])
    assert (heard.topics, made.tally.timeouts) == (["late"], 0)


async def test_a_handler_that_does_not_end_when_cancelled_is_left_and_the_next_messages_are_handled() -> None:
    may_end, heard = asyncio.Event(), Recorder()

    async def stubborn(message: Message) -> None:
        heard(message)
        while message.topic == "a" and not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    async with engine() as made:
        made.on("#", stubborn, timeout_seconds=0.02)
        await handle(made, "a", "b", "c")
        assert made.tally.timeouts == 1
        may_end.set()
    assert heard.topics == ["a", "b", "c"]


async def test_a_failure_is_not_forgotten_when_the_handler_behind_it_does_not_end() -> None:
    may_end, failing, behind = asyncio.Event(), Failing(), Recorder()

    async def stubborn(message: Message) -> None:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    async with engine() as made:
        made.on("#", failing, on_error=SOON)
        made.on("#", stubborn, timeout_seconds=0.02)
        made.on("#", behind)
        await handle(made, "a")
        may_end.set()
    assert (failing.topics, behind.topics) == (["a"] * 3, ["a"])


async def test_a_call_in_time_is_not_cancelled_afterwards() -> None:
    cancelled: list[str] = []

    async def handler(message: Message) -> None:
        try:
            await asyncio.sleep(0.03 if message.topic == "slow" else 0.02)
        except asyncio.CancelledError:
            cancelled.append(message.topic)

    async with engine() as made:
        made.on("quick", handler, timeout_seconds=30)
        made.on("slow", handler)
        await handle(made, "quick", "slow", "quick", "slow")
        assert made.tally.failures == 0
    assert cancelled == []


async def test_an_error_tells_how_long_the_handler_may_take() -> None:
    told: list[BaseException] = []
    async with engine() as made:
        made.tally.on_failure = lambda _, error: told.append(error)
        made.on("#", sleep_on, timeout_seconds=0.01)
        await handle(made, "a")
    assert [type(error) for error in told] == [HandlerTimeoutError]
    assert str(told[0]).endswith("took longer than 0.01 s")


async def test_handlers_that_compute_let_others_get_round() -> None:
    async def compute(_: Message) -> None:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with engine() as made:
        made.on("#", compute, concurrency=20)
        counting = asyncio.create_task(count())
        await handle(made, *map(str, range(100)))
        counting.cancel()
    assert turns >= 90 * TURNS_BETWEEN
