"""How a fleet is shown: as a table, as JSON, CSV or Markdown, and its changes as lines."""

from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from plantops_cli.cli.shared.flags.display import FleetChoice
from plantops_cli.cli.shared.wording import counted
from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.presence import Change
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.formats.markdown import escape_markdown
from plantops_cli.formats.spreadsheet import csv_line
from plantops_cli.formats.terminal import escape, escape_name, json_escape

# each has a contrast of at least 3.5 on black and on white
STYLES = {
    DeviceState.OFFLINE: Style(color="color(160)", bold=True),
    DeviceState.NEVER_SEEN: Style(color="color(163)", bold=True),
    DeviceState.MUTE: Style(color="color(134)"),
    DeviceState.NO_HEARTBEAT: Style(color="color(134)"),
    DeviceState.LATE: Style(color="color(136)"),
    DeviceState.ONLINE: Style(color="color(28)"),
}

_MAX_ID_CELLS = 32
_PLAIN_WIDTH = 160


def render_look(look: Snapshot, choice: FleetChoice, *, is_terminal: bool) -> str:
    """Return a look as text, with a newline at its end.

    Args:
        look: what was seen.
        choice: in which form.
        is_terminal: whether it goes to a terminal, so that nothing a device said may command it.
    """
    if choice is FleetChoice.JSON:
        document = orjson.dumps(look.document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return (json_escape(document) if is_terminal else document).decode()
    if choice is FleetChoice.CSV:
        return _csv(look, is_terminal=is_terminal)
    if choice is FleetChoice.MD:
        return _markdown(look)
    console = Console(width=None if is_terminal else _PLAIN_WIDTH)
    with console.capture() as capture:
        console.print(table(look))
        console.print(headline(look))
    return capture.get()


def event_line(change: Change, clock_offset_seconds: float, *, is_text: bool, is_terminal: bool) -> bytes:
    """Return a change of state as one line.

    Args:
        change: the change.
        clock_offset_seconds: what to add to its time to get seconds since 1970.
        is_text: for a person, not for a program.
        is_terminal: whether it goes to a terminal.
    """
    at = datetime.fromtimestamp(change.at + clock_offset_seconds, UTC)
    if not is_text:
        document = {
            "tst": at.isoformat(timespec="microseconds"),
            "device_id": change.device_id,
            "state": change.state.value,
            "before": change.before.value if change.before else None,
            "topic": change.topic,
            "silent_seconds": round(change.silent_seconds, 3),
            "remarks": change.remarks,
        }
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        return json_escape(line) if is_terminal else line
    before = _before(change)
    # who has spoken just now is not silent
    subject = f", {change.topic}" if change.topic else ","
    silence = f"{subject} silent for {age(change.silent_seconds)}" if change.silent_seconds else ""
    said = "".join(f", {remark}" for remark in change.remarks)
    text = Text.assemble(
        (f"{at.astimezone():%H:%M:%S}", "dim"),
        "  ",
        (change.state.words.ljust(12), STYLES[change.state]),
        f"  {escape_name(change.device_id)}  ",
        (f"{before}{silence}{said}", "dim"),
    )
    console = Console(soft_wrap=True)
    with console.capture() as capture:
        console.print(text)
    return capture.get().encode(console.encoding, "backslashreplace")


def _before(change: Change) -> str:
    if change.before is None:
        return "new"
    return f"{'still' if change.before is change.state else 'was'} {change.before.words}"


def table(look: Snapshot) -> Table:
    """Lay out one row for each device, the worst first."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("state", "device"):
        made.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_MAX_ID_CELLS)
    for name in ("telemetry", "heartbeat", "every", "rate", "messages", "invalid"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("remarks", overflow="ellipsis", no_wrap=True)
    for report in look.worst_first:
        made.add_row(
            Text(report.state.words, STYLES[report.state]),
            Text(escape_name(report.device_id)),
            ago(report.last_telemetry, look.taken_at),
            ago(report.last_heartbeat, look.taken_at),
            every(report),
            speed(report),
            f"{report.messages:,}" if report.messages else "",
            Text(f"{report.invalid:,}", STYLES[DeviceState.OFFLINE]) if report.invalid else "",
            Text(escape(", ".join(remarks(report)))),
        )
    return made


def headline(look: Snapshot) -> Text:
    """Say in one line how many devices are in which state."""
    counts = [(state, number) for state, number in reversed(look.counts.items()) if number]
    line = Text().append(counted(len(look.reports), "device"), "bold")
    for position, (state, number) in enumerate(counts):
        line.append(", " if position else ": ").append(f"{number:,} {state.words}", STYLES[state])
    if look.unknown:
        line.append(f", {len(look.unknown):,} not expected")
    line.append(f"; {counted(look.messages, 'message')} in {look.listened_seconds:.0f} s")
    if look.rate is not None:
        line.append(f" ({look.rate:.1f}/s)")
    if look.invalid:
        line.append(f", {look.invalid:,} invalid")
    if look.outages:
        line.append(f"; {counted(look.outages, 'outage')} of our own")
    for absence in look.absences:
        line.append(f"; {escape(absence)}")
    return line


def remarks(report: DeviceReport) -> list[str]:
    """What else there is to say of a device."""
    numbers = {
        "missing": report.missing,
        "missed by us": report.missed,
        "out of order": report.out_of_order,
        "duplicates": report.duplicates,
        "restarts": report.restarts,
    }
    said = [f"{number:,} {what}" for what, number in numbers.items() if number]
    if report.lag_seconds is not None:
        said.append(f"lag {report.lag_seconds:.2f} s")
    if report.is_expected is False:
        said.append("not expected")
    said += report.remarks
    if report.error:
        said.append(report.error)
    return said


def speed(report: DeviceReport) -> str:
    """How many messages a second a device sends: ``-`` when it is too early to tell."""
    if not report.messages:
        return ""
    if report.rate is None:
        return "-"
    return "<0.01/s" if 0 < report.rate < 0.01 else f"{report.rate:.2f}/s"


def every(report: DeviceReport) -> str:
    """How often a device speaks: telemetry, else its heartbeat."""
    seconds = report.interval_seconds or report.heartbeat_interval_seconds
    return age(seconds) if seconds else ""


def ago(at: float | None, now: float) -> str:
    """How long ago something was."""
    return "never" if at is None else age(max(0.0, now - at))


def age(seconds: float) -> str:
    """A length of time in as few characters as it takes."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f}m"
    hours = minutes / 60
    return f"{hours:.0f}h" if hours < 48 else f"{hours / 24:.0f}d"


def _csv(look: Snapshot, *, is_terminal: bool) -> str:
    rows = [look.row(report) for report in look.worst_first]
    names = list(rows[0]) if rows else ["device_id", "state"]
    lines = [csv_line(names)]
    for row in rows:
        cells = ["; ".join(value) if isinstance(value, list) else value for value in row.values()]
        lines.append(csv_line(escape(cell) if is_terminal and isinstance(cell, str) else cell for cell in cells))
    return "".join(lines)


def _markdown(look: Snapshot) -> str:
    names = ("state", "device", "last telemetry", "last heartbeat", "every", "messages", "invalid", "remarks")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for report in look.worst_first:
        row = look.row(report)
        cells = (
            report.state.words,
            escape_name(report.device_id),
            str(row["last_telemetry"] or "never"),
            str(row["last_heartbeat"] or "never"),
            every(report),
            f"{report.messages:,}",
            f"{report.invalid:,}",
            ", ".join(remarks(report)),
        )
        lines.append(f"| {' | '.join(map(escape_markdown, cells))} |")
    return "\n".join([*lines, "", escape_markdown(headline(look).plain), ""])
