"""A broker, a publisher, and a program whose journals are read while it runs, dies and comes again."""

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.children import Child
from benchmarks.libraries.account import DEVICES, Account
from benchmarks.libraries.journal import Follower, Record
from benchmarks.libraries.programs.job import HEARTBEAT, HOST, QUICK, TELEMETRY, Job
from benchmarks.libraries.rivals import ROOT, Program
from benchmarks.link import Link, Packets, payload, topic_of
from benchmarks.measure import MeasurementError
from benchmarks.real_broker import connect
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.scripted_broker import publish

FIRST = 1_000_000
"""The number of the first message: all have as many digits."""

PATIENCE_SECONDS = 12.0
"""How long nothing may come before it counts as lost; some libraries wait for six seconds to connect again."""

MOST_SECONDS = 60.0
"""How long a run may last however little it goes on."""

_HEARTBEAT_EVERY = 10
_WINDOW = 1_000
_TICKS_PER_SECOND = 100
_START_SECONDS = 20.0
_LOOK_SECONDS = 0.02
# "subscribe" in the log tells when a program is ready, whatever it is
_CONFIGURATION = """
max_queued_messages 0
log_type error
log_type warning
log_type subscribe
"""


class Stage:
    """All that one run of a program needs, until it is left.

    Args:
        program: which.
        work: what its handlers do.
        count: messages that will be published.
        concurrency: messages to be in hand at once, where a library has a way to say so.
        is_durable: whether the broker keeps the session, and what it holds across a restart.
        http_port: where the program is to serve HTTP beside, or 0.
    """

    def __init__(
        self,
        program: Program,
        work: str,
        *,
        count: int,
        concurrency: int = 1,
        is_durable: bool = False,
        http_port: int = 0,
    ) -> None:
        self._program = program
        self._folder = tempfile.TemporaryDirectory()
        persistence = f"persistence true\npersistence_location {self._folder.name}/\n" if is_durable else ""
        self.broker = Mosquitto(Path(self._folder.name), extra=_CONFIGURATION + persistence)
        self._filters = (TELEMETRY, HEARTBEAT) if work == QUICK else (TELEMETRY,)
        self._job = Job(
            self.broker.port,
            USERNAME,
            PASSWORD,
            work=work,
            concurrency=program.concurrency or concurrency,
            journal="",
            count=count,
            is_durable=is_durable,
            http_port=http_port,
        )
        self._children = list[Child]()
        self._followers = list[Follower]()
        self.records = list[Record]()
        self.account = Account()

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            for child in self._children:
                child.__exit__(None, None, None)
            self.broker.stop()
        finally:
            self._folder.cleanup()

    def start(self) -> Child:
        """Start the program, for the first time or once more."""
        journal = Path(self._folder.name, f"journal-{len(self._followers)}")
        job = replace(self._job, journal=str(journal))
        environment = {**job.environment(), "PYTHONPATH": str(ROOT)}
        self._followers.append(Follower(journal))
        self._children.append(Child(self._program.name, self._program.command, environment))
        return self._children[-1]

    def wait_until_subscribed(self) -> None:
        """Wait until the broker has seen all subscriptions.

        Raises:
            MeasurementError: it has not.
        """
        log, child = Path(self._folder.name, "log"), self._children[-1]
        deadline = time.monotonic() + _START_SECONDS
        while not all(topic_filter in log.read_text(errors="replace") for topic_filter in self._filters):
            if time.monotonic() > deadline or child.process.poll() is not None:
                raise MeasurementError(f"{self._program.name} did not subscribe{child.last_words()}")
            time.sleep(_LOOK_SECONDS)

    @contextmanager
    def publishing(
        self, first: int, count: int, *, in_a_row: int = 1, per_second: int = 0
    ) -> Iterator[threading.Event]:
        """Publish in the background; gives an event: all are acknowledged.

        Args:
            first: place of the first message, counted from 0.
            count: messages.
            in_a_row: how many each device sends before the next one has its turn.
            per_second: messages; 0: as fast as the broker takes them.
        """
        messages = source(first, count, in_a_row=in_a_row, has_heartbeats=HEARTBEAT in self._filters)
        link, is_done = connect(self.broker.port), threading.Event()

        def pour() -> None:
            try:
                if per_second:
                    _trickle(link, messages, count, per_second)
                else:
                    link.pour(messages, count, window=_WINDOW)
                link.wait_until_acknowledged(count)
                is_done.set()
            except OSError:
                pass  # closed, for the program has failed

        thread = threading.Thread(target=pour, daemon=True)
        thread.start()
        try:
            yield is_done
        finally:
            link.close()
            thread.join()

    def wait_until_handled(self, count: int, *, patience: float = PATIENCE_SECONDS) -> bool:
        """Wait until so many messages are handled; False when no other has been for a while.

        Args:
            count: messages, each counted once.
            patience: seconds.
        """
        return self._wait(lambda: self.account.handled, count, patience)

    def wait_until_counted(self, count: int, *, patience: float = PATIENCE_SECONDS) -> bool:
        """The same for a program that notes from time to time how many it has handled.

        Args:
            count: messages.
            patience: seconds.
        """
        return self._wait(lambda: self.records[-1].number if self.records else 0, count, patience)

    def _wait(self, progress: Callable[[], int], enough: int, patience: float) -> bool:
        so_far, last_news_at = progress(), time.monotonic()
        deadline = last_news_at + MOST_SECONDS
        while so_far < enough and time.monotonic() < deadline:
            self.look()
            if progress() > so_far:  # repeats are none: they may go on for ever
                so_far, last_news_at = progress(), time.monotonic()
            elif time.monotonic() - last_news_at > patience:
                return False
            time.sleep(_LOOK_SECONDS)
        return so_far >= enough

    def look(self) -> None:
        """Read what the journals have that is new."""
        news = [record for follower in self._followers for record in follower.records()]
        self.account.add(news)
        self.records += news


def _trickle(link: Link, messages: Packets, count: int, per_second: int) -> None:
    started_at, at_once = time.monotonic(), per_second // _TICKS_PER_SECOND
    for sent in range(0, count, at_once):
        time.sleep(max(0.0, started_at + sent / per_second - time.monotonic()))
        link.send(messages.some(sent, min(at_once, count - sent)))


@cache
def source(first: int, count: int, *, in_a_row: int, has_heartbeats: bool) -> Packets:
    """Prebuild messages.

    Args:
        first: place of the first message, counted from 0.
        count: messages, up to as many as there are packet identifiers.
        in_a_row: how many each device sends before the next one has its turn.
        has_heartbeats: whether each tenth round of the devices is one of heartbeats.
    """

    def topic(number: int) -> bytes:
        is_heartbeat = has_heartbeats and number // DEVICES % _HEARTBEAT_EVERY == _HEARTBEAT_EVERY - 1
        return topic_of(number).replace(b"telemetry", b"heartbeat") if is_heartbeat else topic_of(number)

    numbers = [number_at(place, in_a_row) for place in range(first, first + count)]
    built = [
        publish(topic(number), payload(number), qos=1, mid=mid, version=4) for mid, number in enumerate(numbers, 1)
    ]
    return Packets(memoryview(b"".join(built)), len(built[0]), 1)


def number_at(place: int, in_a_row: int) -> int:
    """The number of a message: its remainder is the device, and those of a device count up.

    Args:
        place: in the stream, counted from 0.
        in_a_row: how many each device sends before the next one has its turn.
    """
    turns, within = divmod(place, DEVICES * in_a_row)
    device, of_turn = divmod(within, in_a_row)
    return FIRST + (turns * in_a_row + of_turn) * DEVICES + device


def kill(child: Child) -> None:
    """Kill a program, and wait until it is gone."""
    child.process.kill()
    child.process.wait()


def stop(child: Child) -> float:
    """Ask a program to end, kill it if it does not, and return the seconds that it took."""
    asked_at = time.monotonic()
    try:
        child.end(is_asked=True)
    except MeasurementError:
        kill(child)
    return time.monotonic() - asked_at


def wait_for_port(port: int) -> None:
    """Wait until a server accepts connections on the loopback interface.

    Raises:
        MeasurementError: it does not.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise MeasurementError(f"nobody serves port {port}")
