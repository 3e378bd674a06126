"""Pings, and the end of a connection on which nothing comes."""

import asyncio

from plantops_cli.stream.hearing import Hearing
from plantops_cli.stream.keepalive import KeepAlive, Vigil, keep_alive


def test_each_answer_is_told_to_whoever_has_asked_in_its_turn() -> None:
    sent: list[bytes] = []
    told: list[str] = []
    pings = KeepAlive(lambda: 7, lambda: 8, sent.append)
    pings.ask(lambda: told.append("first"))
    assert pings.ping() == 7  # of paho, who asks nothing
    pings.ask(lambda: told.append("second"))
    assert sent == [b"\xc0\x00"] * 2
    assert pings.ponged() == 8
    assert told == ["first"]
    pings.ponged()
    assert told == ["first"]
    pings.ponged()
    assert told == ["first", "second"]


def test_an_answer_that_nobody_has_asked_for_is_handed_on() -> None:
    assert KeepAlive(lambda: 0, lambda: 8, lambda data: None).ponged() == 8


class Line:
    """Something comes on it, or its end lies unread, as is said."""

    def __init__(self, *, has_headway: bool = False, is_end_unread: bool = False) -> None:
        self.hearing = Hearing()
        self._has_headway = has_headway
        self.is_end_unread = is_end_unread
        self.is_looked_at = asyncio.Event()

    def has_headway(self) -> bool:
        self.is_looked_at.set()
        return self._has_headway


async def kept(line: Line) -> list[str]:
    """What is done in the first look."""
    done: list[str] = []

    def look() -> int:
        done.append("looked")
        return 1

    connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    keeping = asyncio.create_task(
        keep_alive(connected, line, note_headway=lambda: done.append("noted"), look=look)
    )
    await asyncio.sleep(0)
    assert not done  # before the CONNACK
    connected.set_result(None)
    await line.is_looked_at.wait()
    await asyncio.sleep(0)
    if not keeping.done():
        keeping.cancel()
    await asyncio.wait((keeping,))
    return done


async def test_a_connection_on_which_nothing_comes_is_left_to_paho() -> None:
    assert await kept(Line()) == ["looked"]


async def test_headway_is_noted_before_paho_looks() -> None:
    assert await kept(Line(has_headway=True)) == ["noted", "looked"]


async def test_an_end_that_lies_unread_is_not_run_into() -> None:
    assert await kept(Line(is_end_unread=True)) == []


async def test_behind_each_gap_in_which_nobody_looked_the_broker_is_asked_once() -> None:
    line, done = Line(), list[str]()
    connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connected.set_result(None)

    def look() -> int:
        done.append("looked")
        return 1  # at which the watch ends

    vigil = Vigil(line, look=look, note_headway=lambda: None, ask=lambda: done.append("asked"))
    await vigil.keep(connected)
    line.hearing.gap_count += 1
    await vigil.keep(connected)
    await vigil.keep(connected)
    assert done == ["looked", "asked", "looked", "looked"]


def test_a_ping_of_pahos_is_noted_as_it_goes_out() -> None:
    clock = iter(range(100))
    line = Line()
    line.hearing = Hearing(lambda: float(next(clock)))
    vigil = Vigil(line, look=lambda: 0, note_headway=lambda: None, ask=lambda: None)
    assert vigil.ping(lambda: 7) == 7
    assert next(clock) > 1  # it was looked at again
