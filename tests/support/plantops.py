"""``plantops`` as its users run it: a process of its own, with real pipes, signals and terminals."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import BinaryIO

from tests.support.processes import COMMAND, Launch, Process, fresh, plantops

PATIENCE_SECONDS = 30.0


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
        self._is_open = True
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

    def close(self) -> None:
        """Read no more, so that whoever writes finds nobody."""
        if self._is_open:
            os.close(self.descriptor)
        self._is_open = False


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

    def __init__(self, process: Process, stdout: Stream, stderr: Stream) -> None:
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
        return Done(
            code, self.stdout.text, self.stderr.text.decode(errors="backslashreplace"), time.monotonic() - asked
        )


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
    began = time.monotonic()
    if redirect:
        line = ["sh", "-c", f"exec {shlex.join([*COMMAND, *arguments])} {redirect}"]
        done = subprocess.run(
            line, input=stdin, env=_environment(env), capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
        return Done(
            done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace"), time.monotonic() - began
        )
    with piped(arguments, typed(stdin), _environment(env)) as running:
        return replace(running.finish(), seconds=time.monotonic() - began)


def typed(data: bytes) -> int:
    """What a command can read, as the reading end of a pipe."""
    reading, writing = os.pipe()
    threading.Thread(target=_type, args=(writing, data), name="typing").start()
    return reading


def _type(descriptor: int, data: bytes) -> None:
    """Write what a command can read, in a thread, for it may read nothing."""
    try:
        with open(descriptor, "wb") as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass


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
    nothing = os.open(os.devnull, os.O_RDONLY)
    if not (pipe_to or redirect):
        with piped(arguments, nothing, _environment(env)) as running:
            yield running
        return
    line = f"{shlex.join([*COMMAND, *arguments])} {redirect}"
    line = f'{{ {line}; echo "exit $?" >&2; }} | {pipe_to}' if pipe_to else f"exec {line}"
    with piped(["sh", "-c", line], nothing, _environment(env), launch=fresh) as running:
        yield running


@contextmanager
def piped(
    arguments: Sequence[str], stdin: int, env: Mapping[str, str], launch: Launch = plantops
) -> Iterator[Running]:
    """Launch a process with a pipe on each of its outputs; it is killed when the context ends.

    Args:
        arguments: its command line.
        stdin: the descriptor of what it can read, which is closed here.
        env: its whole environment.
        launch: what starts it.
    """
    (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe()
    process = launch(arguments, (stdin, its_stdout, its_stderr), env=env)
    for descriptor in (stdin, its_stdout, its_stderr):
        os.close(descriptor)
    with closing(Stream(stdout)) as out, closing(Stream(stderr)) as err, _killed(process):
        yield Running(process, out, err)


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
    reading, its_stdout = os.pipe() if is_stdout_piped else (None, terminal)
    process = plantops(
        arguments,
        (terminal, its_stdout, terminal),
        env=_environment({"TERM": "xterm-256color", **(env or {})}),
        is_on_terminal=True,
    )
    for descriptor in {terminal, its_stdout}:
        os.close(descriptor)
    stderr = Stream(other_side)
    pipe = nullcontext(stderr) if reading is None else closing(Stream(reading))
    with os.fdopen(other_side, "r+b", buffering=0) as keyboard, pipe as stdout, _killed(process):
        yield Running(process, stdout, stderr), keyboard


@contextmanager
def _killed(process: Process) -> Iterator[None]:
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
