"""What a message costs a listener in a flood: from a fake broker, and through a real Mosquitto."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks import listeners
from benchmarks.children import Child
from benchmarks.fake_broker import WINDOW, FakeBroker
from benchmarks.listeners import Listener
from benchmarks.measure import Comparison, MeasurementError, Section, Sizes, amount
from benchmarks.real_broker import RealBroker, publishing
from tests.support.brokers import PASSWORD

MEASURE = "CPU per message, QoS {qos}"
_FEW = 100  # messages of a run that shows what start and end cost
_TARGETS = {
    (0, "mosquitto_sub -F %j"): 0.28,
    (1, "mosquitto_sub -F %j"): 0.35,
    (0, "aiomqtt loop"): 0.06,
}
_METHOD = (
    "CPU is user and system time of the whole process. Per message it is that of a long run less that of one of "
    f"{_FEW} messages, by the difference in messages, so that starting is taken out; a fast program gets more "
    "messages, so that it runs for a second or longer. Messages per second count "
    "from the first byte sent to the last line read, with listener, broker and reader sharing the cores. Standard "
    "output is a pipe that is read, its lines counted. Programs take turns; a ratio is of two runs of one round, "
    "the median over {rounds} rounds. Messages are 108 "
    "bytes of JSON from 100 devices. MQTT.js prints what it got, unparsed."
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a listener.

    Attributes:
        count: messages.
        cpu: CPU seconds of the whole process.
        seconds: from the first byte sent to the last line read.
    """

    count: int
    cpu: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """A short run and a long one.

    Attributes:
        few: the short one.
        many: the long one.
    """

    few: Run
    many: Run

    @property
    def microseconds(self) -> float:
        """CPU time per message."""
        return (self.many.cpu - self.few.cpu) / (self.many.count - self.few.count) * 1e6


_Runner = Callable[[Listener, int, int], Run]


def from_fake_broker(sizes: Sizes) -> Section:
    """Measure every listener on a flood from a fake broker."""
    peers, missing = listeners.others()
    programs = [
        listeners.plantops(),
        listeners.mosquitto_sub(),
        listeners.aiomqtt_loop(),
        *peers,
        listeners.floor(),
    ]
    method = _METHOD.format(rounds=sizes.rounds) + (
        f" The fake broker writes prebuilt packets; at QoS 1 at most {WINDOW:,} wait for their PUBACK. "
        f"{listeners.floor().name!r} hands the packets on as they are: the limit for any listener."
    )
    return _section("Flood from a fake broker", method, programs, _run_on_fake_broker, sizes, missing)


def through_mosquitto(sizes: Sizes) -> Section:
    """Measure plantops and mosquitto_sub on what a real Mosquitto can carry."""
    programs = [listeners.plantops(), listeners.mosquitto_sub()]
    method = (
        "The same through a real Mosquitto, which gets the messages as fast as it takes them. Publisher, broker, "
        "listener and reader share the cores; where these are threads of one core, each slows the others down. "
        "Rates that are alike are the broker's limit."
    )
    with RealBroker() as broker:

        def run(listener: Listener, qos: int, count: int) -> Run:
            return _run_on_mosquitto(broker, listener, qos, count)

        return _section("Flood through Mosquitto", method, programs, run, sizes, [])


def _section(
    title: str, method: str, programs: list[Listener], run: _Runner, sizes: Sizes, missing: list[str]
) -> Section:
    comparisons, figures, failures = list[Comparison](), list[tuple[str, ...]](), list[str]()
    for qos in (0, 1):
        costs, failed = _take_turns([one for one in programs if qos in one.levels], run, qos, sizes)
        comparisons += _comparisons(costs, qos)
        figures += [_figures(name, qos, of_one) for name, of_one in costs.items()]
        failures += failed
    return Section(
        title,
        method,
        tuple(comparisons),
        (
            "program",
            "QoS",
            "messages",
            "CPU per message",
            "messages/s",
            "CPU of the run",
            "of which start and end",
        ),
        tuple(figures),
        tuple(missing),
        tuple(failures),
    )


def _take_turns(
    programs: list[Listener], run: _Runner, qos: int, sizes: Sizes
) -> tuple[dict[str, list[Cost]], list[str]]:
    costs: dict[str, list[Cost]] = {listener.name: [] for listener in programs}
    failed: dict[str, str] = {}
    for _ in range(sizes.rounds):
        for listener in programs:
            if listener.name not in failed:
                try:
                    many = round(sizes.flood * listener.share)
                    costs[listener.name].append(Cost(run(listener, qos, _FEW), run(listener, qos, many)))
                except MeasurementError as error:
                    failed[listener.name] = f"QoS {qos}: {error}"
    return {name: of_one for name, of_one in costs.items() if name not in failed}, list(failed.values())


def _comparisons(costs: dict[str, list[Cost]], qos: int) -> Iterator[Comparison]:
    ours = costs.get(listeners.plantops().name)
    for name, theirs in costs.items():
        if ours and name not in (listeners.plantops().name, listeners.floor().name):
            pairs = zip(ours, theirs, strict=True)
            yield Comparison(
                MEASURE.format(qos=qos),
                name,
                tuple((mine.microseconds, other.microseconds) for mine, other in pairs),
                "µs",
                _TARGETS.get((qos, name)),
            )


def _figures(name: str, qos: int, costs: list[Cost]) -> tuple[str, ...]:
    return (
        name,
        str(qos),
        f"{costs[0].many.count:,}",
        amount(median(cost.microseconds for cost in costs), "µs"),
        amount(median(cost.many.count / cost.many.seconds for cost in costs)),
        amount(median(cost.many.cpu for cost in costs), "s"),
        amount(median(cost.few.cpu for cost in costs), "s"),
    )


def _run_on_fake_broker(listener: Listener, qos: int, count: int) -> Run:
    with FakeBroker(qos=qos, count=count) as broker:
        command = listener.command(port=broker.port, qos=qos, count=count)
        with Child(listener.name, command, {"MQTT_BACKEND_PASSWORD": PASSWORD}) as child:
            last_line_at = child.read_lines(count)
            cpu = child.end(is_asked=not listener.is_counting)
            return Run(count, cpu, last_line_at - broker.poured_at)


def _run_on_mosquitto(broker: RealBroker, listener: Listener, qos: int, count: int) -> Run:
    command = listener.command(port=broker.port, qos=qos, count=count)
    with (
        broker.subscribed(listener.name, command) as child,
        publishing(broker, qos=qos, count=count) as started_at,
    ):
        last_line_at = child.read_lines(count)
        return Run(count, child.end(is_asked=not listener.is_counting), last_line_at - started_at)
