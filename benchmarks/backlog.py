"""How fast a durable session hears what was published while it was away."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks import listeners
from benchmarks.children import Child
from benchmarks.listeners import Listener
from benchmarks.measure import Comparison, MeasurementError, Section, Sizes, amount
from benchmarks.real_broker import RealBroker, publish
from tests.support.brokers import PASSWORD

_ROUNDS = 3
_TARGET = 0.8
_SECONDS_TO_LOOK = "2"
_ENVIRONMENT = {"MQTT_BACKEND_PASSWORD": PASSWORD}
_IN_FLIGHT = (1_000, 20)  # a broker set up for it, and Mosquitto's default
_METHOD = (
    "{count:,} messages at QoS 1 are published, each PUBACK waited for, while a session that has subscribed is "
    "away; then its listener starts. Time runs from the start of the process to the last line; {rounds} rounds. "
    "A listener that starts once more afterwards shows how many were left unacknowledged. plantops acknowledges "
    "after its write, mosquitto_sub before. Mosquitto has max_queued_messages 0, persistence true and "
    "autosave_interval 1; autosave_on_changes would have it write its whole store for each message of the backlog."
)


@dataclass(frozen=True, slots=True)
class Drain:
    """One backlog.

    Attributes:
        seconds: from the start of the listener to its last line.
        cpu: its CPU seconds.
        left: messages that came again to a second start.
    """

    seconds: float
    cpu: float
    left: int


def measure(sizes: Sizes) -> Section:
    """Measure plantops against mosquitto_sub."""
    comparisons, figures, failures = list[Comparison](), list[tuple[str, ...]](), list[str]()
    for in_flight in _IN_FLIGHT:
        drains = {name: list[Drain]() for name in _programs()}
        try:
            for _ in range(min(_ROUNDS, sizes.rounds)):
                for name in drains:
                    drains[name].append(_drain(name, sizes.backlog, in_flight))
        except MeasurementError as error:
            failures.append(f"{in_flight:,} in flight: {error}")
        else:
            pairs = zip(drains["ours"], drains["theirs"], strict=True)
            comparisons.append(
                Comparison(
                    f"drain of a backlog, {in_flight:,} in flight",
                    "mosquitto_sub -q 1 -c",
                    tuple((ours.seconds, theirs.seconds) for ours, theirs in pairs),
                    target=_TARGET,
                )
            )
        figures += _figures(drains, sizes.backlog, in_flight)
    return Section(
        "Backlog of a durable session",
        _METHOD.format(count=sizes.backlog, rounds=min(_ROUNDS, sizes.rounds)),
        tuple(comparisons),
        ("program", "in flight", "messages/s", "CPU of the whole run", "left behind"),
        tuple(figures),
        failures=tuple(failures),
    )


def _programs(*more: str) -> dict[str, Listener]:
    return {
        "theirs": listeners.mosquitto_sub("-c", "-i", "benchmark-durable", *more),
        "ours": listeners.plantops("--durable", "benchmark", *more),
    }


def _drain(name: str, count: int, in_flight: int) -> Drain:
    listener, looking = _programs()[name], _programs("-W", _SECONDS_TO_LOOK)[name]
    with RealBroker(in_flight=in_flight, is_persistent=True) as broker:
        command = listener.command(port=broker.port, qos=1, count=count)
        with broker.subscribed(listener.name, command) as child:
            child.end(is_asked=True)
        publish(broker, count)
        with Child(listener.name, command, _ENVIRONMENT) as child:
            seconds = child.read_lines(count) - child.started_at
            cpu = child.end()
        with Child(listener.name, looking.command(port=broker.port, qos=1, count=count), _ENVIRONMENT) as child:
            while child.read():
                pass
            return Drain(seconds, cpu, child.line_count)


def _figures(drains: dict[str, list[Drain]], count: int, in_flight: int) -> Iterator[tuple[str, ...]]:
    for name, listener in _programs().items():
        if of_one := drains[name]:
            yield (
                listener.name,
                f"{in_flight:,}",
                amount(median(count / drain.seconds for drain in of_one)),
                amount(median(drain.cpu for drain in of_one), "s"),
                f"{max(drain.left for drain in of_one):,}",
            )
