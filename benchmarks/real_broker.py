"""A real Mosquitto for the benchmarks, and a publisher that is faster than it."""

import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.children import Child
from benchmarks.link import TOPIC_FILTER, Link, packets
from benchmarks.measure import MeasurementError
from tests.support.brokers import PASSWORD, USERNAME, Mosquitto
from tests.support.scripted_broker import packet_of

_WINDOW = 1_000
_SECONDS_TO_SUBSCRIBE = 10.0
# Nothing is dropped. "subscribe" in the log tells when a listener is ready, whatever program it is. Nagle's
# algorithm would hold back single messages.
_CONFIGURATION = """
max_queued_messages 0
set_tcp_nodelay true
log_type error
log_type warning
log_type subscribe
"""


class RealBroker:
    """Mosquitto on a free loopback port, until it is left.

    Args:
        in_flight: how many messages may be on their way to a listener at QoS 1; Mosquitto's own default is 20.
        is_persistent: whether its queues are saved, once a second.
    """

    def __init__(self, *, in_flight: int = 1_000, is_persistent: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory()
        configuration = f"{_CONFIGURATION}max_inflight_messages {in_flight}\n"
        if is_persistent:
            configuration += f"persistence true\npersistence_location {self._folder.name}/\nautosave_interval 1\n"
        self._broker = Mosquitto(Path(self._folder.name), extra=configuration)
        self._log = Path(self._folder.name, "log")
        self.port = self._broker.port

    def __enter__(self) -> Self:
        self._broker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self._broker.stop()
        finally:
            self._folder.cleanup()

    @contextmanager
    def subscribed(self, name: str, command: Sequence[str]) -> Iterator[Child]:
        """Run a listener, from when the broker has seen its subscription.

        Raises:
            MeasurementError: it did not subscribe.
        """
        before = self._subscriptions()
        with Child(name, command, self._broker.environment) as child:
            deadline = child.started_at + _SECONDS_TO_SUBSCRIBE
            while self._subscriptions() == before and child.process.poll() is None:
                if time.monotonic() > deadline:
                    raise MeasurementError(f"{name} did not subscribe")
                time.sleep(0.005)
            if child.process.poll() is not None:
                child.read_lines(1)  # raises, with what it said
            yield child

    def _subscriptions(self) -> int:
        return self._log.read_text(errors="replace").count(TOPIC_FILTER)


def connect(port: int) -> Link:
    """Connect as a publisher, by MQTT 3.1.1; its PUBACKs are read in the background.

    Args:
        port: of a Mosquitto on the loopback interface.

    Raises:
        MeasurementError: it refuses.
    """
    connection = socket.create_connection(("127.0.0.1", port))
    link = Link(connection)
    texts = (b"benchmark", USERNAME.encode(), PASSWORD.encode())
    fields = b"".join(len(text).to_bytes(2, "big") + text for text in texts)
    link.send(packet_of(0x10, b"\0\4MQTT\4\xc2\0\0" + fields))  # user name, password, clean session, no pings
    if connection.recv(4) != b"\x20\2\0\0":
        raise MeasurementError("Mosquitto does not let the publisher in")
    threading.Thread(target=lambda: list(link.received()), daemon=True).start()
    return link


@contextmanager
def publishing(broker: RealBroker, *, qos: int, count: int) -> Iterator[float]:
    """Publish in the background, as fast as the broker takes it; gives the moment of the first packet.

    Args:
        broker: where to.
        qos: 0 or 1.
        count: messages.
    """
    source, link = packets(4, qos), connect(broker.port)

    def pour() -> None:
        try:
            link.pour(source, count, window=_WINDOW)
        except OSError:
            pass  # the link was closed because the listener has failed

    thread = threading.Thread(target=pour, daemon=True)
    started_at = time.monotonic()
    thread.start()
    try:
        yield started_at
    finally:
        link.close()
        thread.join()


def publish(broker: RealBroker, count: int) -> float:
    """Publish at QoS 1 and wait for every PUBACK; return the seconds that it took.

    Raises:
        OSError: the broker ended the connection first.
    """
    source, link = packets(4, 1), connect(broker.port)
    started_at = time.monotonic()
    try:
        link.pour(source, count, window=_WINDOW)
        link.wait_until_acknowledged(count)
        return time.monotonic() - started_at
    finally:
        link.close()
