"""What a program has handled, in a file that outlives its death by any signal and costs little to write."""

import itertools
import mmap
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from io import FileIO
from pathlib import Path
from typing import NamedTuple

_KIND = struct.Struct("<I")
_REST = struct.Struct("<IQ")
_RECORD = struct.Struct("<IIQ")
_RECORDS_AT_ONCE = 4_096


class Kind(IntEnum):
    """What a record says; zero is where nothing has been written yet."""

    BEGUN = 1
    ENDED = 2
    COUNT = 3
    CPU = 4


class Record(NamedTuple):
    """One line of a journal.

    Attributes:
        kind: what it says.
        number: of the message; how many have been handled, for a count.
        nanoseconds: monotonic; CPU time of the process, for ``CPU``.
    """

    kind: Kind
    number: int
    nanoseconds: int


class Journal:
    """Write records into mapped memory: no system call, and what is there stays when the process is killed.

    Args:
        path: a new file.
        capacity: records that fit.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        with path.open("w+b") as file:
            file.truncate(capacity * _RECORD.size)
            self._map = mmap.mmap(file.fileno(), 0)
        self._offsets = itertools.count(0, _RECORD.size)  # next() is atomic, so that threads may write, too

    def note(self, kind: Kind, number: int) -> None:
        """Write what happened, with the time."""
        self._write(kind, number, time.monotonic_ns())

    def count(self, handled: int) -> None:
        """Write how many have been handled, with the time and the CPU time so far."""
        self._write(Kind.COUNT, handled, time.monotonic_ns())
        self._write(Kind.CPU, handled, time.process_time_ns())

    def _write(self, kind: Kind, number: int, nanoseconds: int) -> None:
        offset = next(self._offsets)
        _REST.pack_into(self._map, offset + _KIND.size, number, nanoseconds)
        _KIND.pack_into(self._map, offset, kind)  # last, for a record counts as there when it has one


class Follower:
    """Read a journal while it is being written.

    Args:
        path: the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def records(self) -> Iterator[Record]:
        """Yield what is new."""
        if not self._path.exists():
            return
        with self._path.open("rb", buffering=0) as file:
            while count := _whole(self._read(file, _RECORDS_AT_ONCE)):
                # Read again, for the first time the last of them may have been in the middle of being written
                data = self._read(file, count)
                self._offset += len(data)
                for kind, number, nanoseconds in _RECORD.iter_unpack(data):
                    yield Record(Kind(kind), number, nanoseconds)

    def _read(self, file: FileIO, count: int) -> bytes:
        file.seek(self._offset)
        return file.read(_RECORD.size * count)


def _whole(data: bytes) -> int:
    """How many records are there before the first that is not."""
    count = 0
    for kind, _, _ in _RECORD.iter_unpack(data):
        if not kind:
            break
        count += 1
    return count
