"""How long a web request waits beside handlers that block or compute in the same process."""

import time
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.children import Child
from benchmarks.libraries import rivals, turns
from benchmarks.libraries.programs.job import BLOCKING, COMPUTING
from benchmarks.libraries.rivals import ROOT, Program
from benchmarks.libraries.stage import Stage, wait_for_port
from benchmarks.measure import Comparison, Section, Sizes, amount
from tests.support.brokers import free_port

_LOADS = {BLOCKING: 1_000, COMPUTING: 5_000}
_CONCURRENCY = {BLOCKING: 10, COMPUTING: 1}
_REST_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0
_TARGET_MILLISECONDS = 15.0
_WORDS = {
    BLOCKING: f"beside {_LOADS[BLOCKING]:,} that block for 10 ms",
    COMPUTING: f"beside {_LOADS[COMPUTING]:,} that compute for 1 ms",
}
_METHOD = (
    "A FastAPI application on uvicorn runs in the same process and event loop; another process asks it for a "
    "page every 5 ms, on one connection. The longest wait is that of any request while messages are handled. "
    f"Blocking: a handler that sleeps in its thread for 10 ms, {_CONCURRENCY[BLOCKING]} at once: a def of "
    "plantops and FastStream, which put it into a thread themselves; asyncio.to_thread where the documentation "
    "has workers of one's own (aiomqtt, MQTTium, zmqtt, zenmqtt); in the callback, as theirs has it, with "
    "gmqtt and fastapi-mqtt. Computing: an async handler that uses 1 ms of CPU, one by one. At rest is the "
    "longest wait of the second before. {machine}"
)


@dataclass(frozen=True, slots=True)
class Waits:
    """One run.

    Attributes:
        at_rest: the longest wait before the load, in milliseconds.
        beside: the longest beside it.
        seconds: until all was handled.
        lost: messages that were not.
    """

    at_rest: float
    beside: float
    seconds: float
    lost: int


def measure(sizes: Sizes) -> Section:
    """Measure the longest wait of a web request."""
    programs, missing = turns.everybody(sizes)
    comparisons, figures, failures = list[Comparison](), list[tuple[str, ...]](), list[str]()
    for work in _LOADS:
        runs, failed = turns.take(programs, sizes, partial(_run, work=work))
        longest = {name: [one.beside for one in of_one] for name, of_one in runs.items()}
        measure = f"longest wait, {_WORDS[work]}"
        comparisons += turns.compare(measure, longest, unit="ms", ours=rivals.ours().name)
        figures += [_figures(name, work, of_one) for name, of_one in runs.items()]
        failures += failed
    return Section(
        "Libraries: a web request beside handlers",
        _METHOD.format(machine=turns.machine(sizes)),
        tuple(comparisons),
        ("program", "load", "longest wait", "at rest", "all handled in", "lost", "target"),
        tuple(figures),
        tuple(missing),
        tuple(failures),
    )


def _run(program: Program, work: str) -> Waits:
    count, http_port = _LOADS[work], free_port()
    with Stage(program, work, count=count, concurrency=_CONCURRENCY[work], http_port=http_port) as stage:
        stage.start()
        stage.wait_until_subscribed()
        wait_for_port(http_port)
        with _pinging(http_port) as pinger:
            time.sleep(_REST_SECONDS)
            began_at = time.monotonic_ns()
            with stage.publishing(0, count):
                stage.wait_until_handled(count, patience=_PATIENCE_SECONDS)
            waits = _waits(pinger)
        before = [lasted for sent_at, lasted in waits if sent_at + lasted < began_at]
        during = [
            lasted
            for sent_at, lasted in waits
            if began_at <= sent_at + lasted and sent_at <= stage.account.ended_at
        ]
        seconds = (stage.account.ended_at - began_at) / 1e9
        return Waits(max(before) / 1e6, max(during) / 1e6, seconds, stage.account.tally(count).lost)


def _pinging(port: int) -> Child:
    command = [*rivals.pinger(), str(port)]
    return Child("the pinger", command, {"PYTHONPATH": str(ROOT)})


def _waits(pinger: Child) -> list[tuple[int, int]]:
    pinger.process.terminate()
    text = b""
    while chunk := pinger.read():
        text += chunk
    pinger.end()
    pairs = (line.split() for line in text.decode().splitlines())
    return [(int(sent_at), int(lasted)) for sent_at, lasted in pairs]


def _figures(name: str, work: str, runs: list[Waits]) -> tuple[str, ...]:
    longest = median(one.beside for one in runs)
    return (
        name,
        _WORDS[work],
        amount(longest, "ms"),
        amount(median(one.at_rest for one in runs), "ms"),
        amount(median(one.seconds for one in runs), "s"),
        f"{max(one.lost for one in runs):,}",
        turns.judged(longest, _TARGET_MILLISECONDS, "ms") if name == rivals.ours().name else "",
    )
