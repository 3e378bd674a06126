"""Run benchmarks and print their tables: python -m benchmarks [NAME...]; all of them write docs/performance.md.

``libraries`` stands for all whose names begin with it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from benchmarks import (
    alarms,
    backlog,
    blocking,
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
from benchmarks.libraries import beside, interrupted, quick, slow
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
    "fleet-simulated": alarms.simulate,
    "fleet-healthy": alarms.listen,
    "typed": typed_handlers.measure,
    "blocking": blocking.measure,
    "startup": lambda _: Section("Starting", _TURNS, tuple(startup.compare())),
    "provisioning": lambda _: Section("Provisioning", _TURNS, tuple(provisioning.compare())),
    "libraries-quick": quick.measure,
    "libraries-slow": slow.measure,
    "libraries-beside": beside.measure,
    "libraries-stopped": interrupted.stopped,
    "libraries-killed": interrupted.killed,
    "libraries-restarted": interrupted.restarted,
}


def main() -> int:
    """Measure and print; exit 1 when something could not be measured as it should."""
    names, sizes, is_renewing = _arguments()
    console = Console(width=None if sys.stdout.isatty() else _COLUMNS)
    sections = []
    for name in names or _BENCHMARKS:
        console.print(f"measuring: {name}", style="dim")
        sections.append(_BENCHMARKS[name](sizes))
        console.print(*_tables(sections[-1]), sep="\n")
    if not names:
        console.print(f"written: {report.write(sections)}")
    elif is_renewing:
        console.print(f"renewed: {report.renew(sections)}")
    return 1 if any(section.failures for section in sections) else 0


def _arguments() -> tuple[list[str], Sizes, bool]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of: {', '.join(_BENCHMARKS)}")
    for field in fields(Sizes):
        default = getattr(Sizes(), field.name)
        help_text = f"{default:,} by itself" if isinstance(default, int) else "words of their names; all by itself"
        metavar = "N" if isinstance(default, int) else "A,B"
        parser.add_argument(
            f"--{field.name}", type=type(default), default=default, metavar=metavar, help=help_text
        )
    parser.add_argument("--renew", action="store_true", help="put what NAME measures into docs/performance.md")
    given = vars(parser.parse_args())
    names, is_renewing = given.pop("names"), given.pop("renew")
    if unknown := [name for name in names if not _members(name)]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(_BENCHMARKS)}")
    return [member for name in names for member in _members(name)], Sizes(**given), is_renewing


def _members(name: str) -> list[str]:
    """The benchmark of that name, or those of a group: ``libraries`` is all that begin with it."""
    return [name] if name in _BENCHMARKS else [one for one in _BENCHMARKS if one.startswith(f"{name}-")]


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
