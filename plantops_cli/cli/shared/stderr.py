"""What the commands say to a person: status and log lines on stderr."""

import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import closing, suppress
from io import UnsupportedOperation
from typing import TextIO

from plantops_cli.cli.shared.hints import in_flags
from plantops_cli.formats.terminal import escape, escape_lines
from plantops_cli.outputs.descriptor import Outlet

_PATIENCE_SECONDS = 1.0
_REST_SECONDS = 0.01
_TEXTS_KEPT = 100

_unsaid: deque[bytes] = deque()
_saying = threading.Lock()


def say(message: str) -> None:
    """Say one line on stderr; as ``tell``.

    Args:
        message: what to say; it is escaped.
    """
    # one write, so that two programs on one terminal do not mix their lines
    tell(f"plantops: {escape(message)}\n")


def tell(text: str) -> None:
    """Write a text on stderr, and never wait: what it does not take now it is offered again later.

    A stderr that nobody reads is no reason to stop. The newest texts are kept until the next one, or ``finish``.

    Args:
        text: whole lines, or what moves the cursor.
    """
    try:
        sys.stderr.fileno()
    except UnsupportedOperation:
        # a stream in memory, of a program that runs a command line in itself
        sys.stderr.write(text)
        return
    with _saying:
        _unsaid.append(text.encode(sys.stderr.encoding, "backslashreplace"))
        if len(_unsaid) > _TEXTS_KEPT:
            del _unsaid[1]  # the first may be half said
        _say_what_is_taken()


def finish() -> None:
    """Wait a moment for a slow stderr to take what was kept; nothing is told after it.

    Ctrl-C ends the waiting.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with suppress(KeyboardInterrupt), _saying:
        while _unsaid and time.monotonic() < deadline:
            time.sleep(_REST_SECONDS)
            _say_what_is_taken()
    _unsaid.clear()


def _say_what_is_taken() -> None:
    try:
        with closing(Outlet(sys.stderr.fileno())) as outlet:
            while _unsaid and (taken := outlet.write(_unsaid[0])):
                _unsaid[0] = _unsaid[0][taken:]
                if not _unsaid[0]:
                    _unsaid.popleft()
    except OSError:
        _unsaid.clear()
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Let everything more that is written to a stream go nowhere, the interpreter's last flush too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def show_log(*, is_debug: bool) -> None:
    """Show the library's warnings on stderr, and with ``--debug`` its whole log.

    Args:
        is_debug: whether ``--debug`` was given.
    """
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(_Formatter())
    logger = logging.getLogger("plantops")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if is_debug else logging.WARNING)
    # paho's errors are said better by the status lines
    logging.getLogger("plantops.paho").setLevel(logging.DEBUG if is_debug else logging.CRITICAL)


class _Stderr:
    """Where the log is written: whatever stderr is by then, and without waiting for it."""

    def write(self, text: str) -> None:
        tell(text)


class _Formatter(logging.Formatter):
    """``plantops: warning: ...``, with the network's bytes escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"plantops: {record.levelname.lower()}: {escape(in_flags(record.getMessage()))}"
        # the message of an exception may repeat a stranger's words, and a traceback repeats the message
        return f"{line}\n{escape_lines(self.formatException(record.exc_info))}" if record.exc_info else line
