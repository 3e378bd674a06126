"""Standard output for a stream: a slow reader of it never blocks the event loop."""

import asyncio
import os
import select
import sys
from collections.abc import Callable

from plantops_cli.errors import OutputError
from plantops_cli.outputs.descriptor import Outlet
from plantops_cli.outputs.destination import ReaderGoneError
from plantops_cli.stream.waiting import unless


class StandardOutput:
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
            ReaderGoneError: the reader has gone.
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
        except BrokenPipeError as exc:
            raise ReaderGoneError(start) from exc
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
