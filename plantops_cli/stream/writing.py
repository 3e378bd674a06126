"""What goes to the broker: whole packets of ours past paho, and paho's own, never one in the middle of another."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from plantops_cli.stream.tap import Tap

logger = logging.getLogger("plantops.stream")

UNSENT_BYTES = 1024 * 1024
"""How many bytes of acknowledgements may wait for a broker that takes none, while it goes on sending."""


class PahoWriter(Protocol):
    """As much of a ``paho.mqtt.client.Client`` as is needed to write."""

    def socket(self) -> object | None: ...
    def want_write(self) -> bool: ...
    def loop_write(self) -> object: ...


class Writing:
    """The writing of one connection.

    Args:
        paho: has packets of its own; its socket is the tap that ``begin`` gets, or None once it is closed.
        on_clogged: called when so much waits that the broker seems to take nothing at all.
    """

    def __init__(self, paho: PahoWriter, on_clogged: Callable[[], None]) -> None:
        self._paho = paho
        self._on_clogged = on_clogged
        self._loop = asyncio.get_running_loop()
        self._tap: Tap | None = None

    def begin(self, tap: Tap) -> None:
        """Write to this tap from now on; before, there is nothing to be written."""
        self._tap = tap

    def push(self, data: bytes) -> None:
        """Send whole packets past paho as soon as it can be; after the end of the connection they are dropped."""
        tap = self._tap
        if tap is None or self._paho.socket() is None:
            return
        try:
            tap.push(data)
        except OSError as exc:
            logger.debug("cannot acknowledge: %s", exc)  # the reader will find the end of the connection
            return
        if tap.unsent_bytes:
            self.attach(tap)
        if tap.unsent_bytes > UNSENT_BYTES:
            self._on_clogged()

    def attach(self, tap: Tap) -> None:
        """Write whenever the socket takes something, until nothing waits any more, of ours or of paho's."""
        # closed meanwhile, its number may belong to somebody else's socket already
        if self._tap is not None and tap.fileno() >= 0:
            self._loop.add_writer(tap.fileno(), self._write)

    @property
    def is_done(self) -> bool:
        """Whether nothing of ours waits to be written."""
        return self._tap is None or not self._tap.unsent_bytes

    def _write(self) -> None:
        tap = self._tap
        if tap is None or self._paho.socket() is None:
            return
        try:
            tap.flush()
        except OSError:
            # found again by the reader, who tells
            self._loop.remove_writer(tap.fileno())
            return
        if self._paho.want_write():
            self._paho.loop_write()
        elif not tap.unsent_bytes:
            self._loop.remove_writer(tap.fileno())
