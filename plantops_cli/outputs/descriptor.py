"""Writes that never wait, through a descriptor that others share and that therefore stays in blocking mode."""

import fcntl
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import Callable
from contextlib import ExitStack


class Outlet:
    """Writes what a pipe, a terminal, a socket or a file takes now.

    A pipe that ``select`` calls writable takes ``PIPE_BUF`` bytes without blocking (POSIX), an empty one as many
    as it holds; regular files and devices such as ``/dev/null`` never block. A terminal or a socket may have room
    for one byte only: the terminal is opened once more, for us alone and not to block, and the socket is asked not
    to with each write.

    Args:
        descriptor: where to write.

    Attributes:
        descriptor: what to watch for room; of a terminal our own one.
        is_pipe: whether it is a pipe.
    """

    def __init__(self, descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        self.descriptor = descriptor
        self.is_pipe = stat.S_ISFIFO(mode)
        self._may_block = not stat.S_ISREG(mode)
        self._capacity = _capacity(descriptor) if self.is_pipe else 0
        self._opened = ExitStack()
        self._send: Callable[[memoryview], int] | None = None
        if stat.S_ISSOCK(mode):
            self._send = self._sender(descriptor)
        elif os.isatty(descriptor):
            self.descriptor = self._reopened(descriptor)

    def write(self, data: bytes, start: int = 0) -> int:
        """Write whole lines, or the beginning of a long one, and return how many bytes; 0 when there is no room.

        A terminal or a socket that is almost full may cut a line.

        Args:
            data: whole lines.
            start: what was written of them before.

        Raises:
            OSError: the system refused the write.
        """
        end = len(data)
        if self._may_block:
            if not self.is_writable():
                return 0
            if end - start > select.PIPE_BUF:
                end = _end_of_chunk(data, start, self._room())
        chunk = memoryview(data)[start:end]
        try:
            return self._send(chunk) if self._send else os.write(self.descriptor, chunk)
        except BlockingIOError:
            return 0

    def is_writable(self) -> bool:
        """Tell whether there is room for anything."""
        return bool(select.select([], [self.descriptor], [], 0)[1])

    def close(self) -> None:
        """Give back what was opened here; the descriptor stays open."""
        self._opened.close()

    def _sender(self, descriptor: int) -> Callable[[memoryview], int] | None:
        """Send without waiting; a socket of which there can be no copy is written to like a pipe."""
        try:
            own = self._opened.enter_context(socket.socket(fileno=os.dup(descriptor)))
        except OSError:
            return None  # no room for one more open file
        return lambda chunk: own.send(chunk, socket.MSG_DONTWAIT)

    def _reopened(self, terminal: int) -> int:
        """Open a terminal again; one that another user owns is used as it is."""
        try:
            own = os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return terminal
        self._opened.callback(os.close, own)
        return own

    def _room(self) -> int:
        """How many bytes can be written without blocking, now that ``select`` says that some can."""
        return self._capacity if self._capacity and _is_empty(self.descriptor) else select.PIPE_BUF


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
