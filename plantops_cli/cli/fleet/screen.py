"""The live board on a terminal: drawn twice a second, moved by keys, and gone without a trace at the end."""

import asyncio
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from plantops_cli.cli.fleet.board import View, draw, fit, page_size, press
from plantops_cli.cli.fleet.keyboard import Keyboard
from plantops_cli.cli.fleet.rendering import age
from plantops_cli.cli.shared.presence_keeper import PresenceKeeper
from plantops_cli.cli.shared.run import StreamRun
from plantops_cli.cli.shared.stderr import silence
from plantops_cli.cli.shared.stopping import Stop
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.stream.status import State, Status, describe

_FRAME_SECONDS = 0.5
_REST_SHARE = 9
# they too would leave the terminal as they found it: without a cursor, and with the board on it
_ENDINGS = (signal.SIGHUP, signal.SIGQUIT)


class Screen:
    """Shows what a ``PresenceKeeper`` knows.

    Args:
        field: whose values are drawn as bars; None: none.
    """

    def __init__(self, field: str | None) -> None:
        self._field = field
        self._note = ""
        self._view = View()
        self._look: Snapshot | None = None
        self._next_at = 0.0
        self._run: StreamRun | None = None
        self._keeper: PresenceKeeper | None = None
        self._live: Live | None = None
        # a shell that exports its size must not keep the board from following the terminal's
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._console = Console(_environ=kept)
        self._keyboard = Keyboard(self._press)
        self._log = _Notes(self._tell)

    def tell(self, status: Status) -> None:
        """Show a step of the connection as the latest news."""
        self._tell(describe(status))

    async def show(self, run: StreamRun, keeper: PresenceKeeper) -> Snapshot:
        """Show the board until the run ends, and return the last look.

        Args:
            run: the run.
            keeper: its consumer.

        Raises:
            BrokerError: as ``StreamRun.run``.
        """
        self._run, self._keeper = run, keeper
        run.on_stop = self.close
        loop = asyncio.get_running_loop()
        for number in _ENDINGS:
            loop.add_signal_handler(number, run.stop, Stop.TERMINATED)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            self.open()
            await run.run(self._tick)
        finally:
            self.close()
            for number in (*_ENDINGS, signal.SIGTSTP):
                loop.remove_signal_handler(number)
        return keeper.look()

    def open(self) -> None:
        """Take the terminal."""
        self._log.take()
        self._keyboard.open()
        # nothing is printed beside the board, so that rich need not stand in for the streams
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        self._next_at = 0.0

    def close(self) -> None:
        """Give the terminal back as it was; again, and nothing happens."""
        live, self._live = self._live, None
        if live:
            try:
                live.stop()
            except OSError:  # of a terminal that has hung up
                silence(sys.stdout)
        self._keyboard.close()
        self._log.give_back()

    async def _tick(self) -> None:
        if time.monotonic() >= self._next_at:
            self._draw()

    def _press(self, key: str) -> None:
        if key == "hangup":
            # SIGHUP says so too, but only to a process that this terminal controls
            self._stop(Stop.TERMINATED)
            return
        view = press(self._view, key, page=page_size(self._console.height))
        if view is None:
            self._stop(Stop.INTERRUPTED)
            return
        self._view = view
        self._draw()

    def _stop(self, reason: Stop) -> None:
        assert self._run is not None
        self._run.stop(reason)

    def _draw(self) -> None:
        # a terminal that was stopped with Ctrl-S must not stop the connection too
        if not self._live or not self._keeper or not select.select([], [sys.stdout], [], 0)[1]:
            return
        began = time.monotonic()
        if self._look is None or not self._view.is_paused:
            self._look = self._keeper.look()
        columns, height = self._console.size
        self._view = fit(self._view, self._look, height)
        board = draw(
            self._view,
            self._look,
            broker=self._broker(),
            note=self._note,
            field=self._field,
            size=(columns, height),
        )
        try:
            self._live.update(board, refresh=True)
        except OSError:
            # drawn between the hang-up and the news of it
            self._stop(Stop.TERMINATED)
            return
        ended = time.monotonic()
        # a fleet so large that drawing takes long is drawn the more seldom
        self._next_at = ended + max(_FRAME_SECONDS, _REST_SHARE * (ended - began))

    def _broker(self) -> str:
        assert self._run is not None
        endpoint, health = self._run.subscriber.options.endpoint, self._run.subscriber.health
        if health.state is State.CONNECTED and health.connected_since:
            return f"{endpoint}  connected for {age(time.time() - health.connected_since.timestamp())}"
        if health.outages and health.outages[-1].ended_at is None:
            lost = health.outages[-1].began_at.timestamp()
            return f"{endpoint}  NOT CONNECTED for {age(time.time() - lost)}: nobody can be heard"
        return f"{endpoint}  {health.state}"

    def _tell(self, note: str) -> None:
        self._note = f"{time.strftime('%H:%M:%S')} {note}"
        self._next_at = 0.0

    def _suspend(self) -> None:
        """Leave the terminal to the shell until the program is continued (Ctrl-Z, fg)."""
        self.close()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.open()


class _Notes(logging.Handler):
    """Takes the log away from the terminal, for as long as something else is on it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self._before: list[logging.Handler] | None = None

    def take(self) -> None:
        logger = logging.getLogger("plantops")
        self._before, logger.handlers = logger.handlers, [self]

    def give_back(self) -> None:
        if self._before is not None:
            logging.getLogger("plantops").handlers, self._before = self._before, None

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(f"{record.levelname.lower()}: {record.getMessage()}")
