"""Why a stream ends, by which signal, and with which exit code."""

import asyncio
import os
import signal

import pytest

from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.stopping import Stop, ending_by_signals, exit_for, on_signals, unwinding
from tests.support.subscribing import eventually


@pytest.mark.parametrize(
    ("reason", "count", "shown", "code"),
    [
        (Stop.COUNT, 3, 3, Exit.OK),
        (Stop.TIMEOUT, None, 0, Exit.TIMEOUT),
        (Stop.TIMEOUT, None, 1, Exit.OK),
        (Stop.TIMEOUT, 3, 2, Exit.TIMEOUT),
        (Stop.INTERRUPTED, None, 0, Exit.OK),
        (Stop.INTERRUPTED, 3, 2, Exit.INTERRUPTED),
        (Stop.TERMINATED, None, 5, Exit.OK),
        (Stop.TERMINATED, 3, 0, Exit.TERMINATED),
        (Stop.READER_GONE, None, 0, Exit.OK),
        (Stop.READER_GONE, 3, 1, Exit.OK),
    ],
)
def test_the_exit_code_follows_from_reason_and_count(
    reason: Stop, count: int | None, shown: int, code: Exit
) -> None:
    assert exit_for(reason, count=count, shown=shown) is code


async def test_a_signal_is_told_with_the_reason_that_it_stands_for() -> None:
    told: list[tuple[signal.Signals, Stop]] = []
    with on_signals(lambda number, reason: told.append((number, reason))):
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: told)
        os.kill(os.getpid(), signal.SIGINT)
        await eventually(lambda: len(told) == 2)
    assert told == [(signal.SIGTERM, Stop.TERMINATED), (signal.SIGINT, Stop.INTERRUPTED)]


async def test_the_second_signal_of_a_kind_has_its_usual_effect() -> None:
    stopped = asyncio.Event()
    with ending_by_signals(lambda _: stopped.set()):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stopped.wait(), timeout=10)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_while_something_is_undone_sigterm_ends_the_program_as_an_exception() -> None:
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, unwinding():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == Exit.TERMINATED
    assert signal.getsignal(signal.SIGTERM) is usual
