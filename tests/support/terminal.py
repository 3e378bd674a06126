"""Terminals: of a command, with somebody who answers its prompts, and of the tests' own process."""

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from tests.support.subscribing import eventually

_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def run_on_terminal(
    command: Sequence[str], *, answers: Sequence[bytes], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard input is a terminal, and type an answer at each ``: `` on its stderr."""
    terminal, stdin = pty.openpty()
    pipe = subprocess.PIPE
    # a session of its own: the prompt must not find the terminal of whoever runs the tests
    process = subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
    os.close(stdin)
    try:
        asked = b"".join(_answer(process, terminal, answer) for answer in answers)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(terminal)
    return subprocess.CompletedProcess(command, process.returncode, stdout, asked + stderr)


def _answer(process: subprocess.Popen[bytes], terminal: int, answer: bytes) -> bytes:
    assert process.stderr is not None
    asked = b""
    while not asked.endswith(b": "):
        # what is typed before the prompt would be thrown away
        received = os.read(process.stderr.fileno(), 1024)
        assert received, f"no prompt but {asked!r}"
        asked += received
    os.write(terminal, answer)
    return asked


class OwnTerminal:
    """The other side of a terminal that is standard input and output of the tests' own process.

    Args:
        other_side: where it is read, without waiting, and typed on.
        descriptor: the terminal itself, as the process has it.
    """

    def __init__(self, other_side: int, descriptor: int) -> None:
        self.descriptor = descriptor
        self._other_side: int | None = other_side
        self._shown = b""
        self._searched = 0
        os.set_blocking(other_side, False)

    @property
    def settings(self) -> list[object]:
        """What it does with keys and lines."""
        return termios.tcgetattr(self.descriptor)[:6]

    @property
    def shown(self) -> str:
        """All that has been written on it by now."""
        with suppress(BlockingIOError):
            while self._other_side is not None and (more := os.read(self._other_side, 1 << 16)):
                self._shown += more
        return self._shown.decode()

    async def shows(self, pattern: str) -> None:
        """Wait until a pattern is shown, in any colours, after the one that was waited for last."""
        await eventually(lambda: self._finds(pattern))

    def _finds(self, pattern: str) -> bool:
        found = re.compile(pattern).search(_COLOUR.sub("", self.shown), self._searched)
        self._searched = found.end() if found else self._searched
        return found is not None

    def press(self, keys: bytes) -> None:
        """Type on its keyboard."""
        assert self._other_side is not None
        os.write(self._other_side, keys)

    def hang_up(self) -> None:
        """Let it go, as a window that is closed does; again, and nothing happens."""
        if self._other_side is not None:
            os.close(self._other_side)
        self._other_side = None


@contextmanager
def own_terminal(*, lines: int = 24, columns: int = 80) -> Iterator[OwnTerminal]:
    """Give this process a terminal, until the context ends; its stderr stays what it is.

    It is for the body of a test: between a fixture and its test, pytest sets the streams anew.

    Args:
        lines: its height.
        columns: its width.
    """
    other_side, descriptor = pty.openpty()
    termios.tcsetwinsize(descriptor, (lines, columns))
    terminal = OwnTerminal(other_side, descriptor)
    try:
        with _standing_in(descriptor):
            yield terminal
    finally:
        terminal.hang_up()


@contextmanager
def _standing_in(terminal: int) -> Iterator[None]:
    stdin, stdout = os.fdopen(terminal), os.fdopen(os.dup(terminal), "w")
    before, descriptor = (sys.stdin, sys.stdout), os.dup(0)
    os.dup2(terminal, 0)  # where rich asks for the size, whatever sys.stdin is
    sys.stdin, sys.stdout = stdin, stdout
    try:
        yield
    finally:
        sys.stdin, sys.stdout = before
        os.dup2(descriptor, 0)
        os.close(descriptor)
        for stream in (stdin, stdout):
            with suppress(OSError):  # of one that has hung up, with something still unwritten
                stream.close()
