"""What a message costs in CPU when handlers are quick."""

from dataclasses import dataclass
from statistics import median

from benchmarks.libraries import rivals, turns
from benchmarks.libraries.account import Pace, pace
from benchmarks.libraries.programs.job import QUICK
from benchmarks.libraries.rivals import Program
from benchmarks.libraries.stage import PATIENCE_SECONDS, Stage, stop
from benchmarks.measure import MeasurementError, Section, Sizes, amount

_COUNT = 50_000
_CONCURRENCY = 50
_METHOD = (
    f"{_COUNT:,} messages for two handlers: telemetry is validated and kept in a dict by device, each tenth "
    "message is a heartbeat, counted in another. CPU is user and system time of the process from the first "
    f"message that is handled to the last, threads included. plantops has concurrency={_CONCURRENCY} where it "
    "is typed. FastStream's log line for each message is switched off. {machine}"
)


@dataclass(frozen=True, slots=True)
class Quick:
    """One run.

    Attributes:
        pace: what a message cost.
        missing: messages that were not handled.
    """

    pace: Pace
    missing: int


def measure(sizes: Sizes) -> Section:
    """Measure CPU and rate."""
    programs, missing = turns.everybody(sizes, rivals.by_hand() if rivals.typed() else None)
    runs, failures = turns.take(programs, sizes, _run)
    costs = {name: [one.pace.microseconds for one in of_one] for name, of_one in runs.items()}
    ours = rivals.ours().name
    targets = {"gmqtt": 0.5, rivals.BY_HAND: 1.3}
    return Section(
        "Libraries: quick handlers",
        _METHOD.format(machine=turns.machine(sizes)),
        tuple(turns.compare("CPU per message, quick handlers", costs, unit="µs", ours=ours, targets=targets)),
        ("program", "CPU per message", "messages/s", "not handled"),
        tuple(_figures(name, of_one) for name, of_one in runs.items()),
        tuple(missing),
        tuple(failures),
    )


def _run(program: Program) -> Quick:
    with Stage(program, QUICK, count=_COUNT, concurrency=_CONCURRENCY) as stage:
        child = stage.start()
        stage.wait_until_subscribed()
        with stage.publishing(0, _COUNT):
            stage.wait_until_counted(_COUNT, patience=PATIENCE_SECONDS)
        found = pace(stage.records)
        if not found:
            raise MeasurementError(f"{program.name} handled next to nothing{child.last_words()}")
        stop(child)
        stage.look()
        return Quick(found, _COUNT - stage.records[-1].number)


def _figures(name: str, runs: list[Quick]) -> tuple[str, ...]:
    return (
        name,
        amount(median(one.pace.microseconds for one in runs), "µs"),
        amount(median(one.pace.per_second for one in runs)),
        f"{max(one.missing for one in runs):,}",
    )
