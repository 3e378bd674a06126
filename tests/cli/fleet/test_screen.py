"""The live board on a real terminal, in front of a broker that does what it is told."""

import asyncio
import io
import logging
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from plantops_cli.cli.fleet.screen import Screen
from plantops_cli.cli.shared.presence_keeper import PresenceKeeper
from plantops_cli.cli.shared.run import Limits, StreamRun
from plantops_cli.cli.shared.stopping import Stop
from plantops_cli.errors import CredentialsRefusedError
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.stream.subscriber import MQTTSubscriber
from tests.support.brokers import Mosquitto
from tests.support.plantops import PATIENCE_SECONDS, Stream
from tests.support.processes import plantops
from tests.support.scripted_broker import CLOSE, ScriptedBroker, publish, serving
from tests.support.subscribing import WAIT_SECONDS, eventually
from tests.support.terminal import OwnTerminal, own_terminal

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
CTRL_S, CTRL_Q = b"\x13", b"\x11"
LINES, COLUMNS = 12, 110


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Board:
    """A screen that is shown, and what it shows."""

    screen: Screen
    run: StreamRun
    keeper: PresenceKeeper
    terminal: OwnTerminal
    showing: asyncio.Task[Snapshot]

    async def ended(self) -> Snapshot:
        """The last look, within a bounded time."""
        return await asyncio.wait_for(self.showing, timeout=WAIT_SECONDS)

    async def quit(self) -> Snapshot:
        """The last look, after the key that asks for it."""
        self.terminal.press(b"q")
        return await self.ended()


@asynccontextmanager
async def board_on(port: int, *, field: str | None = None) -> AsyncIterator[Board]:
    """A board on a terminal of this process; it is cancelled when the context ends."""
    with own_terminal(lines=LINES, columns=COLUMNS) as terminal:
        screen = Screen(field)
        mqtt = MQTTSubscriber("127.0.0.1", port, "alice", "secret", on_status=screen.tell)
        keeper = PresenceKeeper(mqtt, Presence(field=field, is_payload_kept=True))
        run = StreamRun(mqtt, ("devices/#",), keeper, Limits())
        showing = asyncio.create_task(screen.show(run, keeper))
        try:
            yield Board(screen, run, keeper, terminal, showing)
        finally:
            showing.cancel()
            await asyncio.wait((showing,))


def heartbeat(device: str) -> bytes:
    return publish(f"devices/{device}/heartbeat".encode())


def assert_left_as_it_was(terminal: OwnTerminal) -> None:
    text = terminal.shown
    assert 0 <= text.rfind(ENTER) < text.rfind(LEAVE)
    assert 0 <= text.rfind(HIDE) < text.rfind(SHOW)


async def test_it_shows_who_is_heard_and_returns_the_last_look() -> None:
    async with serving(ScriptedBroker(after_suback=heartbeat("a"))) as broker, board_on(broker.port) as board:
        await board.terminal.shows(f"127.0.0.1:{broker.port}  connected for")
        await board.terminal.shows("1 device: 1 online")
        await board.terminal.shows(r"online +a  ")
        look = await board.quit()
    assert [report.device_id for report in look.reports] == ["a"]
    assert board.run.reason is Stop.INTERRUPTED


async def test_the_terminal_is_taken_while_it_lasts_and_given_back_as_it_was() -> None:
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        before = board.terminal.settings
        await board.terminal.shows("connected for")
        assert board.terminal.settings != before
        await board.quit()
        assert board.terminal.settings == before
        assert_left_as_it_was(board.terminal)


async def test_closed_again_it_writes_nothing_more() -> None:
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        await board.terminal.shows("connected for")
        await board.quit()
        shown = board.terminal.shown
        board.screen.close()
        assert board.terminal.shown == shown


async def test_a_refusal_is_raised_when_the_terminal_is_given_back() -> None:
    async with serving(ScriptedBroker(answers=[0x87])) as broker, board_on(broker.port) as board:
        before = board.terminal.settings
        with pytest.raises(CredentialsRefusedError):
            await board.ended()
        assert board.terminal.settings == before
        assert_left_as_it_was(board.terminal)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
async def test_signals_that_would_leave_the_board_behind_end_it(number: signal.Signals) -> None:
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        await board.terminal.shows("connected for")
        os.kill(os.getpid(), number)
        await board.ended()
        assert_left_as_it_was(board.terminal)
    assert board.run.reason is Stop.TERMINATED
    assert signal.getsignal(number) is signal.SIG_DFL


async def test_a_terminal_that_hangs_up_ends_it_and_is_no_error() -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        await board.terminal.shows("connected for")
        board.terminal.hang_up()
        await board.ended()
    assert (board.run.reason, faults) == (Stop.TERMINATED, [])


@pytest.mark.parametrize("last", ["connected for", LEAVE])
async def test_a_terminal_that_hangs_up_while_it_is_written_to_ends_it_and_is_no_error(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HangsUp(io.TextIOWrapper):
        def write(self, text: str) -> int:
            if last in text:
                board.terminal.hang_up()
            return super().write(text)

    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        stream = HangsUp(os.fdopen(os.dup(board.terminal.descriptor), "wb"), line_buffering=True)
        monkeypatch.setattr(sys, "stdout", stream)
        await eventually(lambda: board.run.subscriber.health.connection_count == 1)
        if last == LEAVE:
            board.terminal.press(b"q")
        await board.ended()
        stream.close()  # as at the end of a program: what the terminal did not take has gone with it
    assert board.run.reason in (Stop.TERMINATED, Stop.INTERRUPTED)


def test_a_terminal_that_hangs_up_on_who_it_controls_leaves_no_traceback_elsewhere(
    own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    other_side, terminal = pty.openpty()
    env = {**os.environ, **own_mosquitto.environment}
    with (tmp_path / "stderr").open("wb") as stderr, closing(Stream(other_side)) as shown:
        process = plantops(["fleet"], (terminal, terminal, stderr.fileno()), env=env, is_on_terminal=True)
        os.close(terminal)
        shown.wait_for("connected for")
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    [line] = (tmp_path / "stderr").read_text().splitlines()
    assert line.startswith("plantops: 0 devices")


async def test_a_terminal_that_is_stopped_holds_up_nobody_but_whoever_looks() -> None:
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        await board.terminal.shows("connected for")
        board.terminal.press(CTRL_S)
        board.terminal.press(b"s")
        await eventually(lambda: board.screen._view.order == "id")
        await broker.send(publish(b"devices/a/heartbeat", qos=1))
        await eventually(lambda: broker.acknowledged == [1])
        assert "by id" not in board.terminal.shown
        board.terminal.press(CTRL_Q)
        await board.terminal.shows("1 device: 1 online")
        await board.quit()


async def test_paused_it_stands_still_and_goes_on_when_asked() -> None:
    async with serving(ScriptedBroker(after_suback=heartbeat("a"))) as broker, board_on(broker.port) as board:
        await board.terminal.shows("1 device: ")
        board.terminal.press(b"p")
        await board.terminal.shows("paused")
        await broker.send(heartbeat("b"))
        await eventually(lambda: len(board.keeper.look().reports) == 2)
        board.terminal.press(b"s")
        await board.terminal.shows("by id")
        assert "2 devices" not in board.terminal.shown
        board.terminal.press(b"p")
        await board.terminal.shows("2 devices")
        await board.quit()


async def test_the_field_is_drawn_under_its_name() -> None:
    told = b"".join(publish(b"devices/a/telemetry", b'{"soil":%d}' % value) for value in range(8))
    async with (
        serving(ScriptedBroker(after_suback=told)) as broker,
        board_on(broker.port, field="soil") as board,
    ):
        await board.terminal.shows("rate  soil")
        await board.terminal.shows("▁▂▃▄▅▆▇█")
        await board.quit()


async def test_an_outage_is_said_for_as_long_as_it_lasts() -> None:
    async with serving(ScriptedBroker(answers=[0, CLOSE])) as broker, board_on(broker.port) as board:
        await board.terminal.shows("connected for")
        broker.hang_up()
        await board.terminal.shows("NOT CONNECTED for .*: nobody can be heard")
        await board.quit()


async def test_the_log_goes_onto_the_board_and_back_to_where_it_went() -> None:
    logger = logging.getLogger("plantops")
    handlers = logger.handlers
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        await board.terminal.shows("connected for")
        logging.getLogger("plantops.stream").warning("too %s \x1b[2J", "many")
        await board.terminal.shows(r"\d\d:\d\d:\d\d warning: too many \\x1b\[2J")
        await board.quit()
    assert logger.handlers is handlers


async def test_it_is_as_large_as_the_terminal_whatever_the_shell_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("COLUMNS", "200")
    async with serving(ScriptedBroker()) as broker, board_on(broker.port) as board:
        await board.terminal.shows("q quit")
        assert board.terminal.shown.rsplit("\x1b[H", 1)[-1].count("\n") == LINES - 1
        termios.tcsetwinsize(board.terminal.descriptor, (LINES - 4, COLUMNS))
        await board.terminal.shows(rf"\x1b\[H(?:[^\n]*\n){{{LINES - 5}}}[^\n]*\x1b\[H")
        await board.quit()
