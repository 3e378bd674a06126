"""A publisher that gives no message up: each is sent again, over every restart of the broker, until its PUBACK.

Its own MQTT, over a bare socket: of each message it must know whether, when and on which connection it was
acknowledged, and paho forgets that when a connection ends.
"""

import select
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

WINDOW = 20  # as many as Mosquitto takes from one client by default (max_inflight_messages)
GIVE_UP_SECONDS = 60.0
SILENCE_SECONDS = 15.0
RETRY_SECONDS = 0.02
_PACKET_IDS = 65_535

_CONNACK, _PUBLISH_QOS_1, _PUBACK, _DISCONNECT = 0x20, 0x32, 0x40, 0xE0
_NO_MATCHING_SUBSCRIBERS = 0x10


class RefusedError(AssertionError):
    """The broker said a reason code of 0x80 or above: to send it again would not help."""


@dataclass
class Account:
    """What became of the messages, by their numbers.

    Attributes:
        sent: how often each was sent: more than once, if a connection ended before its PUBACK.
        acknowledged: the moment of each PUBACK, monotonic, in seconds.
        unheard: acknowledged with 0x10: the broker had no session to keep it for (MQTT 5, 3.4.2.1).
        last_of_connection: for each connection that was lost, the number acknowledged last on it, if any.
    """

    sent: Counter[int] = field(default_factory=Counter)
    acknowledged: dict[int, float] = field(default_factory=dict)
    unheard: set[int] = field(default_factory=set)
    last_of_connection: list[int | None] = field(default_factory=list)


class ReliablePublisher:
    """Publishes ``{"n":0}``, ``{"n":1}``, ... at QoS 1, with a window of messages in flight.

    Args:
        port: the broker's, on 127.0.0.1.
        login: user name and password.
        count: how many messages; None: until ``finish``.
        first: the number of the first one.
        topics: their topic names, to each of which they go in turn.
        rate: at most so many a second; 0: as fast as the broker takes them.
    """

    def __init__(
        self,
        port: int,
        *,
        login: tuple[str, str],
        count: int | None = None,
        first: int = 0,
        topics: Sequence[str] = ("devices/a/telemetry",),
        rate: float = 0,
    ) -> None:
        self.account = Account()
        self.topics = topics
        self.rate = rate
        self._port = port
        self._connect_packet = _connect(*login)
        self._fresh = iter(range(first, sys.maxsize if count is None else first + count))
        self._sent_count = 0
        self._to_send_again: deque[int] = deque()
        self._began = 0.0
        self._is_exhausted = False
        self._is_given_up = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run_in_thread, name="reliable-publisher", daemon=True)

    def run(self) -> Account:
        """Publish all, and return what became of it.

        Raises:
            RefusedError: the broker refused the login or a message.
        """
        self._began = time.monotonic()
        while not self._is_given_up:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=SILENCE_SECONDS) as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    _Connection(sock, self).run(self._connect_packet)
                    return self.account
            except OSError:
                time.sleep(RETRY_SECONDS)
        return self.account

    @contextmanager
    def running(self) -> Iterator["ReliablePublisher"]:
        """Publish in a thread while the context lasts; what is not acknowledged at its end is given up."""
        self._thread.start()
        try:
            yield self
        finally:
            self._is_given_up = True
            self._thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until the running thread has so many acknowledged.

        Args:
            count: at least so many.
        """
        self._wait_until(lambda: len(self.account.acknowledged) >= count, f"{count:,} acknowledged")

    def finish(self) -> Account:
        """Let the running thread send nothing new, and wait until all it sent is acknowledged."""
        self._is_exhausted = True
        self._wait_until(lambda: not self._thread.is_alive(), "the end")
        return self.account

    def next_number(self) -> int | None:
        """Take the number to send now, those to be sent again first; None: there is none now."""
        if self._to_send_again:
            return self._to_send_again.popleft()
        if self._is_exhausted or (self.rate and self._sent_count > (time.monotonic() - self._began) * self.rate):
            return None
        number = next(self._fresh, None)
        self._is_exhausted = number is None
        self._sent_count += number is not None
        return number

    def give_back(self, numbers: list[int]) -> None:
        """Send these again, before anything new; they were in flight when a connection ended."""
        self._to_send_again.extendleft(reversed(numbers))

    @property
    def is_more_to_send(self) -> bool:
        """False when nothing will come from ``next_number`` any more."""
        return not self._is_given_up and (bool(self._to_send_again) or not self._is_exhausted)

    @property
    def is_given_up(self) -> bool:
        """True when not even what is in flight matters any more."""
        return self._is_given_up

    def _wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not is_so():
            if self._failure:
                raise self._failure
            assert time.monotonic() < deadline, f"not {what}: {len(self.account.acknowledged):,} acknowledged"
            time.sleep(0.002)
        if self._failure:
            raise self._failure

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as exc:
            # raised again in the thread that waits
            self._failure = exc


class _Connection:
    """One connection of the publisher; what it could not bring home goes back, in order."""

    def __init__(self, sock: socket.socket, publisher: ReliablePublisher) -> None:
        self._sock = sock
        self._publisher = publisher
        self._in_flight: dict[int, int] = {}
        self._received = b""
        self._heard_at = time.monotonic()
        self._last: int | None = None

    def run(self, connect_packet: bytes) -> None:
        """Publish until all is acknowledged; OSError when the connection ends before."""
        try:
            self._sock.sendall(connect_packet)
            self._expect_connack()
            while self._publisher.is_more_to_send or (self._in_flight and not self._publisher.is_given_up):
                self._fill_the_window()
                self._take_acknowledgements()
        except OSError:
            self._publisher.account.last_of_connection.append(self._last)
            raise
        finally:
            self._publisher.give_back(list(self._in_flight.values()))

    def _fill_the_window(self) -> None:
        packets = b""
        if not self._in_flight:
            self._heard_at = time.monotonic()  # nothing was owed until now
        while len(self._in_flight) < WINDOW and (number := self._publisher.next_number()) is not None:
            # numbers in flight lie closer together than there are packet ids
            packet_id = number % _PACKET_IDS + 1
            self._in_flight[packet_id] = number
            topic = self._publisher.topics[number % len(self._publisher.topics)]
            packets += _publish(topic, packet_id, b'{"n":%d}' % number)
            self._publisher.account.sent[number] += 1
        self._sock.sendall(packets)

    def _take_acknowledgements(self) -> None:
        # with a rate, the next message may be due before the next PUBACK comes
        if select.select([self._sock], [], [], 0.005 if self._publisher.rate else 0.1)[0]:
            self._receive()
        if self._in_flight and time.monotonic() - self._heard_at > SILENCE_SECONDS:
            raise ConnectionError("the broker owes a PUBACK, and is silent")
        while packet := self._next_packet():
            self._take(*packet)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == _DISCONNECT:
            raise ConnectionError("the broker said DISCONNECT")
        assert kind == _PUBACK, f"unexpected packet 0x{kind:02x}"
        (packet_id,) = struct.unpack_from("!H", body)
        # a short PUBACK means success (MQTT 5, 3.4.2.1)
        reason = body[2] if len(body) > 2 else 0
        number = self._last = self._in_flight.pop(packet_id)
        if reason >= 0x80:
            raise RefusedError(f"PUBACK 0x{reason:02x} for message {number}")
        if reason == _NO_MATCHING_SUBSCRIBERS:
            self._publisher.account.unheard.add(number)
        self._publisher.account.acknowledged[number] = time.monotonic()

    def _expect_connack(self) -> None:
        while not (packet := self._next_packet()):
            self._receive()
        kind, body = packet
        assert kind == _CONNACK, f"unexpected packet 0x{kind:02x}"
        if body[1]:
            raise RefusedError(f"CONNACK 0x{body[1]:02x}")

    def _receive(self) -> None:
        received = self._sock.recv(1 << 16)
        if not received:
            raise ConnectionError("the broker hung up")
        self._received += received
        self._heard_at = time.monotonic()

    def _next_packet(self) -> tuple[int, bytes] | None:
        # CONNACK and PUBACK are shorter than 128 bytes: one byte of remaining length (MQTT 5, 1.5.5)
        data = self._received
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        assert data[1] < 0x80, "a long packet"
        end = 2 + data[1]
        self._received = data[end:]
        return data[0], data[2:end]


def _connect(username: str, password: str) -> bytes:
    # clean start, user name, password; keep-alive off, so that silence needs no pings
    header = b"\0\4MQTT\5" + bytes([0b1100_0010]) + b"\0\0" + b"\0"
    return _packet(0x10, header + _text("") + _text(username) + _text(password))


def _publish(topic: str, packet_id: int, payload: bytes) -> bytes:
    return _packet(_PUBLISH_QOS_1, _text(topic) + struct.pack("!H", packet_id) + b"\0" + payload)


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 0x4000, "two bytes of remaining length are enough here"
    length = len(body)
    coded = bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([kind]) + coded + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data
