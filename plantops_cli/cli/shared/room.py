"""Room for open files: a command that would run out of it half-way is refused at its beginning."""

import os
import resource
from contextlib import ExitStack
from errno import EMFILE, ENFILE

COMMAND_FILES = 12
"""Descriptors that a command has open at once at most: event loop, connection, name lookup, a few files."""

DEMO_FILES = 24
"""With a broker and its clients in the same process."""


def check_room(files: int = COMMAND_FILES) -> None:
    """Make sure that so many files can be opened: without them not even an event loop ends cleanly.

    Args:
        files: how many, rounded up to an even number.

    Raises:
        OSError: they cannot (EMFILE, ENFILE).
    """
    with ExitStack() as opened:
        for _ in range(0, files, 2):
            for descriptor in os.pipe():
                opened.callback(os.close, descriptor)


def is_out_of_room(error: OSError) -> bool:
    """Tell whether an error means that no more files can be opened."""
    return error.errno in (EMFILE, ENFILE)


def explain_no_room(error: OSError) -> str:
    """Say that no more files can be opened, and what to do.

    Args:
        error: what the system said.
    """
    if error.errno == ENFILE:
        return "too many open files on this machine (close some, or raise fs.file-max)"
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"too many open files: the limit of this process is {limit} (raise it, for example: ulimit -n 64)"
