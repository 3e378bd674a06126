"""The benchmark of plain handlers: each message is handled where it should be, and the rounds are made a row."""

import asyncio
import threading

import pytest

from benchmarks.blocking import Run, figures, handle


def test_a_row_has_the_median_of_the_rounds_and_the_worst_wait() -> None:
    runs = [Run(1.5, 0.004), Run(1.6, 0.002), Run(4.0, 0.0305)]
    assert figures("a", runs) == ("a", "1.60 s", "4.00 ms", "30.5 ms")


@pytest.mark.parametrize("is_blocking", [False, True])
def test_each_message_is_handled_once_where_it_is_said(is_blocking: bool) -> None:
    in_loop: list[bool] = []

    def note(message: object) -> None:
        in_loop.append(threading.current_thread() is threading.main_thread())

    asyncio.run(handle(note, 1_203, is_blocking=is_blocking))
    assert in_loop == [not is_blocking] * 1_203


def test_no_more_threads_handle_at_once_than_may() -> None:
    names = set[str]()
    asyncio.run(handle(lambda _: names.add(threading.current_thread().name), 500, concurrency=128, max_threads=2))
    assert 1 <= len(names) <= 2
