"""What the commands say to a person: status and log lines on stderr."""

import logging
import os
import sys
from typing import TextIO

from plantops_cli.sinks.terminal import escape


def say(message: str) -> None:
    """Say one line on stderr; a stderr that nobody reads is no reason to stop."""
    try:
        # one write, so that two programs on one terminal do not mix their lines
        sys.stderr.write(f"plantops: {escape(message)}\n")
        sys.stderr.flush()
    except OSError:
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
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    # dotenv warns of lines in .env that it cannot read
    for name in ("plantops", "dotenv"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.DEBUG if is_debug else logging.WARNING)
    # paho's errors are said better by the status lines
    logging.getLogger("plantops.paho").setLevel(logging.DEBUG if is_debug else logging.CRITICAL)


class _Formatter(logging.Formatter):
    """``plantops: warning: ...``, with the network's bytes escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"plantops: {record.levelname.lower()}: {escape(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
