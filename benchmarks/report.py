"""What was measured as docs/performance.md, with a chart."""

import datetime
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import listeners
from benchmarks.chart import Bar, draw
from benchmarks.flood import MEASURE
from benchmarks.measure import Comparison, Section, amount

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
CHART = PAGE.with_suffix(".svg")
COMPARISON_HEADER = ("measure", "peer", "plantops", "the peer", "ratio", "spread of the ratio", "target")
_HEADING = "\n\n## "
_INTRODUCTION = """# Performance

Written by `make bench`; do not edit. Each figure stands beside a peer's from the same run: a ratio below 1 means
that plantops takes less. Absolute figures are one machine's; ratios travel better."""


def write(sections: Sequence[Section]) -> Path:
    """Write the page and its chart, and return where the page is."""
    bars = list(_bars(sections))
    if bars:
        CHART.write_text(draw("CPU time per message in a flood, µs (less is better)", bars))
    PAGE.write_text(
        "\n\n".join([*_head(has_chart=bool(bars)), *(text for s in sections for text in _parts(s))]) + "\n"
    )
    return PAGE


def renew(sections: Sequence[Section]) -> Path:
    """Put sections into the page, in place of those of the same title or at its end; return where it is."""
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    head, *old = PAGE.read_text().rstrip().split(_HEADING)
    parts = {text.partition("\n")[0]: text.rstrip() for text in old}
    for section in sections:
        remark = f"Measured on {today}, apart from the rest."
        title, *texts = _parts(section)
        parts[section.title] = "\n\n".join([title, remark, *texts]).removeprefix(_HEADING.lstrip())
    PAGE.write_text(_HEADING.join([head.rstrip(), *parts.values()]) + "\n")
    return PAGE


def cells(comparison: Comparison) -> tuple[str, ...]:
    """A comparison as a row of text."""
    ratios = comparison.ratios
    return (
        comparison.measure,
        comparison.peer,
        amount(comparison.ours, comparison.unit),
        amount(comparison.peers, comparison.unit),
        f"{comparison.ratio:.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        _target(comparison),
    )


def _target(comparison: Comparison) -> str:
    if comparison.target is None:
        return ""
    verdict = "met" if comparison.ratio <= comparison.target else "missed"
    return f"{comparison.target:.2f}, {verdict}"


def _head(*, has_chart: bool) -> Iterator[str]:
    yield _INTRODUCTION
    yield (
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} with {os.cpu_count()} cores, "
        f"{platform.system()} on {platform.machine()}, Python {platform.python_version()}; "
        + ", ".join(f"{name} {version}" for name, version in listeners.versions().items())
        + "."
    )
    if has_chart:
        yield f"![CPU time per message, plantops and its peers]({CHART.name})"


def _parts(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield section.method
    if section.comparisons:
        yield _markdown(COMPARISON_HEADER, map(cells, section.comparisons))
    if section.figures:
        yield _markdown(section.header, section.figures)
    yield from section.missing
    yield from (f"Failed: {failure}" for failure in section.failures)


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bars(sections: Iterable[Section]) -> Iterator[Bar]:
    for qos in (0, 1):
        measured = [c for s in sections for c in s.comparisons if c.measure == MEASURE.format(qos=qos)]
        from_fake_broker = measured[: len({comparison.peer for comparison in measured})]
        if from_fake_broker:
            yield Bar(f"QoS {qos}, plantops", from_fake_broker[0].ours, is_ours=True)
        for comparison in from_fake_broker:
            yield Bar(f"QoS {qos}, {comparison.peer}", comparison.peers)
