"""The frames of a WebSocket, as a client writes and reads them (RFC 6455, 5). Pure: bytes in, bytes out."""

import secrets
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, PROTOCOL_ERROR, NOT_BINARY, TOO_BIG = 1000, 1002, 1003, 1009
"""What a close frame may say (RFC 6455, 7.4.1)."""

_FINAL, _RESERVED, _MASKED, _CONTROL = 0x80, 0x70, 0x80, 0x08
_MOST_CONTROL_BYTES = 125
_MEANINGS = {
    NORMAL: "normal",
    1001: "going away",
    PROTOCOL_ERROR: "protocol error",
    NOT_BINARY: "unsupported data",
    1007: "invalid data",
    1008: "policy violation",
    TOO_BIG: "message too big",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
}


class _Header(NamedTuple):
    opcode: int
    is_final: bool
    header_bytes: int
    payload_bytes: int


class _BrokenError(Exception):
    """A frame that may not be.

    Args:
        message: what is wrong.
        code: what a close frame says of it.
    """

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole frame, masked as all of a client are (RFC 6455, 5.1 and 5.3).

    Args:
        opcode: what it is.
        payload: any bytes; of a control frame at most 125.
    """
    size, head = len(payload), bytes((_FINAL | opcode,))
    if size <= _MOST_CONTROL_BYTES:
        head += bytes((_MASKED | size,))
    elif size < 1 << 16:
        head += bytes((_MASKED | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((_MASKED | 127,)) + size.to_bytes(8, "big")
    key = secrets.token_bytes(4)
    return head + key + _masked(payload, key)


def close_frame(code: int | None) -> bytes:
    """Return a close frame; None: without a code."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big"))


class Unframer:
    """Takes the payload out of what a server sends; of MQTT it is a stream, cut anywhere (MQTT 5, 6.0).

    Args:
        max_frame_bytes: the longest frame to be taken.

    Attributes:
        pong: what is to be answered to the last ping, as a frame, or None; earlier ones may be left without an
            answer (RFC 6455, 5.5.3).
        goodbye: the close frame that is to be sent, once the WebSocket has ended, or None.
        end: why it has ended, in words; None: it goes on.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self.pong: bytes | None = None
        self.goodbye: bytes | None = None
        self.end: str | None = None
        self._max_frame_bytes = max_frame_bytes
        self._held = b""
        self._missing_bytes = 0
        self._is_amid_message = False

    def feed(self, data: bytes) -> bytes:
        """Take what has come, and return the payload in it; behind the end there is none (RFC 6455, 5.5.1).

        Args:
            data: any piece of the stream.
        """
        data = self._held + data if self._held else data
        parts, at = list[bytes](), 0
        try:
            while at < len(data) and self.end is None:
                taken, payload = self._take(data, at)
                if payload:
                    parts.append(payload)
                if not taken:
                    break
                at += taken
        except _BrokenError as exc:
            self.end, self.goodbye = f"the broker sent {exc}", close_frame(exc.code)
        self._held = data[at:] if self.end is None else b""
        return b"".join(parts)

    def _take(self, data: bytes, at: int) -> tuple[int, bytes]:
        """Take one step: how many bytes it took, 0 when more have to come, and the payload in them."""
        if self._missing_bytes:
            payload = data[at : at + self._missing_bytes]
            self._missing_bytes -= len(payload)
            return len(payload), payload
        header = _read_header(data, at, self._max_frame_bytes)
        if header is None:
            return 0, b""
        if not header.opcode & _CONTROL:
            self._begin_data(header)
            return header.header_bytes, b""
        begin, end = at + header.header_bytes, at + header.header_bytes + header.payload_bytes
        if end > len(data):
            return 0, b""
        self._take_control(header.opcode, data[begin:end])
        return end - at, b""

    def _begin_data(self, header: _Header) -> None:
        is_continued = header.opcode == CONTINUATION
        if is_continued and not self._is_amid_message:
            raise _BrokenError("a WebSocket frame that continues nothing")
        if not is_continued and self._is_amid_message:
            raise _BrokenError("a WebSocket frame in the middle of a message")
        self._is_amid_message = not header.is_final
        self._missing_bytes = header.payload_bytes

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.pong = frame(PONG, payload)
        elif opcode == CLOSE:
            if len(payload) == 1:
                raise _BrokenError("half a WebSocket close code")
            self.goodbye = frame(CLOSE, payload[:2])  # the same code (RFC 6455, 5.5.1)
            self.end = f"the broker closed the WebSocket{_told(payload)}"


def _read_header(data: bytes, at: int, max_frame_bytes: int) -> _Header | None:
    """Read the header of a frame; None when it is not whole.

    Raises:
        _BrokenError: a server may not send such a frame.
    """
    if len(data) - at < 2:
        return None
    first, second = data[at], data[at + 1]
    opcode, is_final, size = first & 0x0F, bool(first & _FINAL), second & 0x7F
    _check_kind(first, second)
    width = {126: 2, 127: 8}.get(size, 0)
    if width:
        if len(data) - at < 2 + width:
            return None
        size = int.from_bytes(data[at + 2 : at + 2 + width], "big")
    if size > max_frame_bytes:
        raise _BrokenError(f"a WebSocket frame of more than {max_frame_bytes:,} bytes", TOO_BIG)
    return _Header(opcode, is_final, 2 + width, size)


def _check_kind(first: int, second: int) -> None:
    opcode = first & 0x0F
    if first & _RESERVED:
        raise _BrokenError("a WebSocket frame with reserved bits")
    if second & _MASKED:
        raise _BrokenError("a masked WebSocket frame")
    if opcode == TEXT:
        raise _BrokenError("a WebSocket frame of text", NOT_BINARY)  # MQTT 5, 6.0
    if opcode not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
        raise _BrokenError(f"a WebSocket frame of an unknown kind, {opcode}")
    if opcode & _CONTROL and (not first & _FINAL or second > _MOST_CONTROL_BYTES):
        raise _BrokenError("a WebSocket control frame that is in pieces or too long")


def _told(payload: bytes) -> str:
    """What a close frame says, in words of ours: those in it are a stranger's, who may repeat our password."""
    if not payload:
        return ""
    code = int.from_bytes(payload[:2], "big")
    return f" ({code}, {_MEANINGS[code]})" if code in _MEANINGS else f" ({code})"


def _masked(payload: bytes, key: bytes) -> bytes:
    # as two numbers: a thousand times as fast as byte by byte
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
