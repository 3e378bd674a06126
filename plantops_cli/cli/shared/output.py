"""Where a stream goes: standard output, or a file; neither ever blocks the event loop."""

import asyncio
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from plantops_cli.cli.shared.options import OutputChoice
from plantops_cli.cli.shared.stderr import say
from plantops_cli.errors import ConfigError, NoRoomError, OutputError
from plantops_cli.outputs.descriptor import Outlet
from plantops_cli.outputs.file import LineFile, parse_period, parse_size
from plantops_cli.stream.waiting import unless

_ROOM_SECONDS = 1.0


class Destination(Protocol):
    """Takes whole lines.

    Attributes:
        is_prompt: whether ``write_at_once`` is worth a try.
    """

    is_prompt: bool

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data`` and return how many bytes were written: all, unless ``stopped`` is set meanwhile."""
        ...

    def write_at_once(self, data: bytes) -> bool:
        """Write all of ``data`` in no time, or nothing and return False."""
        ...

    def on_reader_gone(self, callback: Callable[[], None]) -> None:
        """Call back as soon as nobody can read any more what is written."""
        ...

    def close(self) -> None:
        """Give back what was taken."""
        ...


class FileOutput:
    """Writes lines to a file, on disk when ``write`` returns; waits while the disk is full.

    Args:
        file: the file; it is opened here.

    Raises:
        ForeignFileError: it is not ours.
        ConfigError: it cannot be opened.
    """

    is_prompt = False  # a disk takes its time

    def __init__(self, file: LineFile) -> None:
        self._file = file
        file.open()
        self._say_notices()

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data`` and return how many bytes were written: all, or none when stopped while the disk is full.

        Args:
            data: whole lines.
            stopped: once it is set, room is not waited for.

        Raises:
            ForeignFileError: what has come to the place of the file is not ours.
            OutputError: the disk failed in another way than by being full.
        """
        is_told = False
        while data:
            try:
                await asyncio.to_thread(self._file.append, data)
            except NoRoomError as exc:
                if not is_told:
                    say(f"{exc}: waiting for room, and acknowledging nothing")
                    is_told = True
                await unless(stopped, asyncio.sleep(_ROOM_SECONDS))
                if stopped.is_set():
                    return 0
            else:
                break
        self._say_notices()
        if is_told:
            say(f"there is room again for {str(self._file.path)!r}")
        return len(data)

    def write_at_once(self, data: bytes) -> bool:  # noqa: ARG002  # as a Destination has it
        """Write nothing, and return False."""
        return False

    def on_reader_gone(self, callback: Callable[[], None]) -> None:
        """Do nothing, for a file needs no reader."""

    def close(self) -> None:
        """Close the file, in a thread that the end of the event loop waits for."""
        asyncio.get_running_loop().run_in_executor(None, self._file.close)

    def _say_notices(self) -> None:
        while self._file.notices:
            say(f"note: {self._file.notices.pop(0)}")


class Output:
    """Writes bytes to a descriptor without ever blocking the event loop on a slow reader.

    Args:
        descriptor: where to write, usually 1.

    Attributes:
        is_prompt: whether it is a pipe, which takes ``PIPE_BUF`` bytes whole or not at all (POSIX).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._outlet = Outlet(descriptor)
        self.is_prompt = self._outlet.is_pipe
        # Linux writes with it only what there is room for, though the descriptor is in blocking mode (pwritev2(2))
        self._nowait: int | None = getattr(os, "RWF_NOWAIT", None)

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data``, waiting for the reader where needed, and return how many bytes were written.

        Args:
            data: whole lines.
            stopped: once it is set, a slow reader is not waited for; what a pipe got then ends with a whole line,
                unless that line is longer than ``PIPE_BUF``.

        Raises:
            BrokenPipeError: the reader has gone.
            OutputError: the system refused the write, for example because the disk is full.
        """
        position = 0
        while position < len(data):
            written = self._write_some(data, position)
            if not written:
                await unless(stopped, self._readiness())
                if stopped.is_set():
                    break
            position += written
        return position

    def write_at_once(self, data: bytes) -> bool:
        """Write all of ``data`` to a pipe that has room for it and return True, or nothing and return False.

        Args:
            data: whole lines; more than ``PIPE_BUF`` bytes are refused.
        """
        if not data:
            return True
        if not self.is_prompt or len(data) > select.PIPE_BUF:
            return False
        try:
            if self._nowait is not None:
                return os.pwritev(self._descriptor, (data,), -1, self._nowait) == len(data)
            return self._outlet.is_writable() and os.write(self._descriptor, data) == len(data)
        except BlockingIOError:
            return False
        except OSError:
            self._nowait = None  # not for pipes before Linux 6.4; any other reason the next write() will tell
            return False

    def on_reader_gone(self, callback: Callable[[], None]) -> None:
        """Call back as soon as the reader of a pipe has gone, even when there is nothing to write."""
        # epoll reports the error condition of a pipe's writing end to any watcher; kqueue does not
        if sys.platform == "linux" and self._outlet.is_pipe:
            loop = asyncio.get_running_loop()

            def gone() -> None:
                loop.remove_reader(self._descriptor)
                callback()

            loop.add_reader(self._descriptor, gone)

    def close(self) -> None:
        """Stop watching the reader; the descriptor stays open."""
        if self._outlet.is_pipe:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._outlet.close()

    def _write_some(self, data: bytes, start: int) -> int:
        try:
            return self._outlet.write(data, start)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(f"cannot write to standard output: {exc.strerror}") from exc

    async def _readiness(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._outlet.descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._outlet.descriptor)


def file_output(
    path: Path | None, choice: OutputChoice | None, *, rotate_size: str | None, rotate_every: str | None
) -> FileOutput | None:
    """Open the file of ``--to``, or return None without the flag.

    Args:
        path: the value of ``--to``.
        choice: the value of ``-o``.
        rotate_size: the value of ``--rotate-size``.
        rotate_every: the value of ``--rotate-every``.

    Raises:
        ConfigError: the flags contradict each other, or the file cannot be opened.
        ForeignFileError: the file is not ours.
    """
    if path is None:
        if rotate_size or rotate_every:
            raise ConfigError("--rotate-size and --rotate-every are for --to", hint="give --to FILE")
        return None
    if choice is OutputChoice.PRETTY:
        raise ConfigError("--to writes JSON lines, not --output pretty", hint="leave --output out")
    return FileOutput(
        LineFile(
            path,
            rotate_bytes=parse_size(rotate_size) if rotate_size else None,
            rotate_seconds=parse_period(rotate_every) if rotate_every else None,
        )
    )
