"""Writes that never wait, on real pipes, terminals, sockets and files."""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from plantops_cli.outputs.descriptor import Outlet
from tests.support.subscribing import open_files

LINES = b"".join(b'{"n":%d}\n' % number for number in range(100_000))


@pytest.fixture(params=["pipe", "terminal", "unix", "tcp"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The reading and the writing end of whatever the standard output may be."""
    with ExitStack() as opened:
        if request.param in ("pipe", "terminal"):
            reader, writer = os.pipe() if request.param == "pipe" else os.openpty()
            opened.callback(os.close, reader)
            opened.callback(os.close, writer)
            yield reader, writer
            return
        near, far = socket.socketpair() if request.param == "unix" else tcp_pair(opened)
        with near, far:
            yield near.fileno(), far.fileno()


def tcp_pair(opened: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two ends with buffers so small that select calls one writable which does not take PIPE_BUF bytes."""
    server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    writer = socket.create_connection(server.getsockname())
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, select.PIPE_BUF)
    return server.accept()[0], writer


def fill(outlet: Outlet) -> int:
    """Write for as long as there is room, and return how many bytes there was room for."""
    written = 0
    # a moment, in which the network carries on what it has
    while select.select([], [outlet.descriptor], [], 0.1)[1]:
        written += outlet.write(LINES, written)
    return written


def test_when_nobody_reads_there_is_no_room_and_no_waiting(ends: tuple[int, int]) -> None:
    with closing(Outlet(ends[1])) as outlet:
        assert 0 < fill(outlet) < len(LINES)
        assert outlet.write(b"{}\n") == 0


def test_what_was_taken_arrives(ends: tuple[int, int]) -> None:
    with closing(Outlet(ends[1])) as outlet:
        written = fill(outlet)
    arrived = b""
    while arrived.count(b"\n") < LINES.count(b"\n", 0, written):
        arrived += os.read(ends[0], 1 << 16)
    # a terminal puts a carriage return before each newline
    assert arrived.replace(b"\r", b"").startswith(LINES[: LINES.rindex(b"\n", 0, written)])


def test_others_who_share_it_go_on_waiting_for_room(ends: tuple[int, int]) -> None:
    with closing(Outlet(ends[1])) as outlet:
        assert outlet.write(b"{}\n")
        assert os.get_blocking(ends[1])


def test_what_it_opened_it_closes(ends: tuple[int, int]) -> None:
    before = open_files()
    Outlet(ends[1]).close()
    assert open_files() == before
    os.fstat(ends[1])


def test_a_terminal_that_cannot_be_opened_again_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> str:
        raise PermissionError

    reader, terminal = os.openpty()
    monkeypatch.setattr(os, "ttyname", refuse)
    with closing(Outlet(terminal)) as outlet:
        assert outlet.descriptor == terminal
        assert outlet.write(b"{}\n") == 3
    assert os.read(reader, 10) == b"{}\r\n"
    os.close(reader)
    os.close(terminal)


def test_a_file_takes_all_at_once(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb", buffering=0) as file, closing(Outlet(file.fileno())) as outlet:
        assert outlet.write(LINES) == len(LINES)
    assert (tmp_path / "lines").read_bytes() == LINES
