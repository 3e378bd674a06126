"""When an outage begins: a clock that is set by hand, so that nobody sleeps."""

import math

import pytest

from plantops_cli.stream.hearing import LATE_SECONDS, Hearing


class Story:
    """A connection that is looked at each second, but while nobody can."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self.hearing = Hearing(lambda: self.at)

    def quiet(self, seconds: float) -> "Story":
        for _ in range(int(seconds)):
            self.at += 1
            self.hearing.looked()
        self.at += seconds % 1
        return self

    def stopped(self, seconds: float) -> "Story":
        self.at += seconds
        return self

    def ping(self) -> "Story":
        self.hearing.asked()
        return self

    def hear(self) -> "Story":
        self.hearing.heard()
        return self

    def silent_seconds(self, *, is_told: bool = True) -> float:
        """How long before its end the outage began."""
        return round(self.at - self.hearing.silent_since(is_told=is_told), 6)


def test_an_end_out_of_the_blue_is_when_it_is_told_however_quiet_it_was() -> None:
    assert Story().hear().quiet(25).silent_seconds() == 0


def test_a_connection_that_we_give_up_ended_with_its_last_byte() -> None:
    assert Story().hear().quiet(8.3).silent_seconds(is_told=False) == 8.3


def test_an_end_that_comes_while_the_broker_owes_an_answer_is_late() -> None:
    assert Story().hear().quiet(10).ping().quiet(5).silent_seconds() == 15


def test_an_end_right_behind_a_ping_is_none_that_is_late() -> None:
    assert Story().hear().quiet(10).ping().quiet(1).silent_seconds() == 0


def test_an_answer_dispels_the_doubt() -> None:
    assert Story().quiet(10).ping().quiet(1).hear().quiet(5).silent_seconds() == 0


def test_of_several_pings_that_are_not_answered_the_first_counts() -> None:
    assert Story().hear().ping().quiet(20).ping().silent_seconds() == 20


@pytest.mark.parametrize("seconds", [LATE_SECONDS + 0.1, 3 * 3600.0])
def test_an_end_that_is_found_after_we_were_stopped_or_asleep_counts_from_before(seconds: float) -> None:
    assert Story().hear().stopped(seconds).silent_seconds() == seconds


def test_so_does_an_end_behind_bytes_that_waited_meanwhile() -> None:
    story = Story().hear().stopped(60).hear().hear()
    assert story.silent_seconds() == 60
    assert story.quiet(1).silent_seconds() == 61


def test_so_does_an_end_behind_last_words_that_came_when_the_link_was_mended() -> None:
    assert Story().hear().quiet(5).ping().quiet(20).hear().silent_seconds() == 25


def test_who_goes_on_talking_after_we_were_stopped_was_there_all_the_time() -> None:
    assert Story().hear().stopped(60).hear().quiet(5).silent_seconds() == 0


def test_a_short_delay_is_no_gap() -> None:
    story = Story().hear().stopped(LATE_SECONDS - 0.1)
    assert story.silent_seconds() == 0
    assert story.hearing.gap_count == 0


def test_a_gap_is_counted_once_whoever_finds_it() -> None:
    assert Story().stopped(10).hear().quiet(3).hear().hearing.gap_count == 1
    assert Story().stopped(10).quiet(1).hear().hearing.gap_count == 1


def test_an_end_that_lies_unread_is_when_it_was_there_and_not_when_it_is_read() -> None:
    story = Story().hear().quiet(5)
    story.at += 1
    story.hearing.saw_end()
    story.quiet(60).hear()
    assert story.silent_seconds() == 61  # since the look before, at which it was not there


def test_what_would_answer_a_ping_may_lie_unread_before_the_end() -> None:
    story = Story().hear().ping().quiet(30)
    story.hearing.saw_end()
    assert story.silent_seconds() == 0


def test_where_nobody_looks_there_is_no_gap() -> None:
    at = 0.0
    hearing = Hearing(lambda: at, late_seconds=math.inf)
    at = 100.0
    hearing.heard()
    assert hearing.gap_count == 0
