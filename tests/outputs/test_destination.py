"""What every destination promises, on each of them."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantops_cli.outputs.destination import Destination, ReaderGoneError
from plantops_cli.outputs.file import FileDestination, LineFile
from plantops_cli.outputs.stdout import StandardOutput
from tests.support.samples import lines


@pytest.fixture(params=["pipe", "file"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Destination]:
    if request.param == "file":
        yield FileDestination(LineFile(tmp_path / "lines.jsonl"), print)
        return
    reader, writer = os.pipe()
    yield StandardOutput(writer)
    os.close(reader)
    os.close(writer)


async def test_what_can_be_written_is_written_whole(destination: Destination) -> None:
    assert await destination.write(lines(1, 2), stopped=asyncio.Event()) == len(lines(1, 2))
    assert await destination.write(b"", stopped=asyncio.Event()) == 0
    destination.close()


async def test_only_what_is_prompt_writes_at_once(destination: Destination) -> None:
    assert destination.write_at_once(lines(1)) == destination.is_prompt
    destination.close()


def test_a_reader_that_has_gone_is_a_broken_pipe_that_knows_what_was_written() -> None:
    error = ReaderGoneError(7)
    assert isinstance(error, BrokenPipeError)
    assert error.written_bytes == 7
