"""How long a message takes from its publisher to a line on the listener's standard output."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from benchmarks import listeners
from benchmarks.children import Child
from benchmarks.listeners import Listener
from benchmarks.measure import Comparison, MeasurementError, Section, Sizes, amount
from benchmarks.paced_publisher import MESSAGES_PER_SECOND
from benchmarks.real_broker import RealBroker

_TURNS = 6  # a round has more of them here: a percentile near the end needs many
_TARGET = 1.3  # at the 99th percentile
_PERCENTILES = (50.0, 99.0, 99.9)
# mosquitto_sub has the payload as a string, its quotation marks escaped
_STAMP = re.compile(rb"seq\W+(\d+)")
_METHOD = (
    "A publisher stamps each message with the monotonic clock and sends {pace:,} a second through Mosquitto "
    "(set_tcp_nodelay true); the line counts as there when the reader of the pipe has it. {count:,} messages a "
    "run, {rounds} rounds; figures are medians over the rounds."
)


def measure(sizes: Sizes) -> Section:
    """Measure plantops against mosquitto_sub."""
    rounds = _TURNS * sizes.rounds
    comparisons, figures, failures = list[Comparison](), list[tuple[str, ...]](), list[str]()
    programs = (listeners.plantops(), listeners.mosquitto_sub())
    with RealBroker() as broker:
        for qos in (0, 1):
            try:
                runs = [[_run(broker, program, qos, sizes.latency) for program in programs] for _ in range(rounds)]
            except MeasurementError as error:
                failures.append(f"QoS {qos}: {error}")
            else:
                comparisons += _comparisons(runs, qos)
                figures += [_figures(program, qos, [run[i] for run in runs]) for i, program in enumerate(programs)]
    return Section(
        "Latency",
        _METHOD.format(pace=MESSAGES_PER_SECOND, count=sizes.latency, rounds=rounds),
        tuple(comparisons),
        ("program", "QoS", *(f"p{percent:g}" for percent in _PERCENTILES), "longest"),
        tuple(figures),
        failures=tuple(failures),
    )


def percentile(ordered: list[float], percent: float) -> float:
    """The smallest value that so many per cent of the values do not exceed.

    Args:
        ordered: at least one value, the smallest first.
        percent: above 0, at most 100.
    """
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def _run(broker: RealBroker, listener: Listener, qos: int, count: int) -> list[float]:
    """Milliseconds of each message, the smallest first."""
    command = listener.command(port=broker.port, qos=qos, count=count)
    publisher = [sys.executable, "-m", "benchmarks.paced_publisher", str(broker.port), str(qos), str(count)]
    with broker.subscribed(listener.name, command) as child, subprocess.Popen(publisher) as publishing:
        try:
            arrivals = list(_arrivals(child, count))
            child.end()
        finally:
            publishing.terminate()
    return sorted((at - stamp) / 1e6 for at, stamp in arrivals)


def _arrivals(child: Child, count: int) -> Iterator[tuple[int, int]]:
    """The moment at which each line was read, and the one at which it was sent."""
    cut = b""
    while child.line_count < count:
        chunk = child.read()
        at = time.monotonic_ns()
        if not chunk:
            child.read_lines(count)  # raises, with what it said
        *lines, cut = (cut + chunk).split(b"\n")
        for line in lines:
            found = _STAMP.search(line)
            if not found:
                raise MeasurementError(f"a line without a stamp: {line[:200]!r}")
            yield at, int(found[1])


def _comparisons(runs: list[list[list[float]]], qos: int) -> Iterator[Comparison]:
    for percent in _PERCENTILES:
        pairs = tuple((percentile(ours, percent), percentile(theirs, percent)) for ours, theirs in runs)
        target = _TARGET if percent == 99 else None
        yield Comparison(f"latency p{percent:g}, QoS {qos}", "mosquitto_sub -F %j", pairs, "ms", target)


def _figures(listener: Listener, qos: int, runs: list[list[float]]) -> tuple[str, ...]:
    figures = [median(percentile(run, percent) for run in runs) for percent in (*_PERCENTILES, 100)]
    return (listener.name, str(qos), *(amount(figure, "ms") for figure in figures))
