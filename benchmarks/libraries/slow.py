"""How long handlers that wait hold up a stream, and whether they keep the order of a device."""

from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.libraries import rivals, turns
from benchmarks.libraries.account import Tally, worst
from benchmarks.libraries.programs.job import VARIED, WAITING
from benchmarks.libraries.rivals import Program
from benchmarks.libraries.stage import Stage
from benchmarks.measure import Comparison, Section, Sizes, amount

_COUNT = 5_000
_CONCURRENCY = 100
_TARGET_SECONDS = 0.9
_LOADS = {WAITING: "10 ms, devices by turns", VARIED: "5 to 15 ms, five in a row"}
_IN_A_ROW = {WAITING: 1, VARIED: 5}
_METHOD = (
    f"{_COUNT:,} messages for an async handler that waits, as for a database: 10 ms, the devices sending by "
    f"turns; or 5 to 15 ms, each device sending five in a row, as after an outage of its own. {_CONCURRENCY} "
    f"may be in hand at once: plantops concurrency={_CONCURRENCY}, FastStream max_workers={_CONCURRENCY}, "
    f"{_CONCURRENCY} workers behind the iterator of aiomqtt, and behind a queue where only one may iterate "
    "(MQTTium, zmqtt, zenmqtt); gmqtt and fastapi-mqtt know no bound. Time runs from the first that begins to "
    "the last that ends. Out of order is a message handled behind a later one of the same device, by the "
    "beginning and by the end of the handler: the worst of all rounds. {machine}"
)


@dataclass(frozen=True, slots=True)
class Slow:
    """One run.

    Attributes:
        seconds: from the first that begins to the last that ends.
        tally: what became of the messages.
    """

    seconds: float
    tally: Tally


def measure(sizes: Sizes) -> Section:
    """Measure time, order and losses."""
    programs, missing = turns.everybody(sizes)
    comparisons, figures, failures = list[Comparison](), list[tuple[str, ...]](), list[str]()
    for work, words in _LOADS.items():
        runs, failed = turns.take(programs, sizes, partial(_run, work=work))
        seconds = {name: [one.seconds for one in of_one] for name, of_one in runs.items()}
        measure = f"{_COUNT:,} messages, {words}"
        comparisons += turns.compare(measure, seconds, unit="s", ours=rivals.ours().name)
        figures += [_figures(name, work, of_one) for name, of_one in runs.items()]
        failures += failed
    return Section(
        "Libraries: handlers that wait",
        _METHOD.format(machine=turns.machine(sizes)),
        tuple(comparisons),
        ("program", "wait", "time", "begun out of order", "ended out of order", "lost", "handled twice", "target"),
        tuple(figures),
        tuple(missing),
        tuple(failures),
    )


def _run(program: Program, work: str) -> Slow:
    with Stage(program, work, count=_COUNT, concurrency=_CONCURRENCY) as stage:
        stage.start()
        stage.wait_until_subscribed()
        with stage.publishing(0, _COUNT, in_a_row=_IN_A_ROW[work]):
            stage.wait_until_handled(_COUNT)
        first = stage.records[0].nanoseconds if stage.records else 0
        return Slow((stage.account.ended_at - first) / 1e9, stage.account.tally(_COUNT))


def _figures(name: str, work: str, runs: list[Slow]) -> tuple[str, ...]:
    tally, seconds = worst(one.tally for one in runs), median(one.seconds for one in runs)
    return (
        name,
        _LOADS[work],
        amount(seconds, "s"),
        f"{tally.begun_late:,}",
        f"{tally.ended_late:,}",
        f"{tally.lost:,}",
        f"{tally.repeated:,}",
        _target(work, seconds, tally) if name == rivals.ours().name else "",
    )


def _target(work: str, seconds: float, tally: Tally) -> str:
    in_order = f"0 out of order: {turns.verdict(is_met=not tally.begun_late and not tally.ended_late)}"
    return f"{turns.judged(seconds, _TARGET_SECONDS, 's')}; {in_order}" if work == WAITING else in_order
