"""What systemd is told of a service: that it is ready, how it fares, and that it is alive (sd_notify(3))."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from plantops_cli.formats.terminal import escape
from plantops_cli.stream.status import Connected, Retrying, Status, describe

_STATUS_SECONDS = 10.0
_MICROSECONDS = 1_000_000


class Notifier:
    """Speaks to the service manager, if there is one: ``NOTIFY_SOCKET`` names its socket.

    Args:
        summary: says in a few words how it fares.
    """

    def __init__(self, summary: Callable[[], str]) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._summary = summary
        self._is_ready = False
        self._step = ""

    def tell(self, status: Status) -> None:
        """Report a step of the connection; ready is who is connected, or knows how to wait for the broker."""
        self._step = describe(status)
        lines = [f"STATUS={self._step}"]
        if not self._is_ready and isinstance(status, (Connected, Retrying)):
            self._is_ready = True
            lines.append("READY=1")
        self._send(*lines)

    @asynccontextmanager
    async def attending(self) -> AsyncIterator[None]:
        """Report that the event loop is alive, and how it fares, while the context lasts."""
        if not self._address:
            yield
            return
        task = asyncio.create_task(self._attend(), name="plantops-systemd")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))
            self._send("STOPPING=1", "STATUS=stopping")

    async def _attend(self) -> None:
        # half of what systemd allows, as sd_watchdog_enabled(3) recommends
        allowed = os.environ.get("WATCHDOG_USEC", "")
        is_for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        is_watched = allowed.isdecimal() and int(allowed) > 0 and is_for_us
        pause = min(_STATUS_SECONDS, int(allowed) / _MICROSECONDS / 2) if is_watched else _STATUS_SECONDS
        while True:
            self._send(*["WATCHDOG=1"] * is_watched, f"STATUS={self._step}; {self._summary()}")
            await asyncio.sleep(pause)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # an address that begins with @ is in the abstract namespace (unix(7))
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # each is one line, and shown by systemctl on a terminal
        text = "\n".join(escape(" ".join(line.split())) for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError:
            pass  # a manager that does not listen is no reason to stop
