"""The live board of a fleet as text: what it shows, and what keys do to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from plantops_cli.cli.fleet.rendering import STYLES, ago, every, headline, remarks, speed
from plantops_cli.fleet.device import DeviceReport, DeviceState
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.formats.keyvalue import pairs
from plantops_cli.formats.terminal import escape, escape_name

_BARS = "▁▂▃▄▅▆▇█"
_STATE_CELLS = max(len(state.words) for state in DeviceState)
_ID_CELLS = (8, 28)
_AGE_CELLS, _RATE_CELLS = 6, 8
_SPARK_CELLS = 16
_LATEST_CELLS = 10
_GAP = "  "
_KEYS = "q quit  s sort  / filter  p pause  ↑↓ scroll"
_HEAD_LINES, _FOOT_LINES = 3, 1
_FAR = 1 << 30

_STATES = list(DeviceState)
# the smallest first, and by id among equals
_ORDERS: dict[str, Callable[[DeviceReport], float]] = {
    "state": lambda report: _STATES.index(report.state),
    "id": lambda _: 0.0,
    "silence": lambda report: max(_heard(report), default=-math.inf),
    "rate": lambda report: -(report.rate or 0.0),
    "invalid": lambda report: -report.invalid,
}


@dataclass(frozen=True, slots=True)
class View:
    """How somebody looks at the board.

    Attributes:
        order: by what the rows are sorted.
        needle: what an id or a state must contain; empty: all.
        is_typing: whether keys go into ``needle``.
        is_paused: whether the board stands still.
        offset: how many rows are above the first one shown.
    """

    order: str = "state"
    needle: str = ""
    is_typing: bool = False
    is_paused: bool = False
    offset: int = 0


def press(view: View, key: str, *, page: int) -> View | None:
    """Return the view after a key, or None when it quits.

    Args:
        view: the view before.
        key: a key as ``Keyboard`` names it.
        page: how many rows are shown at once.
    """
    if view.is_typing:
        return _type(view, key)
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page, "home": -_FAR, "end": _FAR}
    if key in steps:
        return replace(view, offset=max(0, view.offset + steps[key]))
    match key:
        case "q" | "Q":
            return None
        case "s":
            orders = list(_ORDERS)
            return replace(view, order=orders[(orders.index(view.order) + 1) % len(orders)], offset=0)
        case "/":
            return replace(view, is_typing=True, offset=0)
        case "escape":
            return replace(view, needle="", offset=0)
        case "p" | " ":
            return replace(view, is_paused=not view.is_paused)
    return view


def _type(view: View, key: str) -> View:
    match key:
        case "enter":
            return replace(view, is_typing=False)
        case "escape":
            return replace(view, is_typing=False, needle="")
        case "backspace":
            return replace(view, needle=view.needle[:-1])
    return replace(view, needle=view.needle + key, offset=0) if len(key) == 1 else view


def page_size(height: int) -> int:
    """How many rows a screen of this height has room for."""
    return max(1, height - _HEAD_LINES - 1 - _FOOT_LINES)


def fit(view: View, look: Snapshot, height: int) -> View:
    """Return the view scrolled no further than there are rows."""
    return replace(view, offset=max(0, min(view.offset, len(_chosen(view, look)) - page_size(height))))


def draw(view: View, look: Snapshot, *, broker: str, note: str, field: str | None, size: tuple[int, int]) -> Text:
    """Draw the board, as many lines as the screen has.

    Args:
        view: how somebody looks at it.
        look: what there is to see.
        broker: its address, and how the connection is.
        note: the latest that there is to say.
        field: whose values are drawn as a line of bars.
        size: columns and lines of the screen.
    """
    columns, height = size
    chosen = _chosen(view, look)
    shown = chosen[view.offset : view.offset + page_size(height)]
    layout = _Layout.of(shown, columns, has_spark=field is not None)
    lines = [
        Text.assemble(("plantops fleet", "bold"), f"{_GAP}{escape(broker)}"),
        headline(look),
        Text(escape(note), "dim"),
        layout.titles(field),
        *(layout.row(report, look.taken_at) for report in shown),
    ]
    lines += [Text()] * (height - _FOOT_LINES - len(lines))
    lines.append(_foot(view, shown=len(shown), chosen=len(chosen), total=len(look.reports)))
    for line in lines:
        line.truncate(columns, overflow="crop")
    return Text("\n", no_wrap=True, end="").join(lines[:height])


def spark(values: tuple[float, ...], cells: int) -> str:
    """Draw the latest values as bars, the lowest as the lowest and the highest as the highest.

    Args:
        values: numbers, the oldest first.
        cells: how many bars to draw at most.
    """
    latest = values[-cells:]
    low, high = min(latest, default=0.0), max(latest, default=0.0)
    span = high - low
    if not 0 < span < math.inf:
        return _BARS[0] * len(latest)
    scale = (len(_BARS) - 1) / span
    return "".join(_BARS[round((value - low) * scale)] for value in latest)


@dataclass(frozen=True, slots=True)
class _Layout:
    id_cells: int
    spark_cells: int
    latest_cells: int

    @classmethod
    def of(cls, shown: list[DeviceReport], columns: int, *, has_spark: bool) -> "_Layout":
        longest = max((cell_len(escape_name(report.device_id)) for report in shown), default=0)
        id_cells = min(max(longest, _ID_CELLS[0]), _ID_CELLS[1])
        fixed = _STATE_CELLS + id_cells + 3 * _AGE_CELLS + _RATE_CELLS + 5 * len(_GAP)
        rest = max(0, columns - fixed - len(_GAP))
        spark_cells = min(rest, _SPARK_CELLS) if has_spark else 0
        if spark_cells:
            rest = max(0, rest - spark_cells - len(_GAP))
        return cls(id_cells, spark_cells, rest if rest >= _LATEST_CELLS else 0)

    def titles(self, field: str | None) -> Text:
        names = [("state", _STATE_CELLS), ("device", self.id_cells)]
        aged = [("telem.", _AGE_CELLS), ("heart.", _AGE_CELLS), ("every", _AGE_CELLS), ("rate", _RATE_CELLS)]
        line = _GAP.join(
            [name.ljust(cells) for name, cells in names] + [name.rjust(cells) for name, cells in aged]
        )
        if self.spark_cells:
            line += _GAP + set_cell_size(escape(field or ""), self.spark_cells)
        return Text(f"{line}{_GAP}latest" if self.latest_cells else line, "bold underline")

    def row(self, report: DeviceReport, now: float) -> Text:
        line = Text().append(report.state.words.ljust(_STATE_CELLS), STYLES[report.state]).append(_GAP)
        line.append(set_cell_size(escape_name(report.device_id), self.id_cells), "bold")
        for text, cells in (
            (ago(report.last_telemetry, now), _AGE_CELLS),
            (ago(report.last_heartbeat, now), _AGE_CELLS),
            (every(report), _AGE_CELLS),
            (speed(report), _RATE_CELLS),
        ):
            line.append(_GAP + text.rjust(cells))
        if self.spark_cells:
            bars = spark(report.values, self.spark_cells).ljust(self.spark_cells)
            line.append(_GAP + bars, STYLES[DeviceState.ONLINE])
        return line.append(_GAP).append_text(_latest(report, self.latest_cells)) if self.latest_cells else line


def _latest(report: DeviceReport, cells: int) -> Text:
    """What else there is to say, and the latest values, as far as there is room."""
    said = remarks(report)
    text = Text().append(escape(", ".join(said)), STYLES[DeviceState.LATE])
    for name, value in _values(report.payload):
        if text.cell_len >= cells:
            break
        text.append(" " if text else "").append(f"{escape(name[:cells])}=" if name else "", "dim")
        text.append(escape(value[:cells]))
    return text


def _values(payload: bytes | None) -> list[tuple[str, str]]:
    try:
        return list(pairs(payload.decode())) if payload else []
    except ValueError:
        return []


def _chosen(view: View, look: Snapshot) -> list[DeviceReport]:
    needle = view.needle.lower()
    wanted = [one for one in look.reports if needle in one.device_id.lower() or needle in one.state.words]
    return sorted(wanted, key=lambda report: (_ORDERS[view.order](report), report.device_id))


def _heard(report: DeviceReport) -> list[float]:
    return [at for at in (report.last_telemetry, report.last_heartbeat) if at is not None]


def _foot(view: View, *, shown: int, chosen: int, total: int) -> Text:
    if view.is_typing:
        hint = f"{_GAP}enter keeps it, escape drops it"
        return Text.assemble(("filter: ", "bold"), escape(view.needle), ("█", "blink"), (hint, "dim"))
    foot = Text().append(_KEYS, "dim")
    foot.append(f"{_GAP}by {view.order}")
    if view.needle:
        foot.append(f"{_GAP}filter {escape(view.needle)!r}: {chosen:,} of {total:,}")
    if chosen > shown:
        foot.append(f"{_GAP}{view.offset + 1:,} to {view.offset + shown:,} of {chosen:,}")
    if view.is_paused:
        foot.append(_GAP).append("paused", "bold reverse")
    return foot
