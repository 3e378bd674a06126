"""Frames of a WebSocket: what leaves, by the letter of RFC 6455, and what comes, in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.stream.framing import Unframer, close_frame, frame
from tests.support.rfc6455 import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frames, server_frame

LIMIT = 200_000


def unframer() -> Unframer:
    return Unframer(LIMIT)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 150_001])
def test_a_frame_of_any_length_is_masked_and_read_by_the_letter(size: int) -> None:
    payload = bytes(position % 251 for position in range(size))
    [one] = client_frames(frame(BINARY, payload))
    assert (one.opcode, one.payload) == (BINARY, payload)


def test_each_frame_has_a_mask_of_its_own() -> None:
    assert len({client_frames(frame(BINARY, b"same"))[0].key for _ in range(50)}) == 50


@pytest.mark.parametrize(("code", "payload"), [(None, b""), (1000, b"\x03\xe8"), (1002, b"\x03\xea")])
def test_a_close_frame_has_its_code(code: int | None, payload: bytes) -> None:
    [one] = client_frames(close_frame(code))
    assert (one.opcode, one.payload) == (CLOSE, payload)


@given(
    pieces=st.lists(st.binary(max_size=300), max_size=6),
    cuts=st.lists(st.integers(0, 2_000), max_size=8),
    pings=st.lists(st.binary(max_size=125), max_size=3),
)
def test_a_message_in_pieces_with_pings_between_them_cut_anywhere_is_what_was_sent(
    pieces: list[bytes], cuts: list[int], pings: list[bytes]
) -> None:
    wire = b""
    for position, piece in enumerate(pieces):
        opcode = CONTINUATION if position else BINARY
        wire += server_frame(piece, opcode, 0x80 if position == len(pieces) - 1 else 0)
        wire += b"".join(server_frame(ping, PING) for ping in pings)
    reader, got, at = unframer(), b"", 0
    for cut in [*sorted(cuts), len(wire)]:
        got += reader.feed(wire[at:cut])
        at = max(at, min(cut, len(wire)))
    assert got == b"".join(pieces)
    assert reader.end is None
    if pieces and pings:
        assert reader.pong is not None
        [pong] = client_frames(reader.pong)
        assert (pong.opcode, pong.payload) == (PONG, pings[-1])


def test_a_frame_is_handed_on_before_it_is_whole() -> None:
    reader = unframer()
    assert reader.feed(server_frame(b"x" * 1_000)[:500]) == b"x" * 496


@pytest.mark.parametrize(
    ("payload", "said", "answer"),
    [
        (b"", "the broker closed the WebSocket", b""),
        (b"\x03\xe8", "the broker closed the WebSocket (1000, normal)", b"\x03\xe8"),
        (b"\x03\xf0no\x1b[2J", "the broker closed the WebSocket (1008, policy violation)", b"\x03\xf0"),
        (b"\x0f\xa0" + b"x" * 123, "the broker closed the WebSocket (4000)", b"\x0f\xa0"),
    ],
)
def test_a_close_frame_is_answered_with_its_code_and_ends_all(payload: bytes, said: str, answer: bytes) -> None:
    reader = unframer()
    assert reader.feed(server_frame(b"last") + server_frame(payload, CLOSE) + server_frame(b"late")) == b"last"
    assert reader.end == said
    assert reader.goodbye is not None
    [one] = client_frames(reader.goodbye)
    assert (one.opcode, one.payload) == (CLOSE, answer)
    assert reader.feed(server_frame(b"later")) == b""


@pytest.mark.parametrize(
    ("wire", "said", "code"),
    [
        (b"\x82\x85mask-data", "a masked WebSocket frame", 1002),
        (b"\xc2\x01x", "a WebSocket frame with reserved bits", 1002),
        (server_frame(b"x", TEXT), "a WebSocket frame of text", 1003),
        (server_frame(b"x", 3), "an unknown kind, 3", 1002),
        (server_frame(b"x", 11), "an unknown kind, 11", 1002),
        (server_frame(b"x", CONTINUATION), "continues nothing", 1002),
        (server_frame(b"", BINARY, 0) + server_frame(b"y"), "in the middle of a message", 1002),
        (server_frame(b"x", PING, 0), "in pieces or too long", 1002),
        (server_frame(b"x" * 126, PING), "in pieces or too long", 1002),
        (server_frame(b"x", CLOSE), "half a WebSocket close code", 1002),
        (b"\x82\x7f" + (LIMIT + 1).to_bytes(8, "big"), "a WebSocket frame of more than 200,000 bytes", 1009),
        (b"\x82\x7f" + b"\xff" * 8, "a WebSocket frame of more than 200,000 bytes", 1009),
    ],
)
def test_what_no_server_may_send_ends_all_with_a_reason_and_a_code(wire: bytes, said: str, code: int) -> None:
    reader = unframer()
    assert reader.feed(server_frame(b"before") + wire) == b"before"
    assert reader.end is not None
    assert said in reader.end
    assert reader.goodbye is not None
    [goodbye] = client_frames(reader.goodbye)
    assert goodbye.payload == code.to_bytes(2, "big")
