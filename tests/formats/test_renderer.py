"""Formats that are written a message at a time."""

from collections.abc import Sequence

import pytest

from plantops_cli.formats.renderer import OneByOne
from plantops_cli.messages import Message
from tests.support.samples import batch_of, message

BATCH = batch_of(*(message(payload) for payload in (b"1", b"no", b"333", b"no", b"55555", b"no")))


def write(messages: Sequence[Message]) -> bytes:
    """A form of several lines, of which not each is as long as the other."""
    return b"".join(b"payload\n" + message.payload + b"\n\n" for message in messages)


RENDERER = OneByOne(write, lambda message: message.payload != b"no")


def test_only_what_is_wanted_is_written() -> None:
    assert RENDERER.render(BATCH, None) == (b"payload\n1\n\npayload\n333\n\npayload\n55555\n\n", 3, 0)


@pytest.mark.parametrize(("limit", "shown"), [(0, 0), (1, 1), (3, 3), (4, 3)])
def test_no_more_than_the_limit_is_written(limit: int, shown: int) -> None:
    assert RENDERER.render(BATCH, limit)[1] == shown


def test_what_is_not_wanted_is_done_with_as_soon_as_what_came_before_it() -> None:
    assert RENDERER.ends(BATCH, None) == [11, 11, 24, 24, 39, 39]


@pytest.mark.parametrize(("limit", "ends"), [(0, []), (1, [11]), (2, [11, 11, 24]), (3, [11, 11, 24, 24, 39])])
def test_with_a_limit_nothing_behind_the_last_message_written_is_done_with(limit: int, ends: list[int]) -> None:
    assert RENDERER.ends(BATCH, limit) == ends


def test_no_messages_have_no_ends() -> None:
    assert RENDERER.render(batch_of(), None) == (b"", 0, 0)
    assert RENDERER.ends(batch_of(), None) == []
