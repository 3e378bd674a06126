"""A listener as a child process: its lines are counted, its CPU time taken when it ends."""

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from benchmarks.measure import MeasurementError

_PATIENCE = 30.0
_BYTES_AT_ONCE = 1 << 20
_LAST_WORDS = 300  # characters


class Child:
    """A program whose standard output we read through a pipe, as its user's next program would.

    Args:
        name: what to call it when it fails.
        command: program and arguments.
        environment: variables besides our own.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdout is not None
        self._stdout = self.process.stdout.fileno()
        self._readable = selectors.DefaultSelector()
        self._readable.register(self._stdout, selectors.EVENT_READ)
        self.line_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._readable.close()
        self._said.close()

    def read(self, *, patience: float = _PATIENCE) -> bytes:
        """Read what there is, waiting until there is something; empty at the end.

        Args:
            patience: seconds to wait.

        Raises:
            MeasurementError: nothing came.
        """
        if not self._readable.select(patience):
            raise MeasurementError(f"{self._name} printed nothing for {patience:.0f} s{self.last_words()}")
        chunk = os.read(self._stdout, _BYTES_AT_ONCE)
        self.line_count += chunk.count(b"\n")
        return chunk

    def read_lines(self, count: int, *, patience: float = _PATIENCE) -> float:
        """Read until so many lines have come since the start, and return the moment (monotonic seconds).

        Args:
            count: lines in all.
            patience: seconds to wait for anything at all.

        Raises:
            MeasurementError: nothing came any more, or the program ended first.
        """
        while self.line_count < count:
            if not self.read(patience=patience):
                raise MeasurementError(
                    f"{self._name} ended after {self.line_count:,} of {count:,} lines{self.last_words()}"
                )
        return time.monotonic()

    def end(self, *, is_asked: bool = False) -> float:
        """Wait for its end, and return the CPU seconds of its whole life, user and system.

        Args:
            is_asked: whether to ask it to end, by SIGTERM.

        Raises:
            MeasurementError: it did not end, or it failed.
        """
        if is_asked:
            self.process.terminate()
        deadline = time.monotonic() + _PATIENCE
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        while not pid:
            if time.monotonic() > deadline:
                raise MeasurementError(f"{self._name} did not end{self.last_words()}")
            time.sleep(0.005)
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode and not is_asked:
            raise MeasurementError(f"{self._name} ended with {self.process.returncode}{self.last_words()}")
        return usage.ru_utime + usage.ru_stime

    def last_words(self) -> str:
        """What it said on standard error, cut to its end, to be put behind a complaint."""
        self._said.seek(0)
        said = " / ".join(line for line in self._said.read().decode(errors="replace").splitlines() if line.strip())
        return f": {said[-_LAST_WORDS:]}" if said else ""
