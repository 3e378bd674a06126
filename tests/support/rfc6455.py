"""Frames of a client, each held against RFC 6455, 5; and a server's answer to the request for a WebSocket."""

import base64
import hashlib
import re
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)\r\n", re.IGNORECASE)
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ClientFrame(NamedTuple):
    """A frame of a client."""

    opcode: int
    payload: bytes
    key: bytes


def client_frames(data: bytes) -> list[ClientFrame]:
    """Read whole frames, and fail on the first that a client may not send."""
    found = []
    while data:
        taken, one = _first_frame(data)
        found.append(one)
        data = data[taken:]
    return found


def _first_frame(data: bytes) -> tuple[int, ClientFrame]:
    first, second, size, at = data[0], data[1], data[1] & 0x7F, 2
    if size >= 126:
        at = 4 if size == 126 else 10
        assert size == 126 or not data[2] & 0x80, "5.2: the most significant bit of a length is 0"
        least = 126 if size == 126 else 1 << 16
        size = int.from_bytes(data[2:at], "big")
        assert size >= least, "5.2: the least number of bytes encodes a length"
    opcode = first & 0x0F
    assert not first & 0x70, "5.2: reserved bits are 0"
    assert second & 0x80, "5.1: a client masks all frames"
    assert opcode in (CONTINUATION, BINARY, CLOSE, PING, PONG), "5.2, and MQTT 5, 6.0: binary frames only"
    assert opcode < CLOSE or (first & 0x80 and size < 126), "5.5: control frames are short and whole"
    key, payload = data[at : at + 4], data[at + 4 : at + 4 + size]
    assert len(payload) == size, "a whole frame"
    plain = bytes(byte ^ key[position % 4] for position, byte in enumerate(payload))
    assert opcode != CLOSE or size != 1, "5.5.1: a code is two bytes"
    return at + 4 + size, ClientFrame(opcode, plain, key)


def accepting(request: bytes) -> bytes:
    """The answer that begins a WebSocket."""
    key = _KEY.search(request)
    assert key, request
    accepted = base64.b64encode(hashlib.sha1(key[1] + _MAGIC).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )


def server_frame(payload: bytes, opcode: int = BINARY, flags: int = 0x80) -> bytes:
    """A frame as a server sends it, not masked."""
    size = len(payload)
    if size < 126:
        return bytes((flags | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((flags | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((flags | opcode, 127)) + size.to_bytes(8, "big") + payload
