"""The socket that paho sees, over real socket pairs."""

import socket
from collections.abc import Iterator

import pytest

from plantops_cli.stream.packets import MalformedPacketError, Splitter
from plantops_cli.stream.tap import READ_BYTES, Tap
from tests.scripted_broker import publish

PINGRESP = b"\xd0\x00"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end, non-blocking as paho leaves it, and the broker's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def tap_on(wire: socket.socket) -> Tap:
    return Tap(wire, Splitter(is_v5=True, max_packet_size=1_000_000))


def fetch(tap: Tap) -> bytes:
    """All that paho would find."""
    found = b""
    while tap.has_news:
        found += tap.recv(3)
    return found


def test_messages_are_taken_out_and_all_else_waits_for_paho(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    theirs.sendall(PINGRESP + publish(b"a", b"1") + b"\x90\x04\x00\x01\x00\x01" + publish(b"b", b"2", qos=2))
    packets, size = tap.fill(10)
    assert [(packet[1], packet[4]) for packet in packets] == [(b"a", b"1")]
    assert size > 0
    assert fetch(tap) == PINGRESP + b"\x90\x04\x00\x01\x00\x01" + publish(b"b", b"2", qos=2)
    with pytest.raises(BlockingIOError):
        tap.recv(1)


def test_nothing_to_read_is_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    tap = tap_on(pair[0])
    assert tap.fill(10) == ([], 0)
    assert not tap.has_news


def test_the_end_is_told_after_the_messages_before_it(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    theirs.sendall(publish(b"a") * 3)
    theirs.close()
    seen = []
    while not tap.has_news:
        packets, _ = tap.fill(1)
        seen += packets
    assert len(seen) == 3
    assert tap.recv(1) == b""


def test_a_broken_connection_is_told_as_such(pair: tuple[socket.socket, socket.socket]) -> None:
    class Broken:
        def recv(self, size: int) -> bytes:
            raise ConnectionResetError(104, "reset")

        send = close = fileno = None

    tap = Tap(Broken(), Splitter(is_v5=True, max_packet_size=100))  # type: ignore[arg-type]  # as much as is used
    assert tap.fill(10) == ([], 0)
    with pytest.raises(ConnectionResetError):
        tap.recv(1)


def test_what_came_before_malformed_bytes_is_taken_first(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    theirs.sendall(PINGRESP + publish(b"a") + b"\x36\x00")
    packets, _ = tap.fill(10)
    assert [packet[1] for packet in packets] == [b"a"]
    assert tap.has_more
    assert fetch(tap) == PINGRESP
    with pytest.raises(MalformedPacketError):
        tap.fill(10)


def test_one_read_has_a_bound(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.setblocking(False)
    message = publish(b"a", bytes(1_000))
    while True:
        try:
            theirs.send(message)
        except BlockingIOError:
            break
    _, size = tap_on(ours).fill(1_000_000)
    assert size <= READ_BYTES


def stuff(wire: socket.socket) -> int:
    """Fill the way out until nothing more goes."""
    sent = 0
    while True:
        try:
            sent += wire.send(b"x" * 4_096)
        except BlockingIOError:
            return sent


def drain(wire: socket.socket) -> bytes:
    wire.setblocking(False)
    found = b""
    while True:
        try:
            found += wire.recv(1_000_000)
        except BlockingIOError:
            return found


def test_what_is_pushed_never_stands_in_the_middle_of_a_packet(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    packet = b"p" * 1_000_000
    sent = tap.send(packet)
    assert 0 < sent < len(packet)
    tap.push(b"ACK")
    assert tap.has_unsent
    found = b""
    while sent < len(packet):
        found += drain(theirs)
        sent += tap.send(packet[sent:])
    assert not tap.flush() or not tap.has_unsent
    found += drain(theirs)
    tap.flush()
    found += drain(theirs)
    assert found == packet + b"ACK"


def test_what_was_pushed_goes_out_before_the_next_packet(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    stuffed = stuff(ours)
    tap.push(b"ACK")
    assert tap.has_unsent
    with pytest.raises(BlockingIOError):
        tap.send(b"next")
    assert drain(theirs) == b"x" * stuffed
    assert tap.send(b"next") == 4
    assert drain(theirs) == b"ACKnext"


def test_who_lingers_still_hears_the_other_side_out(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    tap.send(b"last words")
    theirs.sendall(b"x" * 10_000)
    tap.linger()
    tap.close()
    assert theirs.recv(100) == b"last words"
    assert theirs.recv(100) == b""
    assert not tap.discard()
    theirs.close()
    assert tap.discard()
    tap.abort()
    assert tap.fileno() < 0
