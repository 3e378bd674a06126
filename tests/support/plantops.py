"""``plantops`` as its users run it: a process of its own, with real pipes, signals and terminals."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO

COMMAND = (sys.executable, "-m", "plantops_cli")
PATIENCE_SECONDS = 30.0

# Ctrl-C becomes SIGINT only on a terminal that controls the process
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Attributes:
        code: its exit code; negative: the number of the signal that killed it.
        stdout: all it wrote.
        stderr: all it said.
        seconds: how long it took to end, from when it was asked to.
    """

    code: int
    stdout: bytes
    stderr: str
    seconds: float

    @property
    def lines(self) -> list[bytes]:
        """The lines of stdout."""
        return self.stdout.splitlines()

    @property
    def errors(self) -> list[str]:
        """The error lines of stderr."""
        return [line for line in self.stderr.splitlines() if line.startswith("plantops: error:")]


class Stream:
    """What a process writes, as it comes.

    Args:
        descriptor: the reading end of a pipe, or a terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self.text = b""
        self.descriptor = descriptor
        self._searched = 0

    def wait_for(self, pattern: str) -> None:
        """Read until a pattern appears after the one that was waited for last."""
        while not (found := re.compile(pattern.encode()).search(self.text, self._searched)):
            assert _ready([self]), f"no {pattern!r} in {PATIENCE_SECONDS} s: {self.text!r}"
            assert self.read(), f"it ended without {pattern!r}: {self.text!r}"
        self._searched = found.end()

    def read(self) -> bytes:
        """Read what there is; nothing means the end."""
        try:
            received = os.read(self.descriptor, 1 << 16)
        except OSError:
            # a terminal whose other side is closed
            received = b""
        self.text += received
        return received


def read_to_the_end(*streams: Stream) -> None:
    """Read streams side by side, so that none of them can hold up the process that writes them."""
    unfinished = set(streams)
    while unfinished:
        ready = _ready(list(unfinished))
        assert ready, f"nothing more in {PATIENCE_SECONDS} s after {[stream.text[-500:] for stream in streams]}"
        unfinished -= {stream for stream in ready if not stream.read()}


def _ready(streams: list[Stream]) -> list[Stream]:
    ready, _, _ = select.select([stream.descriptor for stream in streams], [], [], PATIENCE_SECONDS)
    return [stream for stream in streams if stream.descriptor in ready]


class Running:
    """A command in the background.

    Args:
        process: the process, started with pipes or on a terminal.
        stdout: what it writes.
        stderr: what it says; on a terminal the same as ``stdout``.
    """

    def __init__(self, process: subprocess.Popen[bytes], stdout: Stream, stderr: Stream) -> None:
        self.process = process
        self.stdout = stdout
        self.stderr = stderr

    def finish(self, number: int | None = None) -> Done:
        """Send a signal, if any, read both streams to their end and wait for the process."""
        asked = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        read_to_the_end(self.stdout, self.stderr)
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        return Done(code, self.stdout.text, self.stderr.text.decode(), time.monotonic() - asked)


def run(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", redirect: str | None = None
) -> Done:
    """Run a command to its end.

    Args:
        arguments: its command line without the name of the program.
        env: variables to add to the environment.
        stdin: what it can read.
        redirect: redirections of the shell, such as ``2>&-``.
    """
    command: Sequence[str] = [*COMMAND, *arguments]
    if redirect:
        command = ["sh", "-c", f"exec {shlex.join(command)} {redirect}"]
    began = time.monotonic()
    done = subprocess.run(
        command,
        input=stdin,
        env=_environment(env),
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode(), time.monotonic() - began)


@contextmanager
def start(
    *arguments: str, env: Mapping[str, str] | None = None, pipe_to: str | None = None, redirect: str = ""
) -> Iterator[Running]:
    """Start a command with pipes; it is killed, with its pipeline, when the context ends.

    Args:
        arguments: its command line without the name of the program.
        env: variables to add to the environment.
        pipe_to: a command of the shell that reads its output; stdout and exit code are then that command's, and
            the last line of stderr is ``exit`` and the exit code of ours.
        redirect: redirections of the shell, such as ``2>&-``.
    """
    line = f"{shlex.join([*COMMAND, *arguments])} {redirect}"
    line = f'{{ {line}; echo "exit $?" >&2; }} | {pipe_to}' if pipe_to else f"exec {line}"
    # a session of its own, so that the whole pipeline can be killed
    process = subprocess.Popen(
        ["sh", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(env),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr, _killed(process):
        yield Running(process, Stream(process.stdout.fileno()), Stream(process.stderr.fileno()))


@contextmanager
def start_on_terminal(
    *arguments: str, env: Mapping[str, str] | None = None, is_stdout_piped: bool = False
) -> Iterator[tuple[Running, BinaryIO]]:
    """Start a command on a terminal that controls it, and yield it with the keyboard of that terminal.

    Args:
        arguments: its command line without the name of the program.
        env: variables to add to the environment.
        is_stdout_piped: whether its stdout is a pipe, so that only stdin and stderr are the terminal.
    """
    other_side, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 160))
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *COMMAND, *arguments],
        stdin=terminal,
        stdout=subprocess.PIPE if is_stdout_piped else terminal,
        stderr=terminal,
        env=_environment({"TERM": "xterm-256color", **(env or {})}),
        start_new_session=True,
    )
    os.close(terminal)
    with os.fdopen(other_side, "r+b", buffering=0) as keyboard, process.stdout or nullcontext(), _killed(process):
        stderr = Stream(other_side)
        stdout = Stream(process.stdout.fileno()) if process.stdout else stderr
        yield Running(process, stdout, stderr), keyboard


@contextmanager
def _killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    # a width of its own would make the lines of a terminal depend on whoever runs the tests
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return inherited | dict(env or {})
