"""Where a stream goes: standard output, or a file; neither ever blocks the event loop."""

import asyncio
import fcntl
import os
import select
import stat
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from plantops_cli.cli.options import OutputChoice
from plantops_cli.cli.talk import say
from plantops_cli.errors import ConfigError, NoRoomError, OutputError
from plantops_cli.sinks.file import LineFile, parse_period, parse_size
from plantops_cli.stream.racing import unless

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
        ConfigError: it cannot be opened.
    """

    is_prompt = False  # a disk takes its time

    def __init__(self, file: LineFile) -> None:
        self._file = file
        file.open()
        for notice in file.notices:
            say(f"note: {notice}")

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data`` and return how many bytes were written: all, or none when stopped while the disk is full.

        Args:
            data: whole lines.
            stopped: once it is set, room is not waited for.

        Raises:
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


class Output:
    """Writes bytes to a file descriptor without ever blocking on a slow reader.

    The descriptor stays in blocking mode, for a terminal shares it with the shell: a pipe that ``select`` calls
    writable takes ``PIPE_BUF`` bytes without blocking (POSIX), an empty one as many as it holds, and regular files
    never block.

    Args:
        descriptor: where to write, usually 1.

    Attributes:
        is_prompt: whether it is a pipe, which takes ``PIPE_BUF`` bytes whole or not at all (POSIX).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mode = os.fstat(descriptor).st_mode
        self._may_block = not stat.S_ISREG(self._mode)
        self.is_prompt = self._is_pipe = stat.S_ISFIFO(self._mode)
        self._capacity = _capacity(descriptor) if self._is_pipe else 0
        # Linux writes with it only what there is room for, though the descriptor is in blocking mode (pwritev2(2))
        self._nowait: int | None = getattr(os, "RWF_NOWAIT", None)

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data``, waiting for the reader where needed, and return how many bytes were written.

        Args:
            data: whole lines.
            stopped: once it is set, a slow reader is not waited for; what was written then ends with a whole
                line, unless that line is longer than ``PIPE_BUF``.

        Raises:
            BrokenPipeError: the reader has gone.
            OutputError: the system refused the write, for example because the disk is full.
        """
        position = 0
        while position < len(data):
            if self._may_block and not self._is_writable():
                await unless(stopped, self._readiness())
                if stopped.is_set():
                    break
            position += self._write_some(data, position)
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
            return self._is_writable() and os.write(self._descriptor, data) == len(data)
        except BlockingIOError:
            return False
        except OSError:
            self._nowait = None  # not for pipes before Linux 6.4; any other reason the next write() will tell
            return False

    def on_reader_gone(self, callback: Callable[[], None]) -> None:
        """Call back as soon as the reader of a pipe has gone, even when there is nothing to write."""
        # epoll reports the error condition of a pipe's writing end to any watcher; kqueue does not
        if sys.platform == "linux" and self._is_pipe:
            loop = asyncio.get_running_loop()

            def gone() -> None:
                loop.remove_reader(self._descriptor)
                callback()

            loop.add_reader(self._descriptor, gone)

    def close(self) -> None:
        """Stop watching the reader; the descriptor stays open."""
        if self._is_pipe:
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _write_some(self, data: bytes, start: int) -> int:
        end = len(data)
        if self._may_block and end - start > select.PIPE_BUF:
            end = _end_of_chunk(data, start, self._room())
        try:
            return os.write(self._descriptor, memoryview(data)[start:end])
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(f"cannot write to standard output: {exc.strerror}") from exc

    def _room(self) -> int:
        """How many bytes can be written without blocking, now that ``select`` says that some can."""
        return self._capacity if self._capacity and _is_empty(self._descriptor) else select.PIPE_BUF

    def _is_writable(self) -> bool:
        return bool(select.select([], [self._descriptor], [], 0)[1])

    async def _readiness(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)


def _capacity(pipe: int) -> int:
    """How many bytes a pipe holds; 0 where the system does not tell."""
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 0


def _is_empty(pipe: int) -> bool:
    waiting = fcntl.ioctl(pipe, termios.FIONREAD, bytes(struct.calcsize("i")))
    return not any(waiting)


def _end_of_chunk(data: bytes, start: int, room: int) -> int:
    """Choose as many whole lines as there is room for, else the beginning of a long one."""
    limit = start + room
    return data.rfind(b"\n", start, limit) + 1 or limit


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
