"""The JSON lines that a listener wrote about the messages of ``tests.support.reliable_publisher``."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Recording:
    """A file that a listener appends to, maybe at this moment.

    Args:
        path: the file; it need not be there yet.
    """

    path: Path

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def lines(self) -> list[dict[str, object]]:
        """Its lines; what comes after the last line break is still being written."""
        whole = self.path.read_bytes().rpartition(b"\n")[0] if self.path.exists() else b""
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the messages, in the order of the lines."""
        return [line["payload"]["n"] for line in self.lines]  # type: ignore[index]  # what the publisher sent

    def missing(self, numbers: Iterable[int]) -> set[int]:
        """The numbers that have no line."""
        return set(numbers) - set(self.numbers)

    @property
    def unmarked_repetitions(self) -> list[dict[str, object]]:
        """The lines that have come before and do not say ``dup``."""
        seen: set[int] = set()
        unmarked = []
        for line, number in zip(self.lines, self.numbers, strict=True):
            if number in seen and line.get("dup") is not True:
                unmarked.append(line)
            seen.add(number)
        return unmarked


def until(is_so: Callable[[], object], *, seconds: float, poll_seconds: float = POLL_SECONDS) -> bool:
    """Wait for something that another process brings about; False when it does not in time.

    Args:
        is_so: whether it has come about.
        seconds: how long to wait at most.
        poll_seconds: the time between two looks.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_seconds)
    return True
