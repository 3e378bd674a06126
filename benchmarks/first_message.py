"""How long it takes from the start of a listener to its first line."""

from statistics import median

from benchmarks import listeners
from benchmarks.children import Child
from benchmarks.fake_broker import FakeBroker
from benchmarks.listeners import Listener
from benchmarks.measure import Comparison, MeasurementError, Section, Sizes, amount
from tests.support.brokers import PASSWORD

_ROUNDS_MORE = 3  # each takes a moment only
_METHOD = (
    "From the start of the process to its first line, wall time, with a fake broker that answers at once and "
    "sends a message behind the SUBACK; {rounds} rounds. Programs in Python run with PYTHONUNBUFFERED=1."
)


def measure(sizes: Sizes) -> Section:
    """Measure plantops against every peer."""
    peers, missing = listeners.others()
    ours = listeners.plantops()
    programs = [ours, listeners.mosquitto_sub(), listeners.aiomqtt_loop(), *peers]
    rounds = sizes.rounds * _ROUNDS_MORE
    runs, failed = dict[str, list[float]](), list[str]()
    for program in programs * rounds:
        try:
            runs.setdefault(program.name, []).append(_run(program))
        except MeasurementError as error:
            failed.append(str(error))
    whole = {name: times for name, times in runs.items() if len(times) == rounds}
    return Section(
        "First message",
        _METHOD.format(rounds=rounds),
        tuple(
            Comparison("start to first line", name, tuple(zip(whole[ours.name], times, strict=True)), "ms")
            for name, times in whole.items()
            if ours.name in whole and name != ours.name
        ),
        ("program", "median", "longest"),
        tuple((name, amount(median(times), "ms"), amount(max(times), "ms")) for name, times in whole.items()),
        tuple(missing),
        tuple(sorted(set(failed))),
    )


def _run(listener: Listener) -> float:
    with FakeBroker(qos=0, count=1) as broker:
        command = listener.command(port=broker.port, qos=0, count=1)
        environment = {"MQTT_BACKEND_PASSWORD": PASSWORD, "PYTHONUNBUFFERED": "1"}
        with Child(listener.name, command, environment) as child:
            milliseconds = (child.read_lines(1) - child.started_at) * 1e3
            child.end(is_asked=not listener.is_counting)
            return milliseconds
