"""The run of ``fleet``: a live board, one look, or a line for each change."""

import os
import secrets
import sys
from pathlib import Path

from plantops_cli.cli.fleet.fleet_flags import FleetFlags
from plantops_cli.cli.fleet.rendering import event_line, headline, render_look
from plantops_cli.cli.fleet.screen import Screen
from plantops_cli.cli.shared.connection import subscriber
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.flags.display import FleetChoice
from plantops_cli.cli.shared.observers import announce, observers_of
from plantops_cli.cli.shared.presence_keeper import PresenceKeeper
from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.cli.shared.run import Limits, StreamRun
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.stopping import Stop, exit_for
from plantops_cli.cli.shared.wording import SILENCE, counted, never_connected
from plantops_cli.errors import ConfigError
from plantops_cli.fleet.monitor import clock_offset_seconds
from plantops_cli.fleet.presence import MAX_CHANGES, MAX_DEVICES, Presence
from plantops_cli.fleet.roster import write_roster
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.outputs.destination import Destination
from plantops_cli.outputs.ownership import create
from plantops_cli.outputs.stdout import StandardOutput

_ABSENT_AFTER_SECONDS = 30.0
_TOO_SIMPLE = ("dumb", "unknown")


async def run_fleet(flags: FleetFlags) -> Exit:
    """Watch a fleet as the flags say, and return the exit code.

    Args:
        flags: where the broker is, what to show, and for how long.

    Raises:
        ConfigError: flags are malformed or contradict each other, or the roster is unusable.
        BrokerError: the first connection failed, or the stream ended for good.
    """
    is_board = not flags.is_once and not flags.is_events
    if is_board and (not sys.stdout.isatty() or os.environ.get("TERM") in _TOO_SIMPLE):
        raise ConfigError("standard output is no terminal for a live board", hint="give --once or --events")
    if flags.save_roster is not None:
        _check_absent(flags.save_roster)
    limits = Limits(
        timeout_seconds=flags.timeout_seconds,
        within_seconds=flags.once_seconds if flags.is_once else None,
        wait_for_broker=flags.wait_for_broker,
    )
    screen = Screen(flags.field) if is_board else None
    presence = _presence(flags, is_payload_kept=is_board)
    selection = Selection(devices=flags.devices)
    tell = screen.tell if screen else announce(is_quiet=flags.is_quiet)
    mqtt = subscriber(flags.connection, qos=flags.qos, on_status=tell)
    keeper = PresenceKeeper(mqtt, presence)
    stdout = StandardOutput(sys.stdout.fileno()) if flags.is_events else None
    run = StreamRun(
        mqtt,
        selection.topic_filters,
        keeper,
        limits,
        observers=observers_of(mqtt, keeper.monitor, flags.metrics),
        destination=stdout,
    )
    if screen:
        return await _board(run, keeper, screen, is_quiet=flags.is_quiet)
    return await (_events(run, keeper, stdout, flags) if stdout else _once(run, keeper, flags))


async def _board(run: StreamRun, keeper: PresenceKeeper, screen: Screen, *, is_quiet: bool) -> Exit:
    look = await screen.show(run, keeper)
    if look.listened_seconds and not is_quiet:
        say(headline(look).plain)
    _say_if_never_connected(run, is_quiet=is_quiet)
    return exit_for(run.reason, count=None, shown=look.messages)


async def _once(run: StreamRun, keeper: PresenceKeeper, flags: FleetFlags) -> Exit:
    await run.run(keeper.follow)
    look = keeper.look()
    if run.reason is not Stop.TIMEOUT:
        return exit_for(run.reason, count=1, shown=0)
    is_terminal = sys.stdout.isatty()
    choice = flags.output or (FleetChoice.TABLE if is_terminal else FleetChoice.JSON)
    shown = render_look(look, choice, is_terminal=is_terminal)
    if choice is FleetChoice.TABLE or is_terminal:
        show_text(shown)
    else:
        show_document(shown.encode())
    if flags.save_roster is not None:
        _save_roster(flags.save_roster, look)
    if not flags.is_quiet:
        _say_what_is_absent(look)
    if not look.messages:
        say(f"no message at all: {SILENCE}")
        return Exit.TIMEOUT
    return Exit.OK


async def _events(run: StreamRun, keeper: PresenceKeeper, stdout: Destination, flags: FleetFlags) -> Exit:
    is_terminal = sys.stdout.isatty()
    is_text = flags.output is FleetChoice.TEXT or (flags.output is None and is_terminal)
    is_absence_told = flags.is_quiet

    async def show() -> None:
        nonlocal is_absence_told
        if not is_absence_told and keeper.monitor.listened_seconds >= _ABSENT_AFTER_SECONDS:
            _say_what_is_absent(keeper.look())
            is_absence_told = True
        presence, now = keeper.monitor.presence, keeper.monitor.now
        changes = sorted([*presence.changes(now), *presence.remarks(now)], key=lambda change: change.at)
        offset = clock_offset_seconds()
        lines = [event_line(change, offset, is_text=is_text, is_terminal=is_terminal) for change in changes]
        await stdout.write(b"".join(lines), stopped=run.stopped)

    await run.run(show)
    if not is_absence_told:
        _say_what_is_absent(keeper.look())
    if not flags.is_quiet:
        for note in keeper.look().notes:
            say(note)
    _say_if_never_connected(run, is_quiet=flags.is_quiet)
    return exit_for(run.reason, count=None, shown=run.subscriber.health.connection_count)


def _say_what_is_absent(look: Snapshot) -> None:
    for absence in look.absences:
        say(f"{absence}; is it written as the devices write it?")


def _say_if_never_connected(run: StreamRun, *, is_quiet: bool) -> None:
    if run.obstacle is not None and not is_quiet:
        say(never_connected(run.obstacle, elapsed_seconds=run.elapsed_seconds))


def _presence(flags: FleetFlags, *, is_payload_kept: bool) -> Presence:
    return Presence(
        roster=flags.roster.ids,
        offline_after_seconds=flags.offline_after_seconds,
        seq=flags.seq,
        clock=flags.clock,
        field=flags.field,
        is_payload_kept=is_payload_kept,
        # all devices at once may go from online over late to offline between two looks
        max_changes=4 * MAX_DEVICES if flags.is_events else MAX_CHANGES,
        clock_offset_seconds=clock_offset_seconds(),
    )


def _check_absent(path: Path) -> None:
    # unlike Path.exists(), this answers in a folder that may not be searched
    if os.path.lexists(path):
        raise ConfigError(f"--save-roster {str(path)!r}: there is such a file", hint="remove it, or name another")


def _save_roster(path: Path, look: Snapshot) -> None:
    seen = [report.device_id for report in look.reports if report.messages or report.is_retained_only]
    if not seen:
        # nobody could read it, and it would stand in the way of the next one
        say(f"no roster written to {str(path)!r}: no device was seen")
        return
    try:
        # written whole under another name, and linked, which never replaces a file
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = create(draft, mode=0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(write_roster(seen).encode())
            path.hardlink_to(draft)
        finally:
            draft.unlink()
    except OSError as exc:
        raise ConfigError(f"--save-roster {str(path)!r}: {exc.strerror}") from exc
    say(f"roster of {counted(len(seen), 'device')} written to {str(path)!r}")
