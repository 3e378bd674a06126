"""A bar chart as SVG, by hand: it needs no more than rectangles and text."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.measure import amount

_WIDTH, _ROW, _LABEL, _MARGIN, _VALUE = 720, 22, 250, 12, 60  # pixels
_OURS, _THEIRS = "#2f7d32", "#8a8f98"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: what it is.
        value: how long it is.
        is_ours: whether it is plantops'.
    """

    label: str
    value: float
    is_ours: bool = False


def draw(title: str, bars: Sequence[Bar]) -> str:
    """Draw horizontal bars from a common zero, each with its figure.

    Args:
        title: what they show, with the unit.
        bars: at least one, from top to bottom.
    """
    longest = max(bar.value for bar in bars)
    room = _WIDTH - _LABEL - _VALUE - 2 * _MARGIN
    height = (len(bars) + 1) * _ROW + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',  # readable on a dark page too
        f'<text x="{_MARGIN}" y="{_MARGIN + 13}" font-weight="bold">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars, 1):
        top, length = _MARGIN + number * _ROW, max(1, round(room * bar.value / longest))
        left, base = _MARGIN + _LABEL, top + 15
        lines += [
            f'<text x="{left - 8}" y="{base}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{left}" y="{top + 3}" width="{length}" height="{_ROW - 6}" '
            f'fill="{_OURS if bar.is_ours else _THEIRS}"/>',
            f'<text x="{left + length + 6}" y="{base}">{amount(bar.value)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
