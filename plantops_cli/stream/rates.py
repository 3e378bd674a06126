"""How often the log tells of what strangers cause: few lines of each kind, and how many were left out.

Whoever may publish chooses topics and payloads, and can send bad ones without end; a line for each helps nobody.
"""

import asyncio
import logging
import time

_LINES, _SECONDS = 10, 10.0


class Rate:
    """Allows so many lines of one kind in so many seconds."""

    def __init__(self) -> None:
        self._began = 0.0
        self._count = self._left_out = 0

    def ask(self) -> str | None:
        """Return None when no line may be written, else what to add to it about those that were not."""
        moment = time.monotonic()
        if moment - self._began >= _SECONDS:
            self._began, self._count = moment, 0
        if self._count >= _LINES:
            self._left_out += 1
            return None
        self._count += 1
        left_out = self.take_left_out()
        return f" ({left_out:,} more like it were not logged)" if left_out else ""

    def take_left_out(self) -> int:
        """Return how many lines were left out that nobody was told of, who is told now."""
        left_out, self._left_out = self._left_out, 0
        return left_out


class Rates:
    """The rates of all kinds that one part of the program tells of.

    Args:
        logger: where the number of those that were left out is told.
        patience_seconds: how long after the first of them at the latest, where there is an event loop.
    """

    def __init__(self, logger: logging.Logger, *, patience_seconds: float = _SECONDS) -> None:
        self._logger = logger
        self._patience_seconds = patience_seconds
        self._rates: dict[str, Rate] = {}
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, what: str) -> str | None:
        """Return None when no line may be written, else what to add to it; as ``Rate.ask``.

        Args:
            what: the kind, as words for several of it, such as ``failures of handler x``; chosen by no stranger.
        """
        more = self._rates.setdefault(what, Rate()).ask()
        if more is None and self._timer is None:
            self._tell_later()
        return more

    def tell_left_out(self) -> None:
        """Tell now how many lines were left out, of each kind."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for what, rate in self._rates.items():
            if left_out := rate.take_left_out():
                self._logger.warning("not logged: %s more %s", f"{left_out:,}", what)

    def _tell_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # without one, the next line that may be written tells
            return
        self._timer = loop.call_later(self._patience_seconds, self.tell_left_out)
