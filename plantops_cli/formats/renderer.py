"""What every format of a stream does: the wanted messages of a batch as bytes, and where each of them ends."""

from collections.abc import Callable, Sequence
from typing import Protocol

from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch

Wants = Callable[[Message], bool]
"""Tells of a message, always in the same way, whether it is to be written."""

Rendered = tuple[bytes, int, int]
"""The bytes to write, how many messages they show, and how many of these are no JSON."""


class Renderer(Protocol):
    """Writes messages in one format."""

    def render(self, batch: Batch, limit: int | None) -> Rendered:
        """Write the wanted messages of a batch, but no more than a number of them.

        Args:
            batch: messages as they arrived.
            limit: how many to write at most; None: all.
        """
        ...

    def ends(self, batch: Batch, limit: int | None) -> Sequence[int]:
        """Tell of each message of a batch behind how many bytes it is done with.

        Asked only when a write was cut, and then right after ``render``: so the bytes cost no more.

        Args:
            batch: what was rendered last.
            limit: the same as then.

        Returns:
            An offset in the bytes for each message, from the first; one that is not wanted ends where the one
            before it does. With a limit the last is that of the last message written.
        """
        ...


class OneByOne:
    """Writes a batch by a function that can also write each of its messages alone.

    Args:
        write: writes messages; those of a batch together, and then one after another, must come to the same bytes.
        wants: whether a message is to be written.
    """

    def __init__(self, write: Callable[[Sequence[Message]], bytes], wants: Wants) -> None:
        self._write = write
        self._wants = wants

    def render(self, batch: Batch, limit: int | None) -> Rendered:
        """As ``Renderer.render``."""
        wanted = [message for message in batch if self._wants(message)][:limit]
        return self._write(wanted), len(wanted), sum(message.decode().error is not None for message in wanted)

    def ends(self, batch: Batch, limit: int | None) -> Sequence[int]:
        """As ``Renderer.ends``, by writing each message once more."""
        ends: list[int] = []
        end = shown = 0
        for message in batch:
            if shown == limit:
                break
            if self._wants(message):
                shown += 1
                end += len(self._write([message]))
            ends.append(end)
        return ends
