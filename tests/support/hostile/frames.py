"""MQTT in WebSocket frames (RFC 6455), as a server sends them, right or wrong."""

import asyncio
import base64
import hashlib
import random
import re

_KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL, _CONTINUED, _TEXT, _BINARY, _CLOSE, _PING = 0x80, 0, 1, 2, 8, 9


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the request that begins a WebSocket."""
    request = await reader.readuntil(b"\r\n\r\n")
    key = _KEY.search(request)
    assert key, request
    accepted = base64.b64encode(hashlib.sha1(key[1] + _MAGIC).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )


async def unframe(reader: asyncio.StreamReader, content: asyncio.StreamReader) -> None:
    """Hand on what is in the frames of a client, until they end."""
    try:
        while True:
            kind, length = await reader.readexactly(2)
            size = length & 0x7F
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            assert length & 0x80, "RFC 6455, 5.1: a client masks all frames"
            mask = await reader.readexactly(4)
            data = await reader.readexactly(size)
            if kind & 0x0F in (_CONTINUED, _BINARY):
                content.feed_data(bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
    except (asyncio.IncompleteReadError, OSError):
        content.feed_eof()


class FramedWriter:
    """Writes each piece as a frame, some of them wrong ones.

    Args:
        writer: of the connection.
        dice: decides.
        harm: the share of frames that are not as they should be.
    """

    def __init__(self, writer: asyncio.StreamWriter, dice: random.Random, harm: float) -> None:
        self._writer = writer
        self._dice = dice
        self._harm = harm

    def write(self, data: bytes) -> None:
        is_harmful = self._dice.random() < self._harm
        self._writer.write(self._odd(data) if is_harmful else frame(data))

    async def drain(self) -> None:
        await self._writer.drain()

    def is_closing(self) -> bool:
        return self._writer.is_closing()

    def _odd(self, data: bytes) -> bytes:
        dice, half = self._dice, len(data) // 2
        return dice.choice(
            (
                frame(b"x" * dice.randrange(130), _PING) + frame(data),
                frame(data[:half], _BINARY, 0) + frame(data[half:], _CONTINUED),
                frame(data[:half], _BINARY, 0) + frame(b"", _PING) + frame(data[half:], _CONTINUED),
                frame(b"") + frame(data),
                frame(data, _TEXT),
                frame(b"\x03\xe8bye", _CLOSE),
                frame(data, dice.randrange(16), dice.choice((0, _FINAL, 0xF0))),
                b"\x82\x7f" + b"\xff" * 8 + data,
                b"\x82\xfe\x00\x7e" + b"mask" + data,
                dice.randbytes(30),
            )
        )


def frame(data: bytes, kind: int = _BINARY, flags: int = _FINAL) -> bytes:
    """A frame that is not masked, as those of a server are not."""
    size = len(data)
    if size < 126:
        return bytes([flags | kind, size]) + data
    if size < 1 << 16:
        return bytes([flags | kind, 126]) + size.to_bytes(2, "big") + data
    return bytes([flags | kind, 127]) + size.to_bytes(8, "big") + data
