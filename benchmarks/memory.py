"""How much memory a listener takes: when nobody reads its lines, and over many messages."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import listeners
from benchmarks.children import Child
from benchmarks.fake_broker import ENDLESS, FakeBroker
from benchmarks.listeners import Listener
from benchmarks.measure import MeasurementError, Section, Sizes, amount
from tests.support.brokers import PASSWORD

_MIB = 1 << 20
_STALL_TARGET, _PEAK_TARGET = 24, 80  # MiB
_TOO_MUCH = 2_048 * _MIB  # the machine is somebody's
_FEW = 1_000  # lines before the reader stalls, and after
_SAMPLE_SECONDS = 0.1
_METHOD = (
    "Resident memory, sampled ten times a second, of listeners on the endless flood of a fake broker. Stalled: "
    f"after {_FEW:,} lines nobody reads the pipe for {{stall}} s; growth is the highest sample less the one when "
    "it began, and the listener has gone on when as many more lines follow. Peak: the highest sample over "
    f"{{count:,}} messages, all read. Above {_TOO_MUCH // _MIB:,} MiB a run is stopped. The fake "
    "broker does not mind a missing ping."
)


def measure(sizes: Sizes) -> Section:
    """Measure plantops beside mosquitto_sub."""
    programs = (listeners.plantops(), listeners.mosquitto_sub())
    figures, failures = list[tuple[str, ...]](), list[str]()
    jobs = [(program, qos) for program in programs for qos in (0, 1)]
    figures += _together([_stalling(program, qos, sizes.stall) for program, qos in jobs], failures)
    for program in programs:
        figures += _one_by_one(_peaking(program, sizes.memory), failures)
    return Section(
        "Memory",
        _METHOD.format(stall=sizes.stall, count=sizes.memory),
        header=("program", "measure", "memory", "target", "remark"),
        figures=tuple(figures),
        failures=tuple(failures),
    )


_Job = Callable[[], tuple[str, ...]]


def _together(jobs: list[_Job], failures: list[str]) -> list[tuple[str, ...]]:
    """Run the stalled listeners side by side: they wait, and only their memory is looked at."""
    figures: dict[int, tuple[str, ...]] = {}

    def run(number: int) -> None:
        for row in _one_by_one(jobs[number], failures):
            figures[number] = row

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [figures[number] for number in sorted(figures)]


def _one_by_one(job: _Job, failures: list[str]) -> Iterator[tuple[str, ...]]:
    try:
        yield job()
    except MeasurementError as error:
        failures.append(str(error))


def _stalling(listener: Listener, qos: int, seconds: int) -> _Job:
    def run() -> tuple[str, ...]:
        with FakeBroker(qos=qos, count=ENDLESS) as broker:
            command = listener.command(port=broker.port, qos=qos, count=ENDLESS)
            with Child(listener.name, command, {"MQTT_BACKEND_PASSWORD": PASSWORD}) as child:
                child.read_lines(_FEW)
                began_at, peak, lasted = resident(child.process.pid), 0, 0.0
                started_at = time.monotonic()
                while lasted < seconds and peak < _TOO_MUCH:
                    time.sleep(_SAMPLE_SECONDS)
                    peak = max(peak, resident(child.process.pid))
                    lasted = time.monotonic() - started_at
                remark = f"stopped after {lasted:.0f} s" if peak >= _TOO_MUCH else _going_on(child)
        growth = (peak - began_at) / _MIB
        measure = f"growth, reader stalled, QoS {qos}"
        return (listener.name, measure, amount(growth, "MiB"), _target(listener, growth, _STALL_TARGET), remark)

    return run


def _going_on(child: Child) -> str:
    try:
        child.read_lines(child.line_count + _FEW)
    except MeasurementError as error:
        return f"did not go on: {error}"
    return "went on"


def _peaking(listener: Listener, count: int) -> _Job:
    def run() -> tuple[str, ...]:
        with FakeBroker(qos=0, count=count) as broker:
            command = listener.command(port=broker.port, qos=0, count=count)
            with (
                Child(listener.name, command, {"MQTT_BACKEND_PASSWORD": PASSWORD}) as child,
                _watched(child) as samples,
            ):
                try:
                    child.read_lines(count)
                    remark = ""
                except MeasurementError:
                    if max(samples) < _TOO_MUCH:
                        raise
                    remark = f"stopped after {child.line_count:,} messages"
        peak = max(samples) / _MIB
        measure = f"peak over {count:,} messages"
        return (listener.name, measure, amount(peak, "MiB"), _target(listener, peak, _PEAK_TARGET), remark)

    return run


@contextmanager
def _watched(child: Child) -> Iterator[list[int]]:
    """Sample the memory of a child in the background; it is killed when it takes too much."""
    samples, is_over = [resident(child.process.pid)], threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            samples.append(resident(child.process.pid))
            if samples[-1] >= _TOO_MUCH:
                child.process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        is_over.set()
        watcher.join()


def resident(pid: int) -> int:
    """Bytes of memory that a process has now; 0 when it is gone."""
    status = Path(f"/proc/{pid}/status")
    try:
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    except OSError:  # no Linux, or no process
        found = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.split()
    return int(found[0]) * 1024 if found else 0


def _target(listener: Listener, taken: float, target: int) -> str:
    if listener != listeners.plantops():
        return ""
    return f"at most {target} MiB, {'met' if taken <= target else 'missed'}"
