"""What is lost, handled twice or out of order when a program is stopped or killed, or the broker restarted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.children import Child
from benchmarks.libraries import rivals, turns
from benchmarks.libraries.account import Tally, worst
from benchmarks.libraries.programs.job import MIXED, WAITING
from benchmarks.libraries.rivals import Program
from benchmarks.libraries.stage import MOST_SECONDS, PATIENCE_SECONDS, Stage, kill, stop
from benchmarks.measure import MeasurementError, Section, Sizes, amount

_STOPPED, _KILLED = 5_000, 40_000
_CONCURRENCY = 100
_TIMES = 2
_RECEIVE_MAXIMUM = 500
_PER_SECOND = 2_500  # so that some come while a program is away, however fast it is
_PUBLISH_SECONDS = 60.0
_HEADER = ("program", "lost", "handled twice", "cut short", "begun out of order", "ended out of order")
_COLUMNS = (
    f"Lost were not handled to the end, nor any other for {PATIENCE_SECONDS:.0f} s, or within "
    f"{MOST_SECONDS:.0f} s; cut short are handlings that began and did not end, which no client can help when "
    "it is killed. Out of order counts a message by the first time that it is handled, behind a later one of "
    "the same device. All figures are the worst of all rounds. "
)
_STOPPED_METHOD = (
    f"{_STOPPED:,} messages of a durable session, {_PER_SECOND:,} a second, for an async handler that waits 10 "
    f"ms, {_CONCURRENCY} at once where a library has a way to say so. After a third and two thirds of them the "
    "program gets SIGTERM, disconnects as its documentation tells, and is started again. "
)
_KILLED_METHOD = (
    f"{_KILLED:,} messages of a durable session; of a thousand handlings one waits 50 ms, twenty 5 ms, the "
    f"others nothing; {_CONCURRENCY} at once where a library has a way to say so. After a third and two thirds "
    "of them the program is killed by SIGKILL and started again. zmqtt, and FastStream on it, stop at a "
    "backlog beyond the 1,000 messages of their default buffers. "
)
_RESTARTED_METHOD = (
    f"The same {_KILLED:,} messages, but here the broker is restarted once, when half of them are published; it "
    "has persistence true. What comes twice then was acknowledged while the broker went away, which closes its "
    "connections with acknowledgements unread: who reads ahead has more of them on their way. "
)
_SOCKET_METHOD = (
    "The plain socket (benchmarks/libraries/raw.py) does the same with nothing in between. One by one, it "
    "sends each PUBACK right behind its handling, or those of one recv together: what is repeated then is "
    f"beyond a client's reach. With {_CONCURRENCY} in hand, those of one device in order, it sends each PUBACK "
    "as soon as none before it is missing, for MQTT has them in order (4.6): what is done behind one that "
    f"lasts comes again. plantops asks for a Receive Maximum of {_RECEIVE_MAXIMUM} where the session is "
    "durable. "
)


@dataclass(frozen=True, slots=True)
class Survival:
    """One run.

    Attributes:
        tally: what became of the messages.
        seconds: until all was handled, or nothing came any more.
        leaving: the longest that the program took to end when it was asked to.
    """

    tally: Tally
    seconds: float
    leaving: float = 0.0


def stopped(sizes: Sizes) -> Section:
    """Stop each program twice, by SIGTERM."""
    programs, missing = turns.everybody(sizes)
    runs, failures = turns.take(programs, sizes, _run_stopped)
    figures = [
        (*_figures(name, of_one), amount(max(one.leaving for one in of_one), "s"), _target(name, of_one))
        for name, of_one in runs.items()
    ]
    method = _STOPPED_METHOD + _COLUMNS + turns.machine(sizes)
    header = (*_HEADER, "all handled in", "took to end", "target")
    return Section("Libraries: stopped twice", method, (), header, tuple(figures), tuple(missing), tuple(failures))


def killed(sizes: Sizes) -> Section:
    """Kill each program twice, by SIGKILL."""
    return _survive(sizes, "Libraries: killed twice", _KILLED_METHOD, _run_killed)


def restarted(sizes: Sizes) -> Section:
    """Restart the broker under each program."""
    return _survive(sizes, "Libraries: broker restarted", _RESTARTED_METHOD, _run_restarted)


def _survive(sizes: Sizes, title: str, method: str, run: Callable[[Program], Survival]) -> Section:
    sockets = [
        rivals.raw(5, how, receive_maximum=_RECEIVE_MAXIMUM) for how in ("each", "batch", str(_CONCURRENCY))
    ]
    programs, missing = turns.everybody(sizes, rivals.one_by_one(), *sockets, rivals.raw(4, "each"))
    runs, failures = turns.take(programs, sizes, run)
    return Section(
        title,
        method + _SOCKET_METHOD + _COLUMNS + turns.machine(sizes),
        (),
        (*_HEADER, "all handled in"),
        tuple(_figures(name, of_one) for name, of_one in runs.items()),
        tuple(missing),
        tuple(failures),
    )


def _run_stopped(program: Program) -> Survival:
    leaving = list[float]()
    with Stage(program, WAITING, count=_STOPPED, concurrency=_CONCURRENCY, is_durable=True) as stage:
        survival = _interrupt(stage, _STOPPED, lambda child: leaving.append(stop(child)), per_second=_PER_SECOND)
    return Survival(survival.tally, survival.seconds, max(leaving))


def _run_killed(program: Program) -> Survival:
    with Stage(program, MIXED, count=_KILLED, concurrency=_CONCURRENCY, is_durable=True) as stage:
        return _interrupt(stage, _KILLED, kill)


def _interrupt(stage: Stage, count: int, end: Callable[[Child], None], *, per_second: int = 0) -> Survival:
    child = stage.start()
    stage.wait_until_subscribed()
    began_at = time.monotonic_ns()
    with stage.publishing(0, count, per_second=per_second):
        for time_over in range(1, _TIMES + 1):
            stage.wait_until_handled(count * time_over // (_TIMES + 1))
            end(child)
            child = stage.start()
        stage.wait_until_handled(count)
    return Survival(stage.account.tally(count), (stage.account.ended_at - began_at) / 1e9)


def _run_restarted(program: Program) -> Survival:
    half = _KILLED // 2
    with Stage(program, MIXED, count=_KILLED, concurrency=_CONCURRENCY, is_durable=True) as stage:
        stage.start()
        stage.wait_until_subscribed()
        began_at = time.monotonic_ns()
        with stage.publishing(0, half) as is_published:
            if not is_published.wait(_PUBLISH_SECONDS):
                raise MeasurementError(f"Mosquitto did not take {half:,} messages")
        stage.broker.stop()
        stage.broker.start()
        with stage.publishing(half, half):
            stage.wait_until_handled(_KILLED)
        return Survival(stage.account.tally(_KILLED), (stage.account.ended_at - began_at) / 1e9)


def _figures(name: str, runs: Sequence[Survival]) -> tuple[str, ...]:
    tally = worst(one.tally for one in runs)
    figures = (tally.lost, tally.repeated, tally.cut_short, tally.begun_late, tally.ended_late)
    seconds = amount(median(one.seconds for one in runs), "s")
    return (name, *(f"{figure:,}" for figure in figures), seconds)


def _target(name: str, runs: Sequence[Survival]) -> str:
    if name != rivals.ours().name:
        return ""
    tally = worst(one.tally for one in runs)
    return f"0 lost, 0 twice: {turns.verdict(is_met=not tally.lost and not tally.repeated)}"
