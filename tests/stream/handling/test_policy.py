"""What becomes of a message whose handler fails: policies, delays, and what a dead letter says."""

import itertools
import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError, TopicError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.policy import DeadLetter, Retry, check_policy, dead_letter

MESSAGE = Message.of("devices/abc/telemetry", b"{}", qos=1)


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def why(error: BaseException, message: Message = MESSAGE) -> Any:
    """What a dead letter tells of an error."""
    return dead_letter("dead").properties(message, error, 3)["user-properties"]


def delays(policy: Retry, count: int) -> list[float | None]:
    """The delays before so many further attempts."""
    return [policy.delay_seconds(attempts) for attempts in range(1, count + 1)]


def test_a_handler_is_called_three_times_by_default_and_each_wait_is_twice_the_one_before() -> None:
    assert delays(Retry(), 3) == [0.5, 1.0, None]


def test_no_wait_is_longer_than_half_a_minute_by_default() -> None:
    assert delays(Retry(100_000), 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert Retry(100_000).delay_seconds(99_999) == 30


def test_a_backoff_is_a_number_one_for_each_attempt_or_a_function() -> None:
    assert delays(Retry(4, backoff=2), 4) == [2, 2, 2, None]
    assert delays(Retry(5, backoff=[1, 5]), 5) == [1, 5, 5, 5, None]
    assert delays(Retry(4, backoff=lambda attempts: attempts * 10), 4) == [10, 20, 30, None]


def test_a_backoff_without_end_is_taken_as_far_as_anybody_waits() -> None:
    assert delays(Retry(4, backoff=itertools.count()), 3) == [0, 1, 2]


def test_a_function_that_says_less_than_nothing_means_at_once() -> None:
    assert delays(Retry(backoff=lambda _: -1), 1) == [0]


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, None, "soon", 10**400])
def test_a_function_that_says_no_time_has_failed(answer: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        Retry(backoff=lambda _: answer).delay_seconds(1)


@pytest.mark.parametrize("attempts", [0, -1, True, 1.0, "3", None])
def test_attempts_are_a_number_of_calls(attempts: Any) -> None:
    with pytest.raises(ConfigError, match=r"attempts=.* is not possible"):
        Retry(attempts)


@pytest.mark.parametrize(
    "backoff",
    [-1, math.nan, math.inf, True, 10**400, "5", [], [1, -1], [1, None], [math.inf], [10**400], object()],
)
def test_a_backoff_that_is_no_time_is_refused(backoff: Any) -> None:
    with pytest.raises(ConfigError, match=r"backoff=.* is not possible"):
        Retry(backoff=backoff)


@pytest.mark.parametrize("then", ["keep", "drop", "", None, 3, ["ack"]])
def test_what_follows_on_the_last_attempt_is_ack_a_dead_letter_or_a_function(then: Any) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Retry(then=then)


@pytest.mark.parametrize("policy", ["drop", "", None, 0, [], Retry])
def test_a_policy_is_ack_keep_or_a_retry(policy: object) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        check_policy(policy)


def test_who_wants_a_dead_letter_without_a_retry_is_told_how() -> None:
    with pytest.raises(ConfigError) as refused:
        check_policy(dead_letter("dead"))
    assert refused.value.hint == "Retry(1, then=dead_letter(...))"


@pytest.mark.parametrize("policy", ["ack", "keep", Retry(5, then=dead_letter("dead"))])
def test_a_policy_that_exists_is_what_it_was(policy: object) -> None:
    assert check_policy(policy) is policy


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "a" * 65_536, "\ud800"])
def test_a_dead_letter_goes_to_a_topic_that_a_message_can_have(topic: str) -> None:
    with pytest.raises(TopicError):
        dead_letter(topic)


def test_a_dead_letter_tells_where_it_came_from_why_and_how_often_it_was_tried() -> None:
    assert dead_letter("dead") == DeadLetter("dead")
    assert why(ValueError("oops")) == {
        "topic": "devices/abc/telemetry",
        "error": "ValueError: oops",
        "count": "3",
    }


def test_a_dead_letter_keeps_the_type_of_its_content_and_no_other_property() -> None:
    message = Message.of("a", properties={"content-type": "text/plain", "response-topic": "b"})
    properties = dead_letter("dead").properties(message, ValueError(), 1)
    assert properties.keys() == {"content-type", "user-properties"}


def test_a_dead_letter_says_little_of_an_error_that_says_much() -> None:
    assert len(why(ValueError("x" * 1_000_000))["error"]) == 500


def test_an_error_of_many_lines_stands_in_one() -> None:
    assert why(ValueError("a\n\tb\0c\ud800"))["error"] == "ValueError: a  b?c?"


def test_an_error_that_cannot_be_shown_has_a_dead_letter_all_the_same() -> None:
    assert why(UnshowableError())["error"] == "UnshowableError, which cannot be shown"


@given(st.text(st.characters(codec=None)))
def test_a_dead_letter_holds_no_character_for_which_a_broker_ends_the_connection(text: str) -> None:
    told = why(ValueError(text))
    for value in told.values():
        assert value.encode()
        assert not [char for char in value if unicodedata.category(char) in ("Cc", "Cs") or _is_none(char)]


def _is_none(char: str) -> bool:
    return ord(char) & 0xFFFE == 0xFFFE or "\ufdd0" <= char <= "\ufdef"


def test_of_a_strange_topic_only_what_can_be_sent_is_told() -> None:
    assert why(ValueError(), Message.of("a\nb\x85"))["topic"] == "a b "
