"""The socket that paho sees, over real socket pairs."""

import base64
import hashlib
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from plantops_cli.stream.packets import MalformedPacketError, Splitter
from plantops_cli.stream.tap import READ_BYTES, Tap, Wire
from tests.support.certificates import Certificates
from tests.support.scripted_broker import publish

PINGRESP = b"\xd0\x00"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end, non-blocking as paho leaves it, and the broker's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def tap_on(wire: Wire) -> Tap:
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
    assert [(packet[1], packet[4]) for packet in packets] == [(b"a", b"1"), (b"b", b"2")]
    assert tap.is_exactly_once
    assert size > 0
    assert fetch(tap) == PINGRESP + b"\x90\x04\x00\x01\x00\x01"
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
    assert tap.unsent_bytes
    found = b""
    while sent < len(packet):
        found += drain(theirs)
        sent += tap.send(packet[sent:])
    assert not tap.flush() or not tap.unsent_bytes
    found += drain(theirs)
    tap.flush()
    found += drain(theirs)
    assert found == packet + b"ACK"


def test_what_was_pushed_goes_out_before_the_next_packet(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    tap = tap_on(ours)
    stuffed = stuff(ours)
    tap.push(b"ACK")
    assert tap.unsent_bytes
    with pytest.raises(BlockingIOError):
        tap.send(b"next")
    assert drain(theirs) == b"x" * stuffed
    assert tap.send(b"next") == 4
    assert drain(theirs) == b"ACKnext"


def test_what_a_wire_refuses_it_is_given_again_before_anything_else() -> None:
    class Keeping:
        """As paho's WebSocket does, it keeps what it was given and takes it to be given again."""

        taken = False
        got = b""

        def send(self, data: bytes) -> int:
            self.got += b"" if self.got else data
            return len(self.got) if self.taken else 0

        recv = close = fileno = None

    wire = Keeping()
    tap = tap_on(wire)  # type: ignore[arg-type]  # as much as is used
    with pytest.raises(BlockingIOError):  # of nothing at all paho would not hear again
        tap.send(b"packet")
    tap.push(b"ACK")
    assert not tap.flush()
    wire.taken = True
    assert tap.send(b"packet") == 6
    assert wire.got == b"packet"


def shake_hands(theirs: socket.socket) -> None:
    """Answer as a WebSocket server does (RFC 6455, 4.2.2)."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += theirs.recv(4_096)
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert found
    accepted = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    theirs.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )


def frames(stream: bytes) -> Iterator[bytes]:
    """What is in the masked frames of a WebSocket client (RFC 6455, 5.2)."""
    while stream:
        size, start = stream[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(stream[2:start], "big")
        mask, masked = stream[start : start + 4], stream[start + 4 : start + 4 + size]
        pattern = (mask * (size // 4 + 1))[:size]
        yield (int.from_bytes(masked, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")
        stream = stream[start + 4 + size :]


def in_layers(ours: socket.socket, theirs: socket.socket, layers: str, certificates: Certificates) -> Any:
    """Both ends with TLS, or a WebSocket, or a WebSocket within TLS, over them; ours does not block."""
    ours.setblocking(True)
    with ThreadPoolExecutor(1) as side:
        upper: Any = ours
        if "tls" in layers:
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(certificates.server_cert, certificates.server_key)
            shaken = side.submit(server.wrap_socket, theirs, server_side=True)
            client = ssl.create_default_context(cafile=certificates.ca)
            upper = client.wrap_socket(ours, server_hostname="localhost")
            theirs = shaken.result()
        if "websocket" in layers:
            answered = side.submit(shake_hands, theirs)
            upper = paho._WebsocketWrapper(upper, "localhost", 80, "tls" in layers, "/mqtt", None)
            answered.result()
    upper.setblocking(False)
    return upper, theirs


@pytest.mark.parametrize("layers", ["tls", "websocket", "tls websocket"])
def test_one_fill_brings_all_the_records_and_frames_that_have_come(
    pair: tuple[socket.socket, socket.socket], certificates: Certificates, layers: str
) -> None:
    ours, theirs = in_layers(*pair, layers, certificates)
    with theirs, closing(ours):
        for number in range(50):
            message = publish(b"a", b"%d" % number)
            theirs.sendall(b"\x82" + bytes([len(message)]) + message if "websocket" in layers else message)
        packets, _ = tap_on(ours).fill(100)
    assert [int(packet[4]) for packet in packets] == list(range(50))


def go_on_until(is_done: Callable[[], bool], step: Callable[[], object], wire: Wire | Tap) -> None:
    """Take a step whenever the wire takes something."""
    while not is_done():
        assert select.select([], [wire], [], 10)[1]
        step()


@pytest.mark.parametrize("layers", ["plain", "tls", "websocket", "tls websocket"])
def test_a_packet_that_blocks_and_the_acknowledgements_behind_it_arrive_whole(
    pair: tuple[socket.socket, socket.socket], certificates: Certificates, layers: str
) -> None:
    ours, theirs = in_layers(*pair, layers, certificates)
    tap = tap_on(ours)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client._sock = tap
    payload = bytes(range(250)) * 6_000
    acknowledgements = b"\x40\x02\x00\x01" * 500
    received = bytearray()

    def receive() -> None:
        while data := theirs.recv(100_000):
            received.extend(data)

    with theirs, closing(ours):
        client.publish("large", payload)
        assert client.want_write()  # the other side does not read
        tap.push(acknowledgements)
        client.publish("small", b"behind")
        assert tap.unsent_bytes
        reader = threading.Thread(target=receive, daemon=True)
        reader.start()
        go_on_until(lambda: not client.want_write(), client.loop_write, tap)
        go_on_until(lambda: not tap.unsent_bytes, tap.flush, tap)
        # with TLS 1.3 the server's session tickets have come, and to close a socket with something unread in it
        # resets the connection; before 3.13 Python told its reader of a plain end all the same
        assert tap.fill(1) == ([], 0)
        ours.close()
        reader.join()
    stream = b"".join(frames(bytes(received))) if "websocket" in layers else bytes(received)
    packets = publish(b"large", payload, version=4), acknowledgements, publish(b"small", b"behind", version=4)
    assert stream == b"".join(packets)


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
