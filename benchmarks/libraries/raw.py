"""The least that a client can do, a plain socket, to compare repeats with: read, handle, acknowledge.

Run as: python -m benchmarks.libraries.raw VERSION RECEIVE_MAXIMUM each|batch|IN_HAND, the job in the environment.
VERSION is 4 for MQTT 3.1.1, or 5. With ``each``, every PUBACK is sent right behind its handling; with ``batch``,
those of all that one recv brought are sent together; with a number, so many messages are in hand at once, those of
one device in order, and each PUBACK is sent as soon as none before it is missing. What is left in the socket when
the program is killed, the broker sends again.
"""

import contextlib
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.libraries.account import DEVICES
from benchmarks.libraries.hands import Hands, Message
from benchmarks.libraries.journal import Kind
from benchmarks.libraries.programs.job import CLIENT_ID, HOST, SESSION_SECONDS, TELEMETRY, Job, Reading, Work

_BYTES_AT_ONCE = 65_536
_CONNACK, _PUBLISH, _QOS_1, _DISCONNECT = 0x20, 0x30, 0x02, b"\xe0\0"
_WAIT_SECONDS = 0.1


class Publish(NamedTuple):
    """A message of QoS 1.

    Attributes:
        mid: its packet identifier, as it is to be acknowledged.
        payload: its payload.
    """

    mid: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Manner:
    """How to talk to the broker.

    Attributes:
        version: 4 for MQTT 3.1.1, or 5.
        receive_maximum: messages that may be on their way, for MQTT 5; 0 to say nothing.
        is_batching: whether PUBACKs are kept until all that one recv brought is handled.
        in_hand: messages at once.
    """

    version: int
    receive_maximum: int
    is_batching: bool = False
    in_hand: int = 1


def main(manner: Manner) -> None:
    """Handle messages until SIGTERM, and connect again when the connection is lost."""
    job, stop = Job.from_environment(), _Stop()
    work = Work(job)
    while not stop.is_asked:
        try:
            with socket.create_connection((HOST, job.port)) as connection:
                _log_in(connection, job, manner)
                handle_all = _handle_all if manner.in_hand == 1 else _handle_many
                handle_all(connection, manner, work, stop)
                connection.sendall(_DISCONNECT)
        except OSError:
            time.sleep(_WAIT_SECONDS)  # the broker is away


def split(data: bytes, version: int) -> tuple[list[Publish], bytes]:
    """Take the messages out of a stream of bytes, and return the bytes left over; other packets are passed over.

    Args:
        data: from the start of a packet.
        version: 4 or 5.
    """
    found, position = list[Publish](), 0
    for kind, start, end in _packets(data):
        if kind & 0xF0 == _PUBLISH and kind & 0x06 == _QOS_1:
            after_topic = start + 2 + int.from_bytes(data[start : start + 2], "big")
            payload = after_topic + 2
            if version == 5:
                payload += 1 + data[payload]  # properties are short here: their length has one byte
            found.append(Publish(data[after_topic : after_topic + 2], data[payload:end]))
        position = end
    return found, data[position:]


class _Stop:
    """SIGTERM, as a flag: what is in hand is finished."""

    def __init__(self) -> None:
        self.is_asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.is_asked = True


def _packets(data: bytes) -> Iterator[tuple[int, int, int]]:
    position = 0
    while position + 1 < len(data):
        size, at, shift = 0, position + 1, 0
        while at < len(data):
            size |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                break
        else:
            return
        if at + size > len(data):
            return
        yield data[position], at, at + size
        position = at + size


def _log_in(connection: socket.socket, job: Job, manner: Manner) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    is_new = manner.version == 5
    properties = b""
    if is_new:
        properties = b"\x11" + SESSION_SECONDS.to_bytes(4, "big")
        if manner.receive_maximum:
            properties += b"\x21" + manner.receive_maximum.to_bytes(2, "big")
        properties = bytes([len(properties)]) + properties
    head = b"\0\4MQTT" + bytes([manner.version, 0xC0]) + b"\0\0"  # login, no clean session, no pings
    texts = (CLIENT_ID, job.username, job.password)
    body = head + properties + b"".join(_text(text) for text in texts)
    connection.sendall(bytes([0x10, len(body)]) + body)
    connection.settimeout(5)
    kind, size = connection.recv(2, socket.MSG_WAITALL)
    if kind != _CONNACK or connection.recv(size, socket.MSG_WAITALL)[1:2] != b"\0":
        raise ConnectionError("not let in")
    topic = b"\0\1" + (b"\0" if is_new else b"") + _text(TELEMETRY) + b"\1"
    connection.settimeout(None)
    connection.sendall(bytes([0x82, len(topic)]) + topic)


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()


def _handle_all(connection: socket.socket, manner: Manner, work: Work, stop: _Stop) -> None:
    unread = b""
    connection.settimeout(_WAIT_SECONDS)  # to look at the flag
    while not stop.is_asked:
        with contextlib.suppress(TimeoutError):
            messages, unread = _receive(connection, unread, manner)
            _handle(connection, messages, manner, work, stop)


def _handle(connection: socket.socket, messages: list[Publish], manner: Manner, work: Work, stop: _Stop) -> None:
    waiting = b""
    for message in messages:
        if stop.is_asked:
            break
        work.block(Reading.model_validate_json(message.payload))
        waiting += b"\x40\2" + message.mid
        if not manner.is_batching:
            connection.sendall(waiting)
            waiting = b""
    if waiting:
        connection.sendall(waiting)


def _handle_many(connection: socket.socket, manner: Manner, work: Work, stop: _Stop) -> None:
    hands, unread = Hands(manner.in_hand), b""
    connection.setblocking(False)
    while not (stop.is_asked and hands.next_due is None):
        is_reading = hands.is_hungry and not stop.is_asked
        if _wait(connection, hands, is_reading=is_reading):
            messages, unread = _receive(connection, unread, manner)
            for message in messages:
                hands.add(_to_handle(message, work))
        _go_on(hands, work, stop)
        connection.sendall(b"".join(b"\x40\2" + mid for mid in hands.acknowledged()))


def _wait(connection: socket.socket, hands: Hands, *, is_reading: bool) -> bool:
    """Wait for the next moment when something is to be done; tell whether there is something to read."""
    due = hands.next_due
    patience = _WAIT_SECONDS if due is None else max(0.0, due - time.monotonic())
    return bool(select.select([connection] if is_reading else [], [], [], patience)[0])


def _receive(connection: socket.socket, unread: bytes, manner: Manner) -> tuple[list[Publish], bytes]:
    chunk = connection.recv(_BYTES_AT_ONCE)
    if not chunk:
        raise ConnectionError("the broker has gone")
    return split(unread + chunk, manner.version)


def _to_handle(message: Publish, work: Work) -> Message:
    number = Reading.model_validate_json(message.payload).seq
    return Message(message.mid, number, number % DEVICES, work.seconds_of(number))


def _go_on(hands: Hands, work: Work, stop: _Stop) -> None:
    """End what is due and begin what may begin, until nothing changes."""
    while True:
        now = time.monotonic()
        begun = [] if stop.is_asked else hands.begin(now)
        for message in begun:
            work.journal.note(Kind.BEGUN, message.number)
        finished = hands.finish(now)
        if finished:
            work.journal.note(Kind.ENDED, finished[0].number)
            if finished[1]:
                work.journal.note(Kind.BEGUN, finished[1].number)
        elif not begun:
            return


def _manner(version: str, receive_maximum: str, how: str) -> Manner:
    in_hand = int(how) if how.isdigit() else 1
    return Manner(int(version), int(receive_maximum), is_batching=how == "batch", in_hand=in_hand)


if __name__ == "__main__":
    main(_manner(*sys.argv[1:]))
