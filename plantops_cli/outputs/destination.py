"""What every place has in which a stream can be written."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Destination(Protocol):
    """Takes what was rendered, and never blocks the event loop.

    Attributes:
        is_prompt: whether ``write_at_once`` is worth a try.
    """

    is_prompt: bool

    async def write(self, data: bytes, *, stopped: asyncio.Event) -> int:
        """Write ``data`` and return how many bytes were written: all, unless ``stopped`` is set meanwhile.

        Args:
            data: whole messages as they were rendered.
            stopped: once it is set, room is not waited for.

        Raises:
            ReaderGoneError: nobody can read any more what is written.
            OutputError: it cannot be written.
        """
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


class ReaderGoneError(BrokenPipeError):
    """Nobody can read any more what is written.

    Args:
        written_bytes: how much of the data that was to be written had been taken before.
    """

    def __init__(self, written_bytes: int) -> None:
        super().__init__("the reader has gone")
        self.written_bytes = written_bytes
