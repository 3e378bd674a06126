"""Which bytes are lines of ours, and which the beginning of one: held against what the encoder writes."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.formats.jsonl import LineEncoder, encode
from plantops_cli.outputs.tail import is_beginning, whole_bytes
from tests.support.samples import batch_of, lines, message

TOPICS = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1)
MESSAGES = st.builds(
    message,
    st.binary() | st.text(st.characters(codec="utf-8")).map(str.encode) | st.just(b'{"a": [1, "\\u00fc"]}'),
    topic=TOPICS | TOPICS.map(lambda name: f"devices/{name.replace('/', '')}x/telemetry"),
    retain=st.booleans(),
    dup=st.booleans(),
    mid=st.integers(1, 65_535),
    properties=st.none() | st.just({"content-type": "text"}),
    received_at=st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # as they are asked for
)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def kept(descriptor: int, content: bytes) -> int | None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
    return whole_bytes(descriptor)


@given(MESSAGES, st.data())
def test_every_beginning_of_every_line_of_ours_is_one(message: object, data: st.DataObject) -> None:
    line = encode(message)  # type: ignore[arg-type]  # a Message
    assert is_beginning(line[: data.draw(st.integers(0, len(line) - 1))])


@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.parametrize("payload", [b"{}", b"text", b"\xff"])
@pytest.mark.parametrize("topic", ["devices/a/telemetry", "t", '\\"ü\x01'])
def test_a_line_may_be_cut_at_any_byte(descriptor: int, topic: str, payload: bytes, dup: bool) -> None:
    line = encode(message(payload, topic=topic, dup=dup))
    assert kept(descriptor, line) == len(line)
    for length in range(len(line)):
        assert kept(descriptor, line + line[:length]) == len(line)
        assert kept(descriptor, line + line[:length] + b"\0" * 9) == len(line)


def test_both_ways_to_encode_make_lines_of_ours(descriptor: int) -> None:
    for number in (1, 100):
        encoded, *_ = LineEncoder(lambda _: True).encode(batch_of(*[message()] * number))
        assert kept(descriptor, encoded) == len(encoded)


@given(MESSAGES, st.integers(0, 200), st.sampled_from(b'!"x{}[]\\\xff\n\x01'))
def test_what_differs_in_a_byte_before_the_topic_is_no_beginning(message: object, place: int, byte: int) -> None:
    line = encode(message)  # type: ignore[arg-type]  # a Message
    place %= len('{"tst":"2026-11-23T20:15:02.123456+00:00","topic":"')
    changed = line[:place] + bytes([byte]) + line[place + 1 :]
    assert changed == line or not is_beginning(changed)


@pytest.mark.parametrize("moment", ["2026-11-23T20:15:02+00:00", "2026-11-23T20:15:02.123456+0000", "1795464902"])
def test_another_form_of_the_moment_is_not_ours(descriptor: int, moment: str) -> None:
    line = lines(1).replace(b"2026-11-23T20:15:02.123456+00:00", moment.encode())
    assert kept(descriptor, line) is None
    assert kept(descriptor, lines(1) + line[:60]) is None


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"", 0),
        (b"\0" * 200_000, 0),
        (lines(1) + b"\0" * 200_000, len(lines(1))),
        (lines(1) + lines(2)[:99] + b"\0" * 5_000 + b"more", len(lines(1))),
        (lines(1) + lines(2)[:9] + b"\0" * 5_000 + b"more", None),
        (lines(1) + b"\0" * 5_000 + b"more", None),
        (lines(1)[:9] + b"\0", None),
        (b"\n", None),
        (b"# ours come below\n" + lines(1), len(b"# ours come below\n" + lines(1))),
    ],
)
def test_nuls_are_what_a_power_cut_leaves(descriptor: int, content: bytes, count: int | None) -> None:
    assert kept(descriptor, content) == count


def test_the_longest_topic_of_all_is_recognized(descriptor: int) -> None:
    line = encode(message(topic="devices/" + "\x01" * 65_500 + "/x", payload=b"x" * 2_000_000))
    assert kept(descriptor, lines(1) + line) == len(lines(1) + line)
    assert kept(descriptor, lines(1) + line[:-99]) == len(lines(1))
