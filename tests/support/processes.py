"""Processes that run ``plantops``, or a script that uses it: forked from one that has loaded it, or fresh."""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

COMMAND = (sys.executable, "-m", "plantops_cli")
ROOT = Path(__file__).parents[2]
IS_ALWAYS_FRESH = "PLANTOPS_FRESH" in os.environ
_SERVER = Path(__file__).with_name("fork_server.py")
# read by the interpreter when it starts, or by typer when it is imported: too late for a process that is forked
_READ_AT_START = ("PYTHON", "LC_", "LANG", "COVERAGE", "TYPER_", "_TYPER", "FORCE_COLOR", "TERMINAL_WIDTH")
# Ctrl-C becomes SIGINT only on a terminal that controls the process
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_lock = threading.Lock()


class Process(Protocol):
    """What the tests need of a process: some of ``subprocess.Popen``."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A process that the fork server has forked.

    Args:
        connection: on which the server sends its pid, and later its exit code.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
        assert self.pid, "the fork server did not fork"
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._receive(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code: negative is the number of a signal."""
        code = self._receive(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("plantops", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _receive(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = int.from_bytes(self._connection.recv(4, socket.MSG_WAITALL), "big", signed=True)
            self._connection.close()
        return self.returncode


class Launch(Protocol):
    """Starts a process in a session of its own.

    Args:
        arguments: its command line.
        descriptors: its standard input, output and error output.
        env: its whole environment.
    """

    def __call__(
        self, arguments: Sequence[str], descriptors: tuple[int, int, int], *, env: Mapping[str, str]
    ) -> Process: ...


def plantops(
    arguments: Sequence[str],
    descriptors: tuple[int, int, int],
    *,
    env: Mapping[str, str],
    folder: Path | None = None,
    is_on_terminal: bool = False,
    is_fresh: bool = False,
) -> Process:
    """Run a command line of plantops in a session of its own.

    Args:
        arguments: the command line without the name of the program.
        descriptors: its standard input, output and error output.
        env: its whole environment.
        folder: where it runs; None: where we are.
        is_on_terminal: whether its standard input is a terminal, which is to control it.
        is_fresh: whether it is to have an interpreter of its own.
    """
    if not (is_fresh or must_be_fresh(env)):
        return forked(arguments, descriptors, env=env, folder=folder, is_on_terminal=is_on_terminal)
    first = (sys.executable, "-c", _TAKE_TERMINAL) if is_on_terminal else ()
    return fresh([*first, *COMMAND, *arguments], descriptors, env=env, folder=folder)


def script(
    arguments: Sequence[str],
    descriptors: tuple[int, int, int],
    *,
    env: Mapping[str, str],
    is_fresh: bool = False,
) -> Process:
    """Run Python code, which can import the package and these helpers, in a session of its own.

    Args:
        arguments: the code, and what it finds in ``sys.argv`` behind its own name.
        descriptors: its standard input, output and error output.
        env: its whole environment.
        is_fresh: whether it is to have an interpreter of its own.
    """
    if is_fresh or must_be_fresh(env):
        return fresh([sys.executable, "-c", *arguments], descriptors, env={**env, "PYTHONPATH": str(ROOT)})
    return forked(arguments[1:], descriptors, env=env, code=arguments[0])


def fresh(
    arguments: Sequence[str],
    descriptors: tuple[int, int, int],
    *,
    env: Mapping[str, str],
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start any program in a session of its own, so that all that it starts can be killed."""
    stdin, stdout, stderr = descriptors
    return subprocess.Popen(
        arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=folder, start_new_session=True
    )


def forked(
    arguments: Sequence[str],
    descriptors: tuple[int, int, int],
    *,
    env: Mapping[str, str],
    code: str | None = None,
    folder: Path | None = None,
    is_on_terminal: bool = False,
) -> Forked:
    """Have the fork server run a command line of plantops, or some code."""
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "code": code,
        "arguments": arguments,
        "env": dict(env),
        "folder": str(folder or Path.cwd()),
        "umask": umask,
        "is_on_terminal": is_on_terminal,
    }
    ours, theirs = socket.socketpair()
    with theirs, _lock:
        socket.send_fds(_server(), [b"!"], [theirs.fileno(), *descriptors])
    ours.sendall(json.dumps(request).encode() + b"\n")
    return Forked(ours)


def must_be_fresh(env: Mapping[str, str]) -> bool:
    """Whether an environment holds something else for the interpreter's start than that of the fork server."""

    def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}

    return IS_ALWAYS_FRESH or read_at_start(env) != _OURS


_OURS = {name: value for name, value in os.environ.items() if name.startswith(_READ_AT_START)}


@functools.cache
def _server() -> socket.socket:
    """Start the fork server, and return the way to it; it ends when that is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-P", str(_SERVER), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            cwd="/",
        )

    def stop() -> None:
        ours.close()
        server.wait()

    atexit.register(stop)
    return ours
