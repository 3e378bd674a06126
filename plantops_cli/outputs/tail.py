"""What stands at the end of a file: lines of ours, one of ours that was cut, or something of somebody else's.

A line counts as ours when it begins with the fields that ``jsonl`` writes, in its order and its form. Those of
``mosquitto_sub -F %j`` do not: its moment has another form, and no device id comes behind the topic.
"""

import os
import re
from collections.abc import Iterator

_BLOCK_BYTES = 64 * 1024
# More than the fields before the payload take when each byte of the longest topic, 65,535, becomes six (\u0001)
_HEAD_BYTES = 1024 * 1024
# More than a line takes: an MQTT packet has at most 256 MiB, of which each byte may become six
_LONGEST_BYTES = 2 * 1024**3


def _units(text: bytes) -> list[bytes]:
    return [re.escape(text[index : index + 1]) for index in range(len(text))]


def _cut(units: list[bytes]) -> bytes:
    """Return a pattern for all beginnings of what consists of some units, each given as a pattern."""
    return b"|".join(b"".join(units[:count]) for count in range(len(units), -1, -1))


def _one_of(*texts: bytes) -> tuple[bytes, bytes]:
    """Return the pattern of some texts, and that of their beginnings."""
    return b"|".join(map(re.escape, texts)), b"|".join(_cut(_units(text)) for text in texts)


_FORM = [b"[0-9]" if unit == b"0" else unit for unit in _units(b"0000-00-00T00:00:00.000000")]
_MOMENT = [*_units(b'{"tst":"'), *_FORM, *_units(b'+00:00",')]
_OPEN_TEXT = rb'"[^"\\\x00-\x1f]*(?:\\["\\/bfnrtu][^"\\\x00-\x1f]*)*'
_TEXT, _TEXT_CUT = _OPEN_TEXT + rb'"', rb"|" + _OPEN_TEXT + rb"\\?"
_NULL, _NULL_CUT = _one_of(b"null")
_PAYLOAD, _PAYLOAD_CUT = _one_of(b'"payload":', b'"payload_b64":"')
_MID = rb'"dup":true,"mid":[0-9]{1,5}'  # stands in lines that were sent again

# What stands before the payload, part by part: the pattern of the whole, and that of what a cut leaves of it
_PARTS = tuple(
    (re.compile(whole), re.compile(cut))
    for whole, cut in (
        (b"".join(_MOMENT), _cut(_MOMENT)),
        _one_of(b'"topic":'),
        (_TEXT, _TEXT_CUT),
        _one_of(b',"device_id":'),
        (_NULL + b"|" + _TEXT, _NULL_CUT + b"|" + _TEXT_CUT),
        _one_of(b',"kind":'),
        (_NULL + b"|" + _TEXT, _NULL_CUT + b"|" + _TEXT_CUT),
        _one_of(b',"qos":'),
        _one_of(b"0", b"1", b"2"),
        _one_of(b',"retain":'),
        _one_of(b"true", b"false"),
        _one_of(b","),
        (
            b"(?:" + _MID + b",)?(?:" + _PAYLOAD + b")",
            _cut(_units(b'"dup":true,"mid":')) + b"|" + _MID + b"|(?:" + _MID + b",)?(?:" + _PAYLOAD_CUT + b")",
        ),
    )
)
_SIGN_BYTES = len(_MOMENT) + len(b'"topic":"')


def whole_bytes(descriptor: int) -> int | None:
    """Find where the last whole line of a file ends, if the file may be continued there.

    It may when it is empty, or when its last whole line is ours and what stands behind is the beginning of one of
    ours; NULs, which a power cut leaves, may follow. Without any whole line, that beginning must have moment and
    topic, or be nothing but NULs. It is read from its end, as far as needed, and no more than a block is held.

    Args:
        descriptor: the file, open for reading.

    Returns:
        The number of bytes to keep, or None for a file of somebody else's.

    Raises:
        OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    try:
        end = _end_before_nuls(descriptor, size)
        whole = _begin_of_line(descriptor, end)
        if whole and not _is_line(descriptor, _begin_of_line(descriptor, whole - 1), whole - 1):
            return None
    except _NotOursError:
        return None
    # JSON has no NUL: what stands behind one, by a power cut too, is judged by what stands before
    rest, is_holed, _ = os.pread(descriptor, min(end - whole, _HEAD_BYTES), whole).partition(b"\0")
    least = _SIGN_BYTES if is_holed or (rest and not whole) else 0
    return whole if len(rest) >= least and is_beginning(rest) else None


def is_beginning(data: bytes) -> bool:
    """Tell whether one of our lines may begin with these bytes.

    Args:
        data: a line up to its newline, or what there is of it; its payload is not looked at.
    """
    count, position = _follow_parts(data)
    return count == len(_PARTS) or _PARTS[count][1].fullmatch(data, position) is not None


def _is_line(descriptor: int, start: int, end: int) -> bool:
    head = os.pread(descriptor, min(end - start, _HEAD_BYTES), start)
    return _follow_parts(head)[0] == len(_PARTS) and os.pread(descriptor, 1, end - 1) == b"}"


def _follow_parts(data: bytes) -> tuple[int, int]:
    """Count the parts that stand there whole, and tell where they end."""
    position = 0
    for count, (whole, _) in enumerate(_PARTS):
        found = whole.match(data, position)
        if not found:
            return count, position
        position = found.end()
    return len(_PARTS), position


class _NotOursError(Exception):
    """The file need not be read any further."""


def _end_before_nuls(descriptor: int, end: int) -> int:
    for start, block in _backwards(descriptor, end):
        if text := block.rstrip(b"\0"):
            return start + len(text)
    return 0


def _begin_of_line(descriptor: int, end: int) -> int:
    """Find where the line begins that ends there."""
    for start, block in _backwards(descriptor, end):
        position = block.rfind(b"\n")
        if position >= 0:
            return start + position + 1
    return 0


def _backwards(descriptor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Read blocks from the end, each with its place; a file that is clearly not ours is given up before long.

    Raises:
        _NotOursError: the line is longer than any of ours, or a long one in a file whose first line is not ours.
    """
    start = end
    is_long = False
    while start:
        if end - start > _LONGEST_BYTES:
            raise _NotOursError
        if not is_long and end - start > _HEAD_BYTES:
            is_long = True
            if not is_beginning(os.pread(descriptor, _HEAD_BYTES, 0).partition(b"\n")[0].rstrip(b"\0")):
                raise _NotOursError
        begin = max(0, start - _BLOCK_BYTES)
        yield begin, os.pread(descriptor, start - begin, begin)
        start = begin
