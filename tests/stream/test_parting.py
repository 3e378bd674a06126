"""The last word, and who hangs up first."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from plantops_cli.stream.packets import Splitter
from plantops_cli.stream.parting import Parting, close_after_last_word, hear_out
from plantops_cli.stream.tap import Tap
from tests.support.subscribing import WAIT_SECONDS


@pytest.fixture
def theirs_and_tap() -> Iterator[tuple[socket.socket, Tap]]:
    """The broker's end, and a tap on ours that has said its last word."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    tap = Tap(ours, Splitter(is_v5=True, max_packet_size=1_000_000))
    tap.push(b"bye")
    tap.linger()
    tap.close()
    with ours, theirs:
        yield theirs, tap


async def test_what_still_comes_is_heard_until_the_other_side_hangs_up(
    theirs_and_tap: tuple[socket.socket, Tap],
) -> None:
    theirs, tap = theirs_and_tap
    hearing = asyncio.create_task(hear_out(tap))
    for _ in range(3):
        theirs.sendall(b"x" * 10_000)
        await asyncio.sleep(0.01)
    assert not hearing.done()
    theirs.close()
    await asyncio.wait_for(hearing, WAIT_SECONDS)


async def test_the_socket_is_closed_when_the_last_word_was_heard(
    theirs_and_tap: tuple[socket.socket, Tap],
) -> None:
    theirs, tap = theirs_and_tap
    theirs.sendall(b"x" * 10_000)  # unread, it would reset the connection
    closing = asyncio.create_task(close_after_last_word(tap, WAIT_SECONDS))
    await asyncio.sleep(0.01)
    assert (theirs.recv(10), theirs.recv(10)) == (b"bye", b"")
    theirs.close()
    await asyncio.wait_for(closing, WAIT_SECONDS)
    assert tap.fileno() < 0


async def test_a_broker_that_does_not_hang_up_is_not_waited_for_long(
    theirs_and_tap: tuple[socket.socket, Tap],
) -> None:
    _, tap = theirs_and_tap
    async with asyncio.timeout(WAIT_SECONDS):
        await close_after_last_word(tap, 0.05)
    assert tap.fileno() < 0


async def test_a_last_word_is_said_once_and_then_the_socket_closed(
    theirs_and_tap: tuple[socket.socket, Tap],
) -> None:
    theirs, tap = theirs_and_tap
    said: list[bytes] = []
    parting = Parting(said.append)
    assert not parting.is_under_way
    for word in (b"first", b"second"):
        parting.begin(tap, word)
    assert said == [b"first"]
    assert parting.is_under_way
    theirs.close()
    await asyncio.wait_for(parting.finish(WAIT_SECONDS), WAIT_SECONDS)
    assert not parting.is_under_way
    assert tap.fileno() < 0


async def test_where_no_last_word_was_said_nothing_is_closed(theirs_and_tap: tuple[socket.socket, Tap]) -> None:
    _, tap = theirs_and_tap
    await Parting(lambda goodbye: None).finish(WAIT_SECONDS)
    assert tap.fileno() >= 0
