"""What handlers made of their messages: counted without end, told at a bounded rate."""

import logging
from typing import Any

import pytest

from plantops_cli.errors import HandlerTimeoutError, PayloadError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.tally import Tally
from tests.support.handling import engine, packet
from tests.support.subscribing import eventually

MESSAGE = Message.of("devices/abc/telemetry", b"{}")


def invalid(topic: str = MESSAGE.topic) -> PayloadError:
    return PayloadError("no number", topic=topic, handler="handle")


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_failure_is_counted_and_told_with_its_handler_topic_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally = Tally()
    tally.fail("handler handle", MESSAGE, ValueError("oops"), ", attempt 1")
    assert (tally.failures, tally.timeouts) == (1, 0)
    assert "handler handle failed on a message of 'devices/abc/telemetry', attempt 1" in caplog.text
    assert "ValueError: oops" in caplog.text


def test_a_call_that_took_too_long_is_a_failure_and_counted_as_such(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    tally.fail("handle", MESSAGE, HandlerTimeoutError("late"))
    tally.fail("handle", MESSAGE, TimeoutError("of the handler's own"))
    assert (tally.failures, tally.timeouts) == (2, 1)


def test_an_error_that_cannot_be_shown_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    Tally().fail("handle", Message.of("a\x1b[2J"), UnshowableError())
    assert "UnshowableError" in caplog.text
    assert "\x1b" not in caplog.text


def test_of_many_failures_of_a_handler_few_are_told_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    for _ in range(1_000):
        tally.fail("handle", MESSAGE, ValueError())
    tally.fail("other", MESSAGE, ValueError())
    assert tally.failures == 1_001
    told: list[Any] = [record.args for record in caplog.records]
    assert [who for who, *_ in told] == ["handle"] * 10 + ["other"]


def test_an_invalid_message_is_counted_by_its_device_or_its_topic_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally = Tally()
    for topic in ("devices/abc/telemetry", "devices/abc/heartbeat", "other"):
        tally.note_invalid("handle", Message.of(topic), invalid(topic), is_told=False)
    assert (tally.invalid, tally.failures) == (3, 0)
    assert tally.invalid_by_device == {"abc": 2, "other": 1}
    assert "no number" in caplog.text


def test_an_invalid_message_that_somebody_is_told_of_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally = Tally()
    tally.note_invalid("handle", MESSAGE, invalid(), is_told=True)
    assert (tally.invalid, caplog.records) == (1, [])


def test_of_many_invalid_messages_few_are_told_and_of_many_devices_only_the_first_are_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tally = Tally()
    for number in [*range(10_500), 1]:
        tally.note_invalid("handle", Message.of(f"devices/{number}/telemetry"), invalid(), is_told=False)
    assert (tally.invalid, len(tally.invalid_by_device)) == (10_501, 10_000)
    assert tally.invalid_by_device["1"] == 2
    assert len(caplog.records) == 10


def test_a_handler_that_returns_something_is_told_so_once(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    for name in ("handle", "handle", "other"):
        tally.note_result(name, {"secret": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "handler handle returned a value of type dict, which is ignored",
        "handler other returned a value of type dict, which is ignored",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_who_wants_to_know_is_told_of_each_failure_and_of_each_invalid_message() -> None:
    tally, told = Tally(), list[tuple[Message, BaseException]]()
    tally.on_failure = lambda message, error: told.append((message, error))
    failed, unfit = ValueError(), invalid()
    tally.fail("handle", MESSAGE, failed)
    tally.note_invalid("handle", MESSAGE, unfit, is_told=True)
    assert told == [(MESSAGE, failed), (MESSAGE, unfit)]


@pytest.mark.parametrize("blocking", [None, False])
async def test_the_traceback_of_a_handler_that_failed_begins_with_the_handler(
    blocking: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Message) -> None:
        raise ValueError("oops")

    async with engine() as made:
        made.on("#", fail, blocking=blocking)
        await made.take(packet("a", mid=1))
        await eventually(lambda: made.connection.acknowledged == [1])
    _, _, frames = caplog.text.partition("Traceback (most recent call last):\n")
    assert frames.splitlines()[0].endswith("in fail")
    assert "worker.py" not in caplog.text.partition("Traceback")[2]
