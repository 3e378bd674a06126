"""A handler with its options, and which options are refused."""

import asyncio
import math
from functools import partial
from typing import Any

import pytest

from plantops_cli.errors import ConfigError
from plantops_cli.messages import Message
from plantops_cli.stream.handling.policy import Retry
from plantops_cli.stream.handling.registration import HandlerOptions, Registration
from plantops_cli.topics import parse_pattern
from tests.support.handling import registration


def plain(message: Message) -> None: ...


async def waited(message: Message) -> None: ...


class Called:
    async def __call__(self, message: Message) -> None: ...


def test_without_options_a_handler_takes_one_message_at_a_time_for_as_long_as_it_likes() -> None:
    made = registration(plain)
    assert (made.concurrency, made.key, made.timeout_seconds, made.on_error, made.on_invalid) == (
        1,
        None,
        None,
        "ack",
        None,
    )
    assert (made.name, made.handler) == ("plain", plain)


def test_none_means_the_default_wherever_it_may_stand() -> None:
    options: dict[str, Any] = dict.fromkeys(HandlerOptions.__annotations__.keys() - {"concurrency"})
    made = registration(plain, **options)
    assert (made.is_blocking, made.on_error) == (True, "ack")


@pytest.mark.parametrize(
    ("handler", "is_blocking"),
    [
        (plain, True),
        (waited, False),
        (Called(), False),
        (partial(waited), False),
        (lambda _: asyncio.sleep(0), True),
    ],
)
def test_a_plain_function_runs_in_a_thread_and_a_coroutine_function_on_the_event_loop(
    handler: Any, is_blocking: bool
) -> None:
    assert registration(handler).is_blocking is is_blocking


@pytest.mark.parametrize("blocking", [True, False])
def test_a_plain_function_runs_where_it_is_said(blocking: bool) -> None:
    assert registration(plain, blocking=blocking).is_blocking is blocking


@pytest.mark.parametrize("handler", [waited, Called(), partial(waited)])
def test_no_coroutine_function_runs_in_a_thread(handler: Any) -> None:
    with pytest.raises(ConfigError, match="is a coroutine function, which runs on the event loop"):
        registration(handler, blocking=True)
    assert not registration(handler, blocking=False).is_blocking


@pytest.mark.parametrize("policy", ["ack", "keep", Retry(2)])
def test_the_policy_of_a_handler_comes_before_that_of_the_subscriber(policy: Any) -> None:
    pattern = parse_pattern("#")
    assert Registration(pattern, plain, policy).on_error is policy
    assert Registration(pattern, plain, "keep", on_error=policy).on_error is policy


REFUSED: dict[str, list[Any]] = {
    "concurrency": [0, -1, True, 1.5, "2", None, math.inf],
    "key": ["device", 1, "", []],
    "blocking": [0, 1, "yes", ""],
    "timeout_seconds": [0, -1, True, math.nan, math.inf, "3", 10**400],
    "on_error": ["drop", "", 0, False, [], Retry],
    "on_invalid": ["log", 0, []],
}


@pytest.mark.parametrize(("option", "value"), [(name, value) for name in REFUSED for value in REFUSED[name]])
def test_an_option_out_of_its_range_is_refused_by_its_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        registration(plain, **{option: value})


@pytest.mark.parametrize("key", [waited, Called(), partial(waited)])
def test_a_key_function_that_has_to_be_awaited_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match="key is a coroutine function"):
        registration(plain, key=key)


def test_an_option_that_does_not_exist_is_refused_with_one_that_is_like_it() -> None:
    with pytest.raises(TypeError, match="no option 'concurency': did you mean 'concurrency'"):
        registration(plain, concurency=2)


def test_a_parameter_that_nothing_fills_is_refused_by_its_name() -> None:
    def handle(message: Message, device) -> None: ...  # type: ignore[no-untyped-def]  # that is the test

    with pytest.raises(ConfigError, match="'device'"):
        registration(handle)
