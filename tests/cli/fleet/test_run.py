"""The run of ``fleet`` on a real Mosquitto, from its flags to what is written and its exit code."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from plantops_cli.cli.fleet.run import run_fleet
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.flags.connect import WatchfulConnectionFlags
from plantops_cli.cli.shared.flags.display import FleetChoice
from plantops_cli.cli.shared.flags.fleet import RosterFlags
from plantops_cli.errors import ConfigError, CredentialsRefusedError
from tests.support.brokers import PASSWORD, Mosquitto, free_port
from tests.support.command_line import read
from tests.support.publishing import publish
from tests.support.simulated_fleet import wait_for_clients
from tests.support.subscribing import WAIT_SECONDS, eventually
from tests.support.terminal import own_terminal

LOOK_SECONDS = 0.3
LEAVE = "\x1b[?1049l"
ONCE = FleetFlags(is_once=True, within_seconds=LOOK_SECONDS)
LONG_ONCE = FleetFlags(is_once=True, within_seconds=60)


@pytest.fixture(autouse=True)
def logged_in_on_an_able_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", PASSWORD)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def retained(own_mosquitto: Mosquitto) -> Mosquitto:
    """A broker that keeps what one device has said."""
    publish(own_mosquitto, "devices/b/heartbeat", b"1", retain=True)
    return own_mosquitto


def connection_to(broker: Mosquitto | int) -> WatchfulConnectionFlags:
    port = broker if isinstance(broker, int) else broker.port
    return WatchfulConnectionFlags(host="127.0.0.1", port=port)


async def run_on(broker: Mosquitto | int, flags: FleetFlags) -> Exit:
    """The exit code of a run, within a bounded time."""
    return await asyncio.wait_for(
        run_fleet(replace(flags, connection=connection_to(broker))), timeout=WAIT_SECONDS
    )


async def run_and_kill(broker: Mosquitto, flags: FleetFlags, number: signal.Signals) -> Exit:
    """The exit code of a run that gets a signal when the broker knows it."""
    running = asyncio.create_task(run_on(broker, flags))
    await asyncio.to_thread(wait_for_clients, broker, 1)
    os.kill(os.getpid(), number)
    return await running


# What is refused


async def test_a_board_off_a_terminal_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(ConfigError, match="no terminal for a live board"):
        await run_on(free_port(), FleetFlags())


@pytest.mark.parametrize("name", ["dumb", "unknown"])
async def test_a_terminal_that_is_too_simple_for_a_board_is_refused_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", name)
    with own_terminal() as terminal, pytest.raises(ConfigError, match="no terminal for a live board"):
        await run_on(free_port(), FleetFlags())
    assert terminal.shown == ""


async def test_a_roster_that_is_there_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    roster = tmp_path / "roster"
    roster.write_text("mine\n")
    with pytest.raises(ConfigError, match="there is such a file"):
        await run_on(free_port(), FleetFlags(is_once=True, save_roster=roster))


@pytest.mark.parametrize("flags", [LONG_ONCE, FleetFlags(is_events=True)], ids=["once", "events"])
async def test_a_refused_login_is_raised_and_nothing_is_shown(
    flags: FleetFlags, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MQTT_BACKEND_PASSWORD", "wrong")
    with pytest.raises(CredentialsRefusedError):
        await run_on(mosquitto, flags)
    assert capfd.readouterr().out == ""


# --once


async def test_one_look_off_a_terminal_is_the_document(
    retained: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(is_once=True, within_seconds=LOOK_SECONDS, roster=RosterFlags(expect_ids=("a",)))
    assert await run_on(retained, flags) is Exit.OK
    document = json.loads(capsys.readouterr().out)
    devices = {one["device_id"]: (one["expected"], one["retained_only"]) for one in document["devices"]}
    assert devices == {"a": (True, False), "b": (False, True)}
    assert document["summary"]["listened_seconds"] >= LOOK_SECONDS


async def test_one_look_on_a_terminal_is_a_table(retained: Mosquitto) -> None:
    with own_terminal(columns=100) as terminal:
        assert await run_on(retained, ONCE) is Exit.OK
        await terminal.shows("state +device")
        await terminal.shows("never seen +b")


@pytest.mark.parametrize(
    ("choice", "begins"),
    [(FleetChoice.TABLE, "state "), (FleetChoice.CSV, "device_id,state,"), (FleetChoice.MD, "| state |")],
)
async def test_another_form_is_shown_when_asked_for(
    choice: FleetChoice, begins: str, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(
        is_once=True,
        within_seconds=LOOK_SECONDS,
        output=choice,
        roster=RosterFlags(expect_ids=("a",)),
        devices=("a",),
    )
    await run_on(mosquitto, flags)
    assert capsys.readouterr().out.startswith(begins)


async def test_a_device_that_was_not_asked_for_is_not_subscribed_to(
    retained: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(is_once=True, within_seconds=LOOK_SECONDS, devices=("a",))
    assert await run_on(retained, flags) is Exit.TIMEOUT
    captured = capsys.readouterr()
    assert json.loads(captured.out)["devices"] == []
    assert "no message at all" in captured.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)
async def test_a_look_that_is_cut_short_is_none_and_saves_nothing(
    number: signal.Signals,
    code: Exit,
    own_mosquitto: Mosquitto,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    roster = tmp_path / "roster"
    flags = FleetFlags(is_once=True, within_seconds=60, save_roster=roster)
    assert await run_and_kill(own_mosquitto, flags, number) is code
    assert capsys.readouterr().out == ""
    assert not roster.exists()


# --save-roster


async def test_a_roster_holds_who_was_heard_or_retained_and_nobody_else(
    retained: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    flags = FleetFlags(
        is_once=True,
        within_seconds=LOOK_SECONDS,
        save_roster=folder / "roster",
        roster=RosterFlags(expect_ids=("absent",)),
    )
    await run_on(retained, flags)
    assert [path.name for path in folder.iterdir()] == ["roster"]
    assert (folder / "roster").read_text() == "b\n"
    assert "roster of 1 device written to" in capsys.readouterr().err


async def test_a_roster_of_nobody_is_not_written_and_that_is_said(
    own_mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster = tmp_path / "roster"
    flags = FleetFlags(is_once=True, within_seconds=LOOK_SECONDS, save_roster=roster)
    assert await run_on(own_mosquitto, flags) is Exit.TIMEOUT
    assert not roster.exists()
    assert "no device was seen" in capsys.readouterr().err


async def test_a_file_that_has_come_meanwhile_is_kept_and_no_draft_is_left(
    retained: Mosquitto, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    flags = FleetFlags(is_once=True, within_seconds=LOOK_SECONDS, save_roster=folder / "roster")
    running = asyncio.create_task(run_fleet(replace(flags, connection=connection_to(retained))))
    await asyncio.sleep(0)  # until it waits for the broker, and has found no such file
    (folder / "roster").write_text("mine\n")
    with pytest.raises(ConfigError, match=r"--save-roster '.*roster': File exists"):
        await running
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("roster", "mine\n")]


async def test_whatever_the_devices_are_called_a_saved_roster_expects_just_them(
    own_mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {" a ", "[x]", "device_id", 'a"b,c', "=x", "'=x", "a\u2028b", "\u3164", "- a", "{}", "sep=;"}
    for device_id in ids:
        publish(own_mosquitto, f"devices/{device_id}/telemetry", b"{}", retain=True)
    saved, table = tmp_path / "saved", tmp_path / "table.csv"
    flags = FleetFlags(is_once=True, within_seconds=1.0, save_roster=saved, output=FleetChoice.CSV)
    await run_on(own_mosquitto, flags)
    table.write_bytes(capsys.readouterr().out.encode())
    for roster in (saved, table):
        assert ids <= set(read(RosterFlags, "--expect", str(roster)).ids)


# --seq


@pytest.mark.parametrize("is_quiet", [False, True], ids=["said", "quiet"])
@pytest.mark.parametrize("is_once", [True, False], ids=["once", "events"])
async def test_a_field_that_no_message_has_is_said_unless_told_not_to(
    is_quiet: bool, is_once: bool, own_mosquitto: Mosquitto, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(
        is_once=is_once,
        is_events=not is_once,
        within_seconds=2.0 if is_once else None,
        timeout_seconds=None if is_once else 2.0,
        seq="typo",
        is_quiet=is_quiet,
    )
    running = asyncio.create_task(run_on(own_mosquitto, flags))
    while not running.done():
        await asyncio.to_thread(publish, own_mosquitto, "devices/b/heartbeat", b'{"seq":1}')
    assert await running is Exit.OK
    assert ("no sequence number in 'typo' of any message" in capfd.readouterr().err) is not is_quiet


# --events


async def test_off_a_terminal_each_change_is_an_object(
    retained: Mosquitto, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(is_events=True, roster=RosterFlags(expect_ids=("b",)))
    running = asyncio.create_task(run_on(retained, flags))
    await asyncio.to_thread(wait_for_clients, retained, 2)
    said = list[str]()

    def has_said(count: int) -> bool:
        said.extend(capfd.readouterr().out.splitlines())
        return len(said) == count

    await asyncio.to_thread(publish, retained, "devices/b/heartbeat", b"2")
    await eventually(lambda: has_said(1))
    await asyncio.to_thread(publish, retained, "devices/c/telemetry", b"{}")
    await eventually(lambda: has_said(2))
    os.kill(os.getpid(), signal.SIGINT)
    assert await running is Exit.OK
    lines = [json.loads(line) for line in said]
    assert [(one["device_id"], one["before"], one["state"]) for one in lines] == [
        ("b", "never_seen", "online"),
        ("c", None, "online"),
    ]


@pytest.mark.parametrize("is_quiet", [False, True], ids=["said", "quiet"])
async def test_a_time_that_runs_out_without_a_broker_is_said_unless_told_not_to(
    is_quiet: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(is_events=True, timeout_seconds=LOOK_SECONDS, wait_for_broker=True, is_quiet=is_quiet)
    assert await run_on(free_port(), flags) is Exit.TIMEOUT
    captured = capfd.readouterr()
    assert captured.out == ""
    assert ("without a connection" in captured.err) is not is_quiet
    assert not is_quiet or captured.err == ""


async def test_a_time_that_runs_out_with_a_broker_is_as_planned(
    mosquitto: Mosquitto, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = FleetFlags(is_events=True, timeout_seconds=1.5, devices=("nobody",))
    assert await run_on(mosquitto, flags) is Exit.OK
    assert capfd.readouterr().out == ""


# The board


@pytest.mark.parametrize("is_quiet", [False, True], ids=["said", "quiet"])
async def test_a_board_that_is_left_leaves_one_line_unless_told_not_to(
    is_quiet: bool, own_mosquitto: Mosquitto, capfd: pytest.CaptureFixture[str]
) -> None:
    with own_terminal() as terminal:
        running = asyncio.create_task(run_on(own_mosquitto, FleetFlags(is_quiet=is_quiet)))
        await terminal.shows("connected for")
        terminal.press(b"q")
        assert await running is Exit.OK
        assert terminal.shown.rfind(LEAVE) > 0
    said = capfd.readouterr().err
    assert said.startswith("" if is_quiet else "plantops: 0 devices; 0 messages in ")
    assert said.count("\n") == (0 if is_quiet else 1)


async def test_a_board_that_never_found_its_broker_says_so_when_it_is_gone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    with own_terminal():
        flags = FleetFlags(timeout_seconds=LOOK_SECONDS, wait_for_broker=True)
        assert await run_on(port, flags) is Exit.TIMEOUT
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"plantops: 127.0.0.1:{port}: no")
    assert line.endswith("without a connection")
