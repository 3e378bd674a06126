"""What is in hand, what is acknowledged, what comes again, and how it all ends."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch, Read
from plantops_cli.stream.handling import worker as worker_module
from plantops_cli.stream.handling.policy import Retry
from plantops_cli.stream.status import Paused
from tests.support.handling import Engine, again, engine, packet
from tests.support.subscribing import Recorder, eventually

NEVER = Retry(1_000, backoff=3_600)
BY_PAYLOAD = {"key": lambda message: message.payload}


class Gate:
    """A handler that waits, for some topics, until it may end, or may fail.

    Attributes:
        begun: the topics it was called with.
        ended: those it is done with.
        failing: the topics it fails on.
    """

    def __init__(self, *slow: str, failing: tuple[str, ...] = ()) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.failing = {*failing}
        self._slow = {*slow}
        self._opened = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.begun.append(message.topic)
        if message.topic in self._slow:
            await self._opened.wait()
        if message.topic in self.failing:
            raise ValueError(message.topic)
        self.ended.append(message.topic)

    def open(self) -> None:
        """Let everything end that waits."""
        self._opened.set()


async def acknowledged(made: Engine, *mids: int) -> None:
    """Wait until these were acknowledged, and nothing else."""
    await eventually(lambda: made.connection.acknowledged == [*mids])


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(30):
        await asyncio.sleep(0)


# Claimed


def few(*mids: int) -> Batch:
    """A few messages, just read."""
    return Batch([Read(0, [packet("a", mid=mid) for mid in mids])], 1)


async def test_messages_may_be_claimed_as_they_are_read_and_are_acknowledged_in_their_turn() -> None:
    heard = Recorder()
    async with engine() as made:
        made.on("#", heard, blocking=False)
        await made.take(packet("a", mid=1))
        batch = few(2, 3)
        assert made.dispatcher.claim(batch, made.connection)
        await acknowledged(made, 1, 2, 3)
        assert made.connection.released == 2


async def test_nothing_is_claimed_beyond_the_bound_or_in_the_end() -> None:
    gate = Gate("a")
    async with engine(bound=2) as made:
        made.on("#", gate)
        assert made.dispatcher.claim(few(1, 2), made.connection)
        assert not made.dispatcher.claim(few(3), made.connection)
        gate.open()
        await acknowledged(made, 1, 2)
        await made.dispatcher.leave(1.0)
        assert not made.dispatcher.claim(few(3), made.connection)


# In hand


async def test_what_is_done_with_is_acknowledged_in_its_order_and_memory_released_when_all_of_it_is() -> None:
    async with engine() as made:
        gate = Gate("slow")
        made.on("#", gate, concurrency=5)
        await made.take(packet("a", mid=1), packet("slow", mid=2), packet("b", mid=3), size=9)
        await acknowledged(made, 1)
        assert (gate.ended, made.connection.released, made.dispatcher.in_hand) == (["a", "b"], 0, 2)
        gate.open()
        await acknowledged(made, 1, 2, 3)
        assert (made.connection.released, made.dispatcher.in_hand) == (9, 0)


async def test_a_message_that_nobody_wants_is_acknowledged_in_its_turn() -> None:
    async with engine() as made:
        gate = Gate("slow")
        made.on("slow", gate)
        await made.take(packet("slow", mid=1), packet("other", mid=2))
        await settle()
        assert made.connection.acknowledged == []
        gate.open()
        await acknowledged(made, 1, 2)


@pytest.mark.parametrize("concurrency", [1, 2, 7])
async def test_no_more_messages_are_in_hand_of_a_handler_than_it_takes(concurrency: int) -> None:
    running = most = 0

    async def handler(_: Message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    async with engine() as made:
        made.on("#", handler, concurrency=concurrency)
        await made.take(*(packet(str(mid), mid=mid) for mid in range(1, 60)))
        await acknowledged(made, *range(1, 60))
    assert most == concurrency


async def test_nothing_more_is_taken_at_the_bound_until_there_is_room() -> None:
    async with engine(bound=3) as made:
        gate = Gate("slow")
        made.on("#", gate, concurrency=9)
        taking = asyncio.create_task(
            made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(["slow", "a", "b", "c", "d"], 1)))
        )
        await settle()
        assert (gate.begun, made.dispatcher.in_hand, taking.done()) == (["slow", "a", "b"], 3, False)
        gate.open()
        await taking
        await acknowledged(made, 1, 2, 3, 4, 5)


async def test_taking_ends_with_the_connection_although_there_is_no_room() -> None:
    async with engine(bound=1) as made:
        gate = Gate("slow")
        made.on("#", gate)
        taking = asyncio.create_task(made.take(packet("slow", mid=1), packet("a", mid=2)))
        await settle()
        made.connection.end()
        await asyncio.wait_for(taking, 30)
        gate.open()
        await eventually(lambda: made.dispatcher.in_hand == 0 or gate.ended == ["slow"])


async def test_a_handler_that_is_registered_late_gets_what_comes_after_and_one_that_is_forgotten_nothing() -> None:
    async with engine() as made:
        early, late = Recorder(), Recorder()
        made.on("a", early)
        await made.take(packet("a", mid=1))
        await acknowledged(made, 1)
        made.handlers.forget("a")
        made.on("+", late)
        await made.take(packet("a", mid=2))
        await acknowledged(made, 1, 2)
    assert (early.topics, late.topics) == (["a"], ["a"])


# Keys


async def test_messages_of_a_key_wait_for_each_other_and_others_do_not() -> None:
    async with engine() as made:
        gate = Gate("slow")
        made.on("#", gate, concurrency=5, **BY_PAYLOAD)
        await made.take(packet("slow", b"1", mid=1), packet("a", b"1", mid=2), packet("b", b"2", mid=3))
        await settle()
        assert gate.begun == ["slow", "b"]
        gate.open()
        await acknowledged(made, 1, 2, 3)
    assert gate.begun == ["slow", "b", "a"]


def raise_error(_: Message) -> str:
    raise ValueError("no key")


def exit_program(_: Message) -> str:
    raise SystemExit


def exit_generator(_: Message) -> str:
    raise GeneratorExit


@pytest.mark.parametrize(
    "key", [raise_error, exit_program, exit_generator, lambda message: [message.topic], lambda _: {}]
)
async def test_a_key_function_that_fails_is_counted_and_the_topic_is_the_key(
    key: Callable[[Message], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with engine() as made:
        gate = Gate("slow")
        made.on("#", gate, concurrency=5, key=key)
        await made.take(packet("slow", mid=1), packet("slow", mid=2), packet("a", mid=3))
        await settle()
        assert gate.begun == ["slow", "a"]
        gate.open()
        await acknowledged(made, 1, 2, 3)
        assert made.tally.failures == 3
    assert "the default key is used" in caplog.text


# What is put off


async def test_others_are_handled_while_one_is_put_off_and_acknowledged_behind_it() -> None:
    async with engine() as made:
        gate = Gate(failing=("bad",))
        made.on("#", gate, on_error=Retry(3, backoff=0.05), concurrency=1)
        await made.take(packet("bad", mid=1), packet("a", mid=2), packet("b", mid=3))
        await eventually(lambda: gate.ended == ["a", "b"])
        assert made.connection.acknowledged == []
        gate.failing.clear()
        await acknowledged(made, 1, 2, 3)


async def test_no_further_attempt_is_made_of_what_holds_up_as_many_as_may_be_in_hand() -> None:
    async with engine(bound=3) as made:
        gate = Gate(failing=("bad",))
        made.on("#", gate, on_error=NEVER)
        for mid, topic in enumerate(["bad", "a", "b", "c", "d"], 1):
            await made.take(packet(topic, mid=mid))
        await acknowledged(made, 1, 2, 3, 4, 5)
        assert (gate.begun.count("bad"), made.tally.retries) == (1, 0)


async def test_an_attempt_is_still_made_when_another_message_holds_up_as_many_as_may_be_in_hand() -> None:
    async with engine(bound=3) as made:
        gate = Gate("slow", failing=("bad",))
        made.on("#", gate, on_error=Retry(2, backoff=0.05), concurrency=5)
        taking = asyncio.create_task(
            made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(["slow", "bad", "a", "b"], 1)))
        )
        await eventually(lambda: gate.begun.count("bad") == 2)
        gate.open()
        await taking
        await acknowledged(made, 1, 2, 3, 4)


# What is kept


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_connection_is_given_up_for_a_message_that_is_kept_and_all_comes_again_in_its_order(
    concurrency: int,
) -> None:
    sent = [packet(topic, b"k", mid=mid) for mid, topic in enumerate(["a", "bad", "b"], 1)]
    async with engine(is_durable=True) as made:
        gate = Gate(failing=("bad",))
        made.on("#", gate, on_error="keep", concurrency=concurrency, **BY_PAYLOAD)
        await made.take(*sent)
        await eventually(lambda: made.connection.is_given_up)
        assert (made.connection.acknowledged, gate.ended) == ([1], ["a"])
        gate.failing.clear()
        made.reconnect()
        await made.take(*map(again, sent[1:]))
        await acknowledged(made, 2, 3)
    assert gate.ended == ["a", "bad", "b"]


async def test_those_of_other_keys_go_on_before_a_connection_is_given_up_and_are_not_handled_twice() -> None:
    sent = [packet(topic, topic.encode(), mid=mid) for mid, topic in enumerate(["bad", "a", "b"], 1)]
    async with engine(is_durable=True) as made:
        gate = Gate(failing=("bad",))
        made.on("#", gate, on_error="keep", concurrency=5, **BY_PAYLOAD)
        await made.take(*sent)
        await eventually(lambda: made.connection.is_given_up)
        gate.failing.clear()
        made.reconnect()
        await made.take(*map(again, sent))
        await acknowledged(made, 1, 2, 3)
    assert gate.ended == ["a", "b", "bad"]


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_connection_is_given_up_although_more_was_read_when_the_handler_failed(concurrency: int) -> None:
    async with engine(is_durable=True) as made:
        made.on("#", Gate(failing=("bad",)), on_error="keep", concurrency=concurrency)
        made.source.held = 1
        await made.take(packet("bad", mid=1))
        await settle()
        assert not made.connection.is_given_up
        made.source.held = 0
        await made.take(packet("bad", mid=2))
        await eventually(lambda: made.connection.is_given_up)


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_connection_is_given_up_when_as_many_as_may_be_in_hand_wait_behind_one_that_is_kept(
    concurrency: int,
) -> None:
    async with engine(is_durable=True, bound=3) as made:
        made.on("#", Gate(failing=("bad",)), on_error="keep", concurrency=concurrency)
        made.source.held = 1
        for mid, topic in enumerate(["bad", "a", "b"], 1):
            await made.take(packet(topic, mid=mid))
            await settle()
        assert not made.connection.is_given_up
        await asyncio.wait_for(made.take(packet("c", mid=4)), 30)
        assert made.connection.is_given_up


async def test_without_a_durable_session_the_next_messages_of_a_key_go_on_when_one_is_kept() -> None:
    async with engine() as made:
        gate = Gate(failing=("bad",))
        made.on("#", gate, on_error="keep")
        await made.take(packet("bad", mid=1), packet("a", mid=2))
        await eventually(lambda: gate.ended == ["a"])
        assert (made.connection.is_given_up, made.connection.acknowledged) == (True, [])


async def test_a_message_of_qos_0_that_would_be_kept_is_done_with() -> None:
    async with engine(is_durable=True) as made:
        made.on("#", Gate(failing=("bad",)), on_error="keep")
        await made.take(packet("bad"), packet("a", mid=1))
        await acknowledged(made, 1)
        assert not made.connection.is_given_up


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_message_that_fails_after_its_connection_ended_comes_again_before_those_behind_it(
    concurrency: int,
) -> None:
    sent = [packet(topic, b"k", mid=mid) for mid, topic in enumerate(["bad", "a"], 1)]
    async with engine(is_durable=True) as made:
        gate = Gate("bad", failing=("bad",))
        made.on("#", gate, on_error="keep", concurrency=concurrency, **BY_PAYLOAD)
        await made.take(*sent)
        await settle()
        made.reconnect()
        gate.open()
        await settle()
        gate.failing.clear()
        await made.take(*map(again, sent))
        await acknowledged(made, 1, 2)
        assert made.dispatcher.in_hand == 0
    assert gate.ended == ["bad", "a"]


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_message_that_fails_before_it_came_again_gives_up_no_connection_and_is_a_new_one_then(
    concurrency: int,
) -> None:
    sent = [packet(topic, b"k", mid=mid) for mid, topic in enumerate(["bad", "a"], 1)]
    async with engine(is_durable=True) as made:
        gate = Gate("bad", failing=("bad",))
        made.on("#", gate, on_error="keep", concurrency=concurrency, **BY_PAYLOAD)
        await made.take(*sent)
        await settle()
        made.reconnect()
        await made.take(packet("x", b"other", mid=9))
        gate.open()
        await settle()
        gate.failing.clear()
        await made.take(*map(again, sent))
        await acknowledged(made, 9, 1, 2)
        assert (made.dispatcher.in_hand, made.connection.is_given_up) == (0, False)
    assert [topic for topic in gate.ended if topic != "x"] == ["bad", "a"]


async def test_a_message_that_fails_after_it_came_again_gives_that_connection_up_and_leaves_nothing_behind() -> (
    None
):
    sent = packet("bad", mid=1)
    async with engine(is_durable=True) as made:
        gate = Gate("bad", failing=("bad",))
        made.on("#", gate, on_error="keep")
        await made.take(sent)
        await settle()
        before = made.reconnect()
        await made.take(again(sent))
        gate.open()
        await eventually(lambda: made.connection.is_given_up)
        gate.failing.clear()
        second = made.reconnect()
        await made.take(again(sent))
        await acknowledged(made, 1)
        assert (made.dispatcher.in_hand, before.released, second.released) == (0, 1, 1)


async def test_a_message_that_would_be_kept_and_cannot_come_again_holds_up_nobody() -> None:
    async with engine() as made:
        gate = Gate("bad", failing=("bad",))
        made.on("#", gate, on_error="keep")
        await made.take(packet("bad", mid=1), packet("a", mid=2))
        await settle()
        before = made.reconnect(is_resumed=False)
        await made.take(packet("b", mid=1))
        gate.open()
        await acknowledged(made, 1)
        assert (made.connection.is_given_up, made.dispatcher.in_hand, before.released) == (False, 0, 1)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_message_of_two_handlers_does_not_overtake_one_that_is_kept(concurrency: int) -> None:
    sent = [packet(topic, b"k", mid=mid) for mid, topic in enumerate(["bad", "a"], 1)]
    async with engine(is_durable=True) as made:
        gate, beside = Gate(failing=("bad",)), Recorder()
        made.on("#", gate, on_error="keep", concurrency=concurrency, **BY_PAYLOAD)
        made.on("#", beside, concurrency=2)
        await made.take(*sent)
        await eventually(lambda: made.connection.is_given_up)
        gate.failing.clear()
        made.reconnect()
        await made.take(*map(again, sent))
        await acknowledged(made, 1, 2)
        assert made.dispatcher.in_hand == 0
    assert gate.ended == ["bad", "a"]
    assert list(dict.fromkeys(beside.topics)) == ["bad", "a"]


# The next connection


async def test_what_was_in_hand_when_a_connection_ended_is_handled_once_and_acknowledged_on_the_next() -> None:
    sent = [packet(topic, mid=mid) for mid, topic in enumerate(["slow", "a", "b"], 1)]
    async with engine(is_durable=True) as made:
        gate = Gate("slow")
        made.on("#", gate, concurrency=2)
        await made.take(*sent)
        await settle()
        before = made.reconnect()
        await made.take(*map(again, sent), packet("c", mid=4))
        gate.open()
        await acknowledged(made, 1, 2, 3, 4)
        assert (before.acknowledged, before.released, made.connection.released) == ([], 1, 1)
    assert sorted(gate.begun) == ["a", "b", "c", "slow"]


async def test_what_comes_in_a_new_session_is_new_whatever_its_identifier_and_flags() -> None:
    async with engine() as made:
        gate = Gate("slow")
        made.on("#", gate, concurrency=2)
        await made.take(packet("slow", mid=1))
        await settle()
        made.reconnect(is_resumed=False)
        gate.open()
        await made.take(again(packet("slow", mid=1)))
        await acknowledged(made, 1)
    assert gate.ended == ["slow", "slow"]


async def test_all_that_was_read_of_a_durable_session_is_known_before_it_is_resumed() -> None:
    sent = [packet(str(mid), mid=mid) for mid in range(1, 31)]
    async with engine(is_durable=True, bound=2) as made:
        gate = Gate("1")
        made.on("#", gate)
        taking = asyncio.create_task(made.take(*sent))
        await settle()
        made.reconnect()
        await taking
        gate.open()
        await made.take(*map(again, sent))
        await acknowledged(made, *range(1, 31))
    assert gate.ended == [str(mid) for mid in range(1, 31)]


async def test_no_more_are_in_hand_than_may_be_when_some_of_an_earlier_connection_wait_still() -> None:
    async with engine(bound=2) as made:
        gate = Gate(*map(str, range(9)))
        made.on("#", gate, concurrency=9)
        taking = asyncio.create_task(made.take(*(packet(str(mid), mid=mid + 1) for mid in range(4))))
        await settle()
        made.reconnect(is_resumed=False)
        await taking
        taking = asyncio.create_task(made.take(packet("8", mid=1)))
        await settle()
        assert made.dispatcher.in_hand == 2
        gate.open()
        await taking
        await acknowledged(made, 1)


async def test_a_handler_that_is_slow_is_named_on_the_next_connection_too_and_not_while_it_is_put_off() -> None:
    async with engine(is_durable=True) as made:
        gate = Gate("a", failing=("a",))
        made.on("#", gate, on_error=NEVER)
        await made.take(packet("a", mid=1))
        await settle()
        made.reconnect()
        await made.take(again(packet("a", mid=1)))
        slow = made.dispatcher._oldest()
        assert slow is not None
        made.dispatcher._tell_of_holdup(slow, 3.0)
        gate.open()
        await settle()
        assert made.dispatcher._oldest() is None
    [status] = made.said
    assert isinstance(status, Paused)
    assert status.handler is not None
    assert "Gate" in status.handler


# The end


async def test_what_has_arrived_is_handled_before_it_is_finished_and_retries_are_given_up() -> None:
    async with engine() as made:
        gate = Gate("slow", failing=("bad",))
        made.on("#", gate, on_error=NEVER, concurrency=2)
        await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(["bad", "slow", "a"], 1)))
        finishing = asyncio.create_task(made.dispatcher.finish())
        await settle()
        assert not finishing.done()
        gate.open()
        await asyncio.wait_for(finishing, 30)
        await acknowledged(made, 1, 2, 3)


@pytest.mark.parametrize("is_failing_late", [False, True])
async def test_finishing_leaves_a_retry_to_a_broker_that_keeps_the_session(*, is_failing_late: bool) -> None:
    async with engine(is_durable=True) as made:
        gate = Gate(*["bad"] * is_failing_late, failing=("bad",))
        made.on("#", gate, on_error=NEVER, concurrency=2)
        await made.take(packet("bad", mid=1))
        await settle()
        finishing = asyncio.create_task(made.dispatcher.finish())
        await settle()
        gate.open()
        await asyncio.wait_for(finishing, 30)
    assert made.connection.acknowledged == []


async def test_nothing_overtakes_what_is_left_to_the_broker_when_it_is_finished() -> None:
    async with engine(is_durable=True) as made:
        gate = Gate(failing=("bad",))
        made.on("#", gate, on_error=NEVER, concurrency=2, **BY_PAYLOAD)
        await made.take(packet("bad", b"k", mid=1), packet("a", b"k", mid=2))
        await settle()
        await asyncio.wait_for(made.dispatcher.finish(), 30)
        assert (gate.ended, made.connection.acknowledged) == ([], [])


async def test_finishing_ends_although_a_message_is_kept() -> None:
    async with engine(is_durable=True) as made:
        made.on("#", Gate(failing=("bad",)), on_error="keep")
        await made.take(packet("bad", mid=1), packet("a", mid=2))
        await asyncio.wait_for(made.dispatcher.finish(), 30)


async def test_what_was_overtaken_is_handled_in_the_end_so_that_all_that_is_handled_can_be_acknowledged() -> None:
    made = Engine(is_durable=True)
    gate = Gate("slow")
    made.on("#", gate, concurrency=2)
    await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(["slow", "slow", "a", "slow"], 1)))
    await settle()
    leaving = asyncio.create_task(made.dispatcher.leave(3))
    await settle()
    gate.open()
    await leaving
    assert gate.ended == ["a", "slow", "slow"]
    assert made.connection.acknowledged == [1, 2, 3]


async def test_what_was_overtaken_is_left_to_the_broker_without_a_word_when_there_is_no_time_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = Engine(is_durable=True)
    gate = Gate("slow")
    made.on("#", gate, concurrency=2)
    await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(["slow", "slow", "a"], 1)))
    await settle()
    await made.dispatcher.leave(0.6)
    assert gate.begun == ["slow", "a"]
    assert made.connection.acknowledged == []
    assert "were not handled" not in caplog.text


async def test_nothing_is_begun_in_the_end_for_what_a_retry_keeps_from_being_acknowledged() -> None:
    made = Engine(is_durable=True)
    gate = Gate("slow", failing=("bad",))
    made.on("#", gate, concurrency=3, on_error=NEVER)
    await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate(["bad", "slow", "slow", "a"], 1)))
    await settle()
    leaving = asyncio.create_task(made.dispatcher.leave(3))
    await settle()
    gate.open()
    await leaving
    assert gate.ended == ["a", "slow"]
    assert made.connection.acknowledged == []


async def test_a_durable_session_leaves_to_the_broker_what_was_not_begun() -> None:
    made = Engine(is_durable=True)
    gate = Gate("slow")
    made.on("#", gate)
    await made.take(packet("slow", mid=1), packet("a", mid=2), packet("b", qos=0))
    await settle()
    leaving = asyncio.create_task(made.dispatcher.leave(3))
    await settle()
    gate.open()
    await leaving
    assert (gate.ended, made.connection.acknowledged) == (["slow", "b"], [1])


async def test_without_a_durable_session_all_that_has_arrived_is_handled_before_the_end() -> None:
    made = Engine(bound=2)
    gate = Gate("slow")
    made.on("#", gate)
    taking = asyncio.create_task(made.take(packet("slow", mid=1), packet("a", mid=2), packet("b", mid=3)))
    await settle()
    leaving = asyncio.create_task(made.dispatcher.leave(3))
    await taking
    gate.open()
    await leaving
    assert made.connection.acknowledged == [1, 2, 3]


@pytest.mark.parametrize("is_durable", [True, False])
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("policy", ["keep", NEVER])
async def test_what_does_not_come_again_is_handled_at_the_end_although_one_before_it_failed(
    is_durable: bool, concurrency: int, policy: Any
) -> None:
    made = Engine(is_durable=is_durable)
    gate = Gate(failing=("bad",))
    made.on("#", gate, on_error=policy, concurrency=concurrency, **BY_PAYLOAD)
    made.source.held = 1
    await made.take(packet("bad", b"k", mid=1), packet("a", b"k", qos=0))
    await settle()
    made.source.held = 0
    await made.dispatcher.leave(3)
    assert gate.ended == ["a"]


async def test_a_message_that_fails_amid_the_end_keeps_none_of_its_key_from_being_handled() -> None:
    made = Engine(is_durable=True)
    gate = Gate("bad", failing=("bad",))
    made.on("#", gate, on_error="keep")
    await made.take(packet("bad", mid=1), packet("a", qos=0))
    await settle()
    leaving = asyncio.create_task(made.dispatcher.leave(3))
    await settle()
    gate.open()
    await leaving
    assert (gate.ended, made.connection.acknowledged) == (["a"], [])


async def test_what_was_sent_again_and_dropped_leaves_nothing_behind() -> None:
    sent = [packet(topic, b"k", mid=mid) for mid, topic in enumerate(["slow", "a"], 1)]
    async with engine(is_durable=True) as made:
        gate = Gate("slow", failing=("slow",))
        made.on("#", gate, on_error="keep", concurrency=2, **BY_PAYLOAD)
        await made.take(*sent)
        await settle()
        before = made.reconnect()
        await made.take(*map(again, sent))
        gate.open()
        await eventually(lambda: made.connection.is_given_up)
        gate.failing.clear()
        made.reconnect()
        await made.take(*map(again, sent))
        await acknowledged(made, 1, 2)
        assert (made.dispatcher.in_hand, before.released) == (0, 1)


async def test_what_waits_behind_a_failed_message_of_an_earlier_connection_is_left_to_the_broker_with_it() -> None:
    sent = [packet(topic, b"k", mid=mid) for mid, topic in enumerate(["bad", "a"], 1)]
    made = Engine(is_durable=True)
    gate = Gate(failing=("bad",))
    made.on("#", gate, on_error=NEVER, concurrency=2, **BY_PAYLOAD)
    await made.take(*sent)
    await settle()
    made.reconnect()
    await made.take(packet("x", b"other", mid=9))
    await acknowledged(made, 9)
    await made.dispatcher.leave(3)
    assert gate.ended == ["x"]


@pytest.mark.parametrize("is_durable", [True, False])
async def test_all_memory_is_released_at_the_end_once_whatever_is_left(
    is_durable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = Engine(is_durable=is_durable, bound=3)
    made.on("#", Gate("slow", failing=("bad",)), on_error="keep")
    taking = asyncio.create_task(made.take(*(packet(each) for each in ("bad", "slow", "a", "b")), size=7))
    await settle()
    await made.dispatcher.leave(0.6)
    await taking
    assert made.connection.released == 7


async def test_leaving_is_bounded_although_no_handler_ends(caplog: pytest.LogCaptureFixture) -> None:
    may_end = asyncio.Event()

    async def stubborn(_: Message) -> None:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    made = Engine()
    for topic in "abcdef":  # each with a team of its own
        made.on(topic, stubborn, concurrency=2)
    await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate("abcdef", 1)))
    await settle()
    began = asyncio.get_running_loop().time()
    await made.dispatcher.leave(0.6)
    lasted = asyncio.get_running_loop().time() - began
    assert caplog.text.count("does not end although it was cancelled") == 6
    assert lasted < 6 * 0.5  # for all at once, not for one after the other
    may_end.set()


async def test_handlers_that_are_cut_short_by_the_end_are_named(caplog: pytest.LogCaptureFixture) -> None:
    may_end = threading.Event()

    async def waits(_: Message) -> None:
        await asyncio.Event().wait()

    def blocks(_: Message) -> None:
        may_end.wait(30)

    made = Engine()
    made.on("a", waits)
    made.on("b", blocks, concurrency=2)
    made.on("c", Gate(), concurrency=2)
    await made.take(*(packet(topic, mid=mid) for mid, topic in enumerate("abc", 1)))
    await settle()
    await made.dispatcher.leave(0.6)
    may_end.set()
    said = [record.getMessage() for record in caplog.records if "did not end in time" in record.getMessage()]
    assert len(said) == 1
    assert [name for name in ("waits", "blocks", "Gate") if name in said[0]] == ["waits", "blocks"]


async def test_leaving_may_be_cancelled_and_asked_for_again() -> None:
    made = Engine()
    gate = Gate("slow")
    made.on("#", gate)
    await made.take(packet("slow", mid=1), size=7)
    leaving = asyncio.create_task(made.dispatcher.leave(60))
    second = asyncio.create_task(made.dispatcher.leave(60))
    await settle()
    leaving.cancel()
    await asyncio.wait([leaving])
    await asyncio.wait_for(second, 30)
    await asyncio.wait_for(made.dispatcher.leave(60), 30)
    assert (leaving.cancelled(), gate.ended, made.connection.released) == (True, [], 7)


@pytest.mark.parametrize("is_durable", [True, False])
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("timeout_seconds", [None, 30])
async def test_a_handler_may_ask_for_the_end(
    is_durable: bool, concurrency: int, timeout_seconds: float | None
) -> None:
    made = Engine(is_durable=is_durable)
    ended = asyncio.Event()

    async def leave(_: Message) -> None:
        await made.dispatcher.leave(60)
        ended.set()

    made.on("#", leave, concurrency=concurrency, timeout_seconds=timeout_seconds)
    await made.take(packet("a", mid=1))
    await asyncio.wait_for(ended.wait(), 30)
    await made.dispatcher.leave(60)


async def test_nothing_is_begun_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    made = Engine()
    heard = Recorder()
    made.on("#", heard, concurrency=3)
    await made.dispatcher.leave(3)
    await made.take(packet("a", mid=1), size=7)
    await settle()
    assert (heard.topics, made.connection.acknowledged, made.connection.released) == ([], [], 7)
    assert "messages had arrived and were not handled before the end: 1" in caplog.text


async def test_a_handler_that_outlives_the_end_has_no_successor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "GRACE_SECONDS", 0.01)
    may_end, heard = asyncio.Event(), list[str]()

    async def stubborn(message: Message) -> None:
        heard.append(message.topic)
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    made = Engine()
    made.on("#", stubborn, timeout_seconds=0.7)
    await made.take(packet("a", mid=1), packet("b", mid=2))
    await settle()
    await made.dispatcher.leave(0.55)
    await asyncio.sleep(0.5)
    assert heard == ["a"]
    may_end.set()


async def test_threads_end_with_it() -> None:
    used: list[threading.Thread] = []
    async with engine() as made:
        made.on("#", lambda _: used.append(threading.current_thread()), concurrency=3)
        await made.take(packet("a", mid=1), packet("b", mid=2))
        await acknowledged(made, 1, 2)
    for thread in used:
        await asyncio.to_thread(thread.join, 30)


async def test_a_fault_of_ours_ends_taking(caplog: pytest.LogCaptureFixture) -> None:
    class Liar:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not comparable")

    async with engine() as made:
        gate = Gate("a")
        made.on("#", gate, concurrency=3, key=lambda _: Liar())
        await made.take(packet("a", mid=1), packet("b", mid=2))
        await settle()
        with pytest.raises(RuntimeError, match="not comparable"):
            await made.take(packet("c", mid=3))
        gate.open()


def test_a_dispatcher_whose_event_loop_has_ended_is_abandoned() -> None:
    async def begin() -> Engine:
        made = Engine()
        made.on("#", Recorder())
        await made.take(packet("a", mid=1))
        await acknowledged(made, 1)
        return made

    made = asyncio.run(begin())
    made.dispatcher.abandon()


async def test_a_message_that_takes_long_is_told_of_with_the_name_of_its_handler() -> None:
    async with engine() as made:
        gate = Gate("slow")

        async def named(message: Message) -> None:
            await gate(message)

        made.on("#", named)
        await made.take(packet("slow", mid=1))
        await settle()
        oldest = made.dispatcher._oldest()
        assert oldest is not None
        made.dispatcher._tell_of_holdup(oldest, 3.0)
        assert "named" in str(made.said)
        gate.open()
