import json
from base64 import b64decode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.formats.jsonl import LineEncoder, encode
from plantops_cli.messages import Message
from plantops_cli.stream.batch import Batch, Read, message_of
from plantops_cli.stream.packets import Packet
from tests.support.samples import RECEIVED_AT, batch_of, message, nanoseconds

HEAD = (
    '{"tst":"2026-11-23T20:15:02.123456+00:00","topic":"devices/abc/telemetry",'
    '"device_id":"abc","kind":"telemetry"'
)
WHITE_SPACE = st.sampled_from([b"", b" ", b"\n", b"\r\n", b"\t"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + b"1" + closing * depth


# an object is two levels, as jq counts
NOT_TOO_DEEP = [nested(250), nested(125, b'{"a":', b"}"), nested(83, b'[{"]":', b"}]")]
DEEP = [nested(251), nested(1_000), nested(126, b'{"a":', b"}"), nested(84, b'[{"]":', b" }]")]


def test_a_json_payload_stands_in_the_line_as_it_was_sent() -> None:
    line = encode(message(b'{"soil_moisture":41.5}'))
    assert line.decode() == HEAD + ',"qos":1,"retain":false,"payload":{"soil_moisture":41.5}}\n'


@pytest.mark.parametrize(
    "payload",
    [
        b"1234567890123456789012345678901234567890",
        b'{"b":1.10,"a":1,"a":2,  "c" : 1E+2}',
        b'"\\u00fc\\/"',
        '"ü"'.encode(),
    ],
)
def test_digits_key_order_duplicate_keys_and_escapes_survive(payload: bytes) -> None:
    assert encode(message(payload)).endswith(b'"payload":' + payload + b"}\n")


def test_a_newline_between_json_tokens_becomes_a_space() -> None:
    assert encode(message(b'{\r\n"a":\n1}\n')).endswith(b'"payload":{  "a": 1} }\n')


def test_text_is_a_string_and_marked_invalid_with_the_reason() -> None:
    line = json.loads(encode(message(b"water\nme")))
    assert (line["payload"], line["valid"]) == ("water\nme", False)
    assert line["error"].startswith("not JSON: ")


def test_an_empty_payload_is_an_empty_string_and_marked_invalid() -> None:
    assert encode(message(b"")).endswith(b'"payload":"","valid":false,"error":"empty payload"}\n')


def test_bytes_that_are_not_utf8_are_base64() -> None:
    line = json.loads(encode(message(b"\xff\x00")))
    assert (line["payload_b64"], line["valid"], "payload" in line) == ("/wA=", False, False)
    assert line["error"] == "not UTF-8: byte 0xff at offset 0"


@pytest.mark.parametrize("payload", [b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b"[" * 5000 + b"]" * 5000])
def test_what_strict_json_refuses_arrives_as_a_string(payload: bytes) -> None:
    line = json.loads(encode(message(payload)))
    assert (line["payload"], line["valid"]) == (payload.decode(), False)


@pytest.mark.parametrize("payload", DEEP)
def test_json_deeper_than_others_can_read_is_a_string_marked_invalid(payload: bytes) -> None:
    line = json.loads(encode(message(payload)))
    assert (line["payload"].encode(), line["valid"]) == (payload, False)
    assert line["error"] == "nested deeper than 250 levels, of which an object is two"


@pytest.mark.parametrize("payload", NOT_TOO_DEEP)
def test_json_of_250_levels_stands_in_the_line_as_it_was_sent(payload: bytes) -> None:
    assert encode(message(payload)).endswith(b'"payload":' + payload + b"}\n")


def test_only_a_redelivered_message_has_dup_and_mid() -> None:
    assert b'"retain":false,"dup":true,"mid":7,"payload":' in encode(message(dup=True))
    assert not {"dup", "mid"} & set(json.loads(encode(message())))


def test_properties_come_last_and_only_when_there_are_any() -> None:
    properties = {"content-type": "text/plain", "user-properties": [("a", "1")], "correlation-data": b"\xff\x00"}
    expected = b'{"content-type":"text/plain","user-properties":[["a","1"]],"correlation-data":"/wA="}'
    assert encode(message(properties=properties)).endswith(b',"properties":' + expected + b"}\n")
    assert b"properties" not in encode(message())


def test_a_property_without_a_json_form_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        encode(message(properties={"odd": object()}))


def test_a_topic_outside_the_convention_has_neither_device_nor_kind() -> None:
    line = json.loads(encode(message(topic="$SYS/broker/uptime")))
    assert (line["topic"], line["device_id"], line["kind"]) == ("$SYS/broker/uptime", None, None)


def test_a_whole_second_keeps_its_microseconds() -> None:
    line = json.loads(encode(message(received_at=RECEIVED_AT.replace(microsecond=0))))
    assert line["tst"] == "2026-11-23T20:15:02.000000+00:00"


@given(st.binary() | st.text().map(lambda text: text.encode(errors="replace")))
def test_any_payload_is_one_line_and_comes_back(payload: bytes) -> None:
    encoded = encode(message(payload))
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    line = json.loads(encoded)
    if line.get("valid", True):
        one_line = payload.replace(b"\n", b" ").replace(b"\r", b" ")
        assert encoded.endswith(b'"payload":' + one_line + b"}\n")
    elif "payload" in line:
        assert line["payload"].encode() == payload
    else:
        assert b64decode(line["payload_b64"]) == payload


@given(JSON_VALUES, WHITE_SPACE, st.sampled_from([None, 1]), st.booleans())
def test_any_json_is_one_line_with_the_same_value(
    value: object, white_space: bytes, indent: int | None, is_ascii: bool
) -> None:
    payload = white_space + json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode() + white_space
    encoded = encode(message(payload))
    assert encoded.count(b"\n") == 1
    assert b"\r" not in encoded
    assert json.loads(encoded)["payload"] == value


PAYLOADS = (
    st.binary(max_size=20)
    | st.tuples(WHITE_SPACE, JSON_VALUES, WHITE_SPACE).map(lambda p: p[0] + json.dumps(p[1]).encode() + p[2])
    | st.sampled_from([b"", b"NaN", b"\xff\x00", b'{\r\n"a":\n1}\n', *NOT_TOO_DEEP, *DEEP])
)
TOPICS = st.sampled_from(
    [b"devices/a/telemetry", b"devices/b/heartbeat", b"devices/a/x", b"elsewhere", "d/\u2028ü".encode()]
)
# a message expiry of one second
PACKETS: st.SearchStrategy[Packet] = st.tuples(
    st.sampled_from([0x30, 0x31, 0x32, 0x33, 0x34, 0x3A]),
    TOPICS,
    st.integers(0, 65_535),
    st.sampled_from([b"", b"\x02\x00\x00\x00\x01"]),
    PAYLOADS,
)
MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(st.lists(st.tuples(MOMENTS, st.lists(PACKETS, min_size=1, max_size=6)), max_size=4))
def test_a_batch_is_written_byte_for_byte_as_its_messages_one_by_one(
    reads: list[tuple[datetime, list[Packet]]],
) -> None:
    encoder = LineEncoder(lambda message: message.topic != "elsewhere" or message.retain)
    batch = Batch([Read(nanoseconds(moment) + 999, packets) for moment, packets in reads])
    for _ in range(2):  # the second time with everything kept
        wanted = [message for message in batch if message.topic != "elsewhere" or message.retain]
        lines, count, invalid = encoder.encode(batch)
        assert lines == b"".join(map(encode, wanted))
        assert (count, invalid) == (len(wanted), sum(m.decode().error is not None for m in wanted))


def plain(count: int) -> list[Packet]:
    """Messages of three topics at QoS 1, such as most are."""
    return [(0x32, b"devices/%d/telemetry" % (n % 3), n + 1, b"", b'{"n":%d}' % n) for n in range(count)]


def assert_written_as_one_by_one(packets: list[Packet]) -> None:
    """Hold one read, of which "elsewhere" is not wanted, against ``encode``."""
    encoder = LineEncoder(lambda message: message.topic != "elsewhere")
    batch = Batch([Read(nanoseconds(RECEIVED_AT), packets)])
    for _ in range(2):  # the second time with everything kept
        wanted = [message for message in batch if message.topic != "elsewhere"]
        lines, shown, invalid = encoder.encode(batch)
        assert lines == b"".join(map(encode, wanted))
        assert (shown, invalid) == (len(wanted), sum(m.decode().error is not None for m in wanted))


@given(st.integers(0, 200), st.lists(st.tuples(st.integers(0, 200), PACKETS), max_size=4))
def test_many_messages_are_written_byte_for_byte_as_one_by_one_whatever_is_among_them(
    count: int, odd_ones: list[tuple[int, Packet]]
) -> None:
    packets = plain(count)
    for position, packet in odd_ones:
        packets.insert(position, packet)
    assert_written_as_one_by_one(packets)


@pytest.mark.parametrize("position", [0, 63, 64, 99])
@pytest.mark.parametrize(
    "odd",
    [
        (0x32, b"devices/1/telemetry", 7, b"", b"not JSON"),
        (0x32, b"devices/1/telemetry", 7, b"", b'{\r\n"n":\n1}\n'),
        (0x32, b"devices/1/telemetry", 7, b"", b"[" * 251 + b"]" * 251),
        (0x32, b"devices/1/telemetry", 7, b"", b"[" * 250 + b"]" * 250),
        (0x32, b"devices/1/telemetry", 7, b"\x02\x00\x00\x00\x01", b"1"),
        (0x3A, b"devices/1/telemetry", 7, b"", b"1"),
        (0x33, b"devices/1/telemetry", 7, b"", b"1"),
        (0x32, b"elsewhere", 7, b"", b"not JSON"),
    ],
    ids=["invalid", "on many lines", "deep", "not too deep", "properties", "dup", "retained", "unwanted"],
)
def test_one_that_is_not_like_the_others_changes_nothing_about_them(odd: Packet, position: int) -> None:
    packets = plain(100)
    packets.insert(position, odd)
    assert_written_as_one_by_one(packets)


def test_the_moment_is_exact_within_a_second_and_when_the_clock_goes_back() -> None:
    encoder, moment = LineEncoder(lambda message: True), nanoseconds(RECEIVED_AT)
    for received_ns in (moment, moment + 1_000, moment + 1_000_000_000, moment):
        batch = Batch([Read(received_ns, [(0x30, b"a", 0, b"", b"1")])])
        assert encoder.encode(batch)[0] == encode(batch[0])


def test_a_selection_is_asked_once_for_each_topic_and_kind_of_delivery() -> None:
    asked: list[tuple[str, bool]] = []

    def wants(message: Message) -> bool:
        asked.append((message.topic, message.retain))
        return True

    encoder = LineEncoder(wants)
    for _ in range(3):
        encoder.encode(batch_of(message(topic="a"), message(topic="a", retain=True), message(topic="b")))
    assert asked == [("a", False), ("a", True), ("b", False)]


def test_ever_new_topics_are_not_kept_without_end() -> None:
    encoder = LineEncoder(lambda message: True)
    packets: list[Packet] = [(0x30, b"t/%d" % number, 0, b"", b"1") for number in range(120_000)]
    lines, count, _ = encoder.encode(Batch([Read(nanoseconds(RECEIVED_AT), packets)]))
    assert (lines.count(b"\n"), count) == (120_000, 120_000)
    assert sum(map(len, encoder._kept)) <= 100_000
    assert lines.endswith(encode(message_of(packets[-1], RECEIVED_AT)))


def test_long_topics_are_not_kept_at_all() -> None:
    encoder = LineEncoder(lambda message: message.retain)
    packets: list[Packet] = [
        (first, bytes([65 + n]) * 129, 0, b"", b"1") for first in (0x30, 0x31) for n in range(3)
    ]
    batch = Batch([Read(nanoseconds(RECEIVED_AT), packets)])
    for _ in range(2):
        assert encoder.encode(batch)[0] == b"".join(map(encode, batch[3:]))
    assert sum(map(len, encoder._kept)) == 0
