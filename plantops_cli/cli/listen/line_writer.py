"""The consumer of ``listen``: what is wanted is written, and what was written whole is done with."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from plantops_cli.cli.listen.summary import Summary
from plantops_cli.cli.shared.run import Ending
from plantops_cli.cli.shared.stopping import Stop
from plantops_cli.formats.renderer import Renderer
from plantops_cli.outputs.destination import Destination, ReaderGoneError
from plantops_cli.stream.batch import Batch

if TYPE_CHECKING:  # only who serves metrics keeps an account of the fleet
    from plantops_cli.fleet.monitor import FleetMonitor


class LineWriter:
    """Writes messages to a destination, and counts them.

    Args:
        renderer: turns messages into the bytes to write; leaves out those that are not wanted.
        destination: where to write.
        count: how many messages to write; None: without end.
        monitor: is to hear of all that comes too; None: nobody is.

    Attributes:
        summary: what was counted.
    """

    def __init__(
        self,
        renderer: Renderer,
        destination: Destination,
        *,
        count: int | None = None,
        monitor: "FleetMonitor | None" = None,
    ) -> None:
        self.summary = Summary()
        self._renderer = renderer
        self._destination = destination
        self._count = count
        self._monitor = monitor

    @property
    def at_once(self) -> Callable[[Batch], bool] | None:
        """Writes a batch if there is room for it, and the count is not near; None where it is not worth a try."""
        return self._write_at_once if self._destination.is_prompt else None

    async def take(self, batch: Batch, *, stopped: asyncio.Event) -> Ending | None:
        """Write a batch, or the beginning of it that is still wanted or that a stop leaves time for.

        Args:
            batch: messages as they arrived.
            stopped: once it is set, a slow reader is not waited for.

        Raises:
            OutputError: the destination refused the write.
        """
        rest = None if self._count is None else self._count - self.summary.shown
        data, shown, invalid = self._renderer.render(batch, rest)
        try:
            written, reason = await self._destination.write(data, stopped=stopped), None
        except ReaderGoneError as exc:
            written, reason = exc.written_bytes, Stop.READER_GONE
        is_whole = written == len(data)
        ending = None
        # where messages end is asked only now: of the many batches that are written whole nobody needs to know
        if not is_whole or shown == rest:
            handled, whole = done_with(self._renderer.ends(batch, rest), written)
            shown = shown if is_whole else whole
            ending = Ending(handled, Stop.COUNT if shown == rest else reason)
        self.summary.shown += shown
        self.summary.invalid += invalid
        self._take_note(batch)
        return ending

    def _write_at_once(self, batch: Batch) -> bool:
        # the last of a count is left to take(), which alone can end the run
        if self._count is not None and self._count - self.summary.shown <= len(batch):
            return False
        data, shown, invalid = self._renderer.render(batch, None)
        if not self._destination.write_at_once(data):
            return False
        self.summary.shown += shown
        self.summary.invalid += invalid
        self._take_note(batch)
        return True

    def _take_note(self, batch: Batch) -> None:
        self.summary.count(batch)
        if self._monitor:
            self._monitor.take(batch)


def done_with(ends: Sequence[int], written_bytes: int) -> tuple[int, int]:
    """Decide what a cut write leaves done: how many messages from the first, and how many of them were written.

    A message of which a part was written is not done with, and comes again.

    Args:
        ends: of each message, behind how many bytes it is done with.
        written_bytes: how many were written.
    """
    handled = bisect_right(ends, written_bytes)
    return handled, len({*ends[:handled]} - {0})
