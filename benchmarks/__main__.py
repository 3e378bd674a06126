"""Run all benchmarks and print one table: python -m benchmarks"""

from rich.console import Console
from rich.table import Table

from benchmarks import provisioning, startup, stream
from benchmarks.measure import Comparison


def main() -> None:
    """Measure and print."""
    table = Table("measure", "plantops", "peer", "peer is", "ratio", "spread of the ratio")
    for comparison in (*startup.compare(), *provisioning.compare(), *stream.compare()):
        table.add_row(*_cells(comparison))
    Console().print(table)


def _cells(comparison: Comparison) -> tuple[str, ...]:
    ratios = comparison.ratios
    return (
        comparison.measure,
        f"{comparison.ours:.3f} s",
        f"{comparison.peers:.3f} s",
        comparison.peer,
        f"{comparison.ratio:.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
    )


if __name__ == "__main__":
    main()
