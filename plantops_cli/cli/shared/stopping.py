"""Why a stream ends, which signals end it, and the exit code of it."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from types import FrameType

from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.stderr import tell


class Stop(Enum):
    """Why a stream ended."""

    COUNT = auto()
    TIMEOUT = auto()
    INTERRUPTED = auto()
    TERMINATED = auto()
    READER_GONE = auto()
    SOURCE_GONE = auto()


_SIGNALS = {signal.SIGINT: Stop.INTERRUPTED, signal.SIGTERM: Stop.TERMINATED}


@contextmanager
def on_signals(react: Callable[[signal.Signals, Stop], None]) -> Iterator[None]:
    """Call ``react`` in the event loop for each Ctrl-C and SIGTERM while the context lasts.

    Args:
        react: told the signal, and the reason to stop that it stands for.
    """
    loop = asyncio.get_running_loop()

    def receive(number: signal.Signals, reason: Stop) -> None:
        if sys.stderr.isatty():
            tell("\r")  # over the terminal's ^C
        react(number, reason)

    for number, reason in _SIGNALS.items():
        loop.add_signal_handler(number, receive, number, reason)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def ending_by_signals(stop: Callable[[Stop], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop a run while the context lasts; a second one of a kind kills the program.

    Args:
        stop: told the reason.
    """

    def react(number: signal.Signals, reason: Stop) -> None:
        stop(reason)
        die_next_time(number)

    with on_signals(react):
        yield


@contextmanager
def unwinding() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does: what was started is stopped, what was half done undone."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(Exit.TERMINATED)

    usual = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def die_next_time(number: signal.Signals) -> None:
    """Give a signal its usual effect again: whoever asks twice does not want to wait."""
    asyncio.get_running_loop().remove_signal_handler(number)
    signal.signal(number, signal.SIG_DFL)


def exit_for(reason: Stop | None, *, count: int | None, shown: int) -> Exit:
    """Decide the exit code of a stream that ended without an error.

    Args:
        reason: why it ended.
        count: how many messages were asked for; None: no number.
        shown: how many were shown.
    """
    if reason is Stop.TIMEOUT and (count is not None or shown == 0):
        return Exit.TIMEOUT
    if reason is Stop.INTERRUPTED and count is not None:
        return Exit.INTERRUPTED
    if reason is Stop.TERMINATED and count is not None:
        return Exit.TERMINATED
    return Exit.OK
