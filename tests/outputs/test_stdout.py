"""Standard output for a stream, on real pipes, terminals and files."""

import asyncio
import errno
import fcntl
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.errors import OutputError
from plantops_cli.outputs.destination import ReaderGoneError
from plantops_cli.outputs.stdout import StandardOutput

LINES = b"".join(b'{"n":%d}\n' % number for number in range(100_000))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end; either may be closed by the test."""
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The side of a terminal where it is read, and the one where it is written."""
    reader, writer = os.openpty()
    yield reader, writer
    os.close(reader)
    os.close(writer)


async def read_bytes(reader: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await asyncio.to_thread(os.read, reader, 5_000)
    return data


async def test_a_slow_reader_gets_every_byte(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    writing = asyncio.create_task(StandardOutput(writer).write(LINES, stopped=asyncio.Event()))
    assert await read_bytes(reader, len(LINES)) == LINES
    assert await writing == len(LINES)


async def test_a_reader_that_stops_reading_does_not_block_the_loop(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stopped = asyncio.Event()
    writing = asyncio.create_task(StandardOutput(writer).write(LINES, stopped=stopped))
    while select.select([], [writer], [], 0)[1]:
        await asyncio.sleep(0)
    stopped.set()
    written = await asyncio.wait_for(writing, timeout=10)
    assert 0 < written < len(LINES)
    assert await read_bytes(reader, written) == LINES[:written]


async def test_a_terminal_that_nobody_reads_does_not_block_the_loop(terminal: tuple[int, int]) -> None:
    stopped = asyncio.Event()
    writing = asyncio.create_task(StandardOutput(terminal[1]).write(LINES, stopped=stopped))
    while select.select([], [terminal[1]], [], 0)[1]:
        await asyncio.sleep(0)
    stopped.set()
    assert 0 < await asyncio.wait_for(writing, timeout=10) < len(LINES)


async def test_a_slow_terminal_shows_every_line(terminal: tuple[int, int]) -> None:
    lines = LINES[: LINES.index(b'{"n":9999}')]
    writing = asyncio.create_task(StandardOutput(terminal[1]).write(lines, stopped=asyncio.Event()))
    shown = b""
    while select.select([terminal[0]], [], [], 0)[0] or not writing.done():
        await asyncio.sleep(0)
        shown += os.read(terminal[0], 500) if select.select([terminal[0]], [], [], 0)[0] else b""
    assert await writing == len(lines)
    assert shown == lines.replace(b"\n", b"\r\n")


async def test_what_a_stop_leaves_behind_ends_with_a_whole_line(pipe: tuple[int, int]) -> None:
    stopped = asyncio.Event()
    stopped.set()
    written = await StandardOutput(pipe[1]).write(LINES, stopped=stopped)
    assert 0 < written < len(LINES)
    assert LINES[:written].endswith(b"\n")


async def test_a_stop_keeps_nothing_from_a_reader_that_is_ready(pipe: tuple[int, int]) -> None:
    stopped = asyncio.Event()
    stopped.set()
    assert await StandardOutput(pipe[1]).write(b"1\n2\n", stopped=stopped) == 4


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="only Linux tells how much a pipe holds")
async def test_a_batch_that_an_empty_pipe_has_room_for_is_one_write(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    sizes: list[int] = []

    def counted(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 1 << 17)
    batch = LINES[: LINES.index(b"\n", 50_000) + 1]
    monkeypatch.setattr(os, "write", counted)
    output = StandardOutput(pipe[1])
    for _ in range(2):
        assert await output.write(batch, stopped=asyncio.Event()) == len(batch)
        assert await read_bytes(pipe[0], len(batch)) == batch
    assert sizes == [len(batch)] * 2


async def test_a_line_longer_than_the_pipe_passes_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    line = b"x" * 1_000_000 + b"\n"
    writing = asyncio.create_task(StandardOutput(writer).write(line, stopped=asyncio.Event()))
    assert await read_bytes(reader, len(line)) == line
    assert await writing == len(line)


async def test_writing_to_a_reader_that_has_gone_is_a_broken_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await StandardOutput(writer).write(b"1\n", stopped=asyncio.Event())


async def test_of_a_reader_that_goes_meanwhile_it_is_told_how_much_was_written_before(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    writing = asyncio.create_task(StandardOutput(writer).write(LINES, stopped=asyncio.Event()))
    taken = await read_bytes(reader, 10_000)
    os.close(reader)
    with pytest.raises(ReaderGoneError) as caught:
        await writing
    assert len(taken) <= caught.value.written_bytes < len(LINES)
    assert LINES[: caught.value.written_bytes].endswith(b"\n")


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only epoll tells a writer that the reader has gone")
async def test_a_reader_that_goes_is_noticed_once_without_a_write(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    gone: list[bool] = []
    noticed = asyncio.Event()
    output = StandardOutput(writer)

    def note() -> None:
        gone.append(True)
        noticed.set()

    output.on_reader_gone(note)
    await asyncio.sleep(0)
    assert not gone
    os.close(reader)
    await asyncio.wait_for(noticed.wait(), timeout=10)
    await asyncio.sleep(0)
    output.close()
    assert gone == [True]


async def test_a_file_takes_all_at_once(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb", buffering=0) as file:
        assert await StandardOutput(file.fileno()).write(LINES, stopped=asyncio.Event()) == len(LINES)
    assert (tmp_path / "lines").read_bytes() == LINES


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
async def test_a_refused_write_is_an_output_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OutputError, match="No space left"):
        await StandardOutput(full.fileno()).write(b"1\n", stopped=asyncio.Event())


@pytest.fixture(params=["the system refuses", "we look first"])
def prompt(
    request: pytest.FixtureRequest, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> StandardOutput:
    """A pipe that is written at once, in both of the ways of not waiting for room."""
    if request.param == "we look first":
        monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    return StandardOutput(pipe[1])


def test_a_pipe_with_room_takes_a_few_lines_at_once(prompt: StandardOutput, pipe: tuple[int, int]) -> None:
    assert prompt.is_prompt
    assert prompt.write_at_once(LINES[:200])
    assert os.read(pipe[0], 1_000) == LINES[:200]


def test_nothing_at_once_is_nothing_to_be_refused(prompt: StandardOutput) -> None:
    assert prompt.write_at_once(b"")


def test_more_than_a_pipe_takes_as_a_whole_is_refused_at_once(
    prompt: StandardOutput, pipe: tuple[int, int]
) -> None:
    assert not prompt.write_at_once(LINES[: select.PIPE_BUF + 1])
    assert prompt.write_at_once(LINES[: select.PIPE_BUF])
    assert os.read(pipe[0], 1 << 20) == LINES[: select.PIPE_BUF]


def test_a_full_pipe_refuses_and_takes_again_what_there_is_room_for(
    prompt: StandardOutput, pipe: tuple[int, int]
) -> None:
    taken = 0
    while prompt.write_at_once(LINES[: select.PIPE_BUF]):
        taken += select.PIPE_BUF
    assert taken
    assert len(os.read(pipe[0], 1 << 20)) == taken
    assert prompt.write_at_once(b"{}\n")
    assert os.read(pipe[0], 1 << 20) == b"{}\n"


def test_a_system_that_must_wait_for_room_is_not_asked_twice(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(*arguments: object) -> int:
        asked.append(1)
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    monkeypatch.setattr(os, "pwritev", refuse)
    output = StandardOutput(pipe[1])
    assert not output.write_at_once(b"1\n")
    assert output.write_at_once(b"2\n")
    assert asked == [1]
    assert os.read(pipe[0], 1_000) == b"2\n"


async def test_a_reader_that_has_gone_is_found_by_the_write_that_waits(
    prompt: StandardOutput, pipe: tuple[int, int]
) -> None:
    os.close(pipe[0])
    assert not prompt.write_at_once(b"{}\n")
    with pytest.raises(BrokenPipeError):
        await prompt.write(b"{}\n", stopped=asyncio.Event())


def test_only_a_pipe_is_written_at_once(tmp_path: Path, terminal: tuple[int, int]) -> None:
    with (tmp_path / "lines").open("wb") as file:
        assert not StandardOutput(file.fileno()).is_prompt
    assert not StandardOutput(terminal[1]).is_prompt
    assert not StandardOutput(terminal[1]).write_at_once(b"{}\n")
