"""The packets of the benchmarks: built, cut, and sent no faster than they are acknowledged."""

import socket
import threading
from itertools import pairwise

import pytest

from benchmarks.link import Link, packets, payload, split
from tests.support.scripted_broker import PUBACK, packet_of

PUBACKS = b"".join(packet_of(PUBACK, mid.to_bytes(2, "big")) for mid in range(1, 4))
WITH_REASON = packet_of(PUBACK, b"\0\4\0\0")
PING = b"\xc0\0"


def connected() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        return ours, server.accept()[0]


@pytest.mark.parametrize("stream", [PUBACKS, PUBACKS + PING + PUBACKS, PING + WITH_REASON + PUBACKS, WITH_REASON])
def test_a_stream_means_the_same_wherever_it_is_cut(stream: bytes) -> None:
    whole = split(stream)
    assert whole[2] == b""
    for cut in range(len(stream)):
        first_count, first_others, rest = split(stream[:cut])
        count, others, left = split(rest + stream[cut:])
        assert (first_count + count, first_others + others, left) == whole


def test_long_packets_are_measured_by_all_bytes_of_their_length() -> None:
    body = bytes(20_000)
    assert split(packet_of(0x30, body) + PING)[1] == [(0x30, body), (0xC0, b"")]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_packets_have_one_size_and_payloads_of_their_own(version: int, qos: int) -> None:
    built = packets(version, qos)
    some = [bytes(built.some(number, 1)) for number in (0, 1, 65_534)]
    assert {len(packet) for packet in some} == {built.size}
    assert len(set(some)) == 3
    assert some[1].endswith(payload(1_000_001))
    assert built.some(65_535, 1) == built.some(0, 1)
    assert len(built.some(65_530, 100)) == 5 * built.size


def test_pouring_waits_for_the_window() -> None:
    ours, theirs = connected()
    link, source = Link(ours), packets(4, 1)
    threading.Thread(target=lambda: list(link.received()), daemon=True).start()
    pouring = threading.Thread(target=link.pour, args=(source, 25), kwargs={"window": 10}, daemon=True)
    pouring.start()
    with theirs:
        theirs.settimeout(10)
        received, acknowledged = 0, [0]
        while received < 25 * source.size:
            received += len(theirs.recv(1 << 20))
            assert received <= (acknowledged[-1] + 10) * source.size
            acknowledged.append(received // source.size)
            theirs.sendall(PUBACKS[:4] * (acknowledged[-1] - acknowledged[-2]))
        pouring.join(10)
        link.wait_until_acknowledged(25)
    assert all(later >= earlier for earlier, later in pairwise(acknowledged))
    link.close()


def test_pouring_ends_when_the_other_side_goes() -> None:
    ours, theirs = connected()
    link = Link(ours)
    threading.Thread(target=lambda: list(link.received()), daemon=True).start()
    theirs.close()
    with pytest.raises(OSError):  # noqa: PT011  # which one depends on who notices first
        link.pour(packets(4, 1), 1_000, window=10)
    link.close()
