"""Run benchmarks and print their tables: python -m benchmarks [NAME...]; all of them write docs/performance.md."""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from benchmarks import (
    backlog,
    first_message,
    flood,
    latency,
    memory,
    presence,
    provisioning,
    report,
    startup,
    typed_handlers,
)
from benchmarks.measure import Section, Sizes

_COLUMNS = 140  # where there is no terminal to ask
_TURNS = "CPU seconds of whole processes, by turns; the median of the ratios."
_BENCHMARKS: dict[str, Callable[[Sizes], Section]] = {
    "flood": flood.from_fake_broker,
    "broker": flood.through_mosquitto,
    "backlog": backlog.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "first-message": first_message.measure,
    "presence": presence.measure,
    "typed": typed_handlers.measure,
    "startup": lambda _: Section("Starting", _TURNS, tuple(startup.compare())),
    "provisioning": lambda _: Section("Provisioning", _TURNS, tuple(provisioning.compare())),
}


def main() -> int:
    """Measure and print; exit 1 when something could not be measured as it should."""
    names, sizes = _arguments()
    console = Console(width=None if sys.stdout.isatty() else _COLUMNS)
    sections = []
    for name in names or _BENCHMARKS:
        console.print(f"measuring: {name}", style="dim")
        sections.append(_BENCHMARKS[name](sizes))
        console.print(*_tables(sections[-1]), sep="\n")
    if not names:
        console.print(f"written: {report.write(sections)}")
    return 1 if any(section.failures for section in sections) else 0


def _arguments() -> tuple[list[str], Sizes]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of: {', '.join(_BENCHMARKS)}")
    for field in fields(Sizes):
        default = getattr(Sizes(), field.name)
        parser.add_argument(
            f"--{field.name}", type=int, default=default, metavar="N", help=f"{default:,} by itself"
        )
    given = vars(parser.parse_args())
    names = given.pop("names")
    if unknown := set(names) - set(_BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(_BENCHMARKS)}")
    return names, Sizes(**given)


def _tables(section: Section) -> Iterator[Table | str]:
    if section.comparisons:
        yield _table(section.title, report.COMPARISON_HEADER, map(report.cells, section.comparisons))
    if section.figures:
        yield _table(section.title, section.header, section.figures)
    yield from section.missing
    yield from (f"FAILED: {failure}" for failure in section.failures)


def _table(
    title: str, header: tuple[str, ...], rows: "map[tuple[str, ...]] | tuple[tuple[str, ...], ...]"
) -> Table:
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(main())
