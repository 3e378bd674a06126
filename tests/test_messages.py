import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.errors import ConfigError, StateError, TopicError
from plantops_cli.messages import (
    MAX_JSON_DEPTH,
    Message,
    answerable,
    check_qos,
    decode_payload,
    in_utc,
    is_nested_too_deeply,
    now,
)
from tests.support.samples import message, nanoseconds

MESSAGE = message(b'{"a":1}')


def test_a_device_message_knows_device_and_kind() -> None:
    assert (MESSAGE.device_id, MESSAGE.kind, MESSAGE.device) == ("abc", "telemetry", ("abc", "telemetry"))


def test_another_message_has_neither() -> None:
    other = replace(MESSAGE, topic="$SYS/broker/uptime")
    assert (other.device_id, other.kind, other.device) == (None, None, None)


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        MESSAGE.topic = "other"  # type: ignore[misc]  # that is what is tested


@pytest.mark.parametrize("duplicate", [replace, deepcopy, lambda message: pickle.loads(pickle.dumps(message))])
def test_a_message_can_be_copied_and_handed_to_another_process(duplicate: Callable[[Message], Message]) -> None:
    MESSAGE.decode()
    copied = duplicate(MESSAGE)
    assert copied == MESSAGE
    assert copied.decode() == MESSAGE.decode()


def test_a_message_is_made_for_a_test_of_topic_and_payload() -> None:
    before = now()
    made = Message.of("devices/x/telemetry", b"{}")
    assert (made.device_id, made.kind, made.json(), made.qos, made.mid) == ("x", "telemetry", {}, 0, 0)
    assert (made.retain, made.dup, made.properties) == (False, False, {})
    assert before <= made.received_at <= now()


def test_a_message_is_made_with_whatever_a_test_is_about() -> None:
    properties = {"content-type": "text/plain"}
    made = Message.of("t", "grün", qos=2, retain=True, dup=True, mid=9, properties=properties, received_at=now())
    assert made == Message("t", "grün".encode(), 2, True, True, 9, properties, made.received_at)
    assert Message.of("t", qos=1).mid == 1


def test_what_was_captured_makes_no_other_message_of_it() -> None:
    made = Message.of("devices/x/telemetry", captures={"device_id": "x"}, received_at=MESSAGE.received_at)
    assert made.captures == {"device_id": "x"}
    assert made == replace(made, captures={})
    assert MESSAGE.captures == Message.of("t").captures == {}


@pytest.mark.parametrize("topic", ["", "devices/+/telemetry", "#", "a\0"])
def test_no_message_is_made_with_a_topic_that_none_can_have(topic: str) -> None:
    with pytest.raises(TopicError):
        Message.of(topic)


class Published:
    """Remembers what was published."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, dict[str, object]]] = []

    async def __call__(self, topic: str, payload: object, **options: object) -> None:
        self.calls.append((topic, payload, options))


async def test_a_reply_goes_to_the_response_topic_with_the_correlation_data() -> None:
    published = Published()
    asked = Message.of("a", properties={"response-topic": "r", "correlation-data": b"1", "content-type": "x"})
    await answerable(asked, published).reply({"b": 1}, qos=0, wait=5)
    await asked.reply(None, properties={"content-type": "y", "correlation-data": b"2"})
    assert published.calls == [
        ("r", {"b": 1}, {"qos": 0, "properties": {"correlation-data": b"1"}, "wait": 5}),
        ("r", None, {"qos": 1, "properties": {"correlation-data": b"2", "content-type": "y"}, "wait": 10.0}),
    ]


async def test_without_correlation_data_none_are_sent() -> None:
    published = Published()
    await answerable(Message.of("a", properties={"response-topic": "r"}), published).reply(b"x")
    assert published.calls == [("r", b"x", {"qos": 1, "properties": {}, "wait": 10.0})]


@pytest.mark.parametrize("topic", ["$CONTROL/dynamic-security/v1", "$SYS/x", "$share/g/a", "a/+", "#", "", "a\0"])
async def test_no_stranger_has_an_answer_sent_where_no_client_publishes(topic: str) -> None:
    published = Published()
    with pytest.raises(TopicError):
        await answerable(Message.of("a", properties={"response-topic": topic}), published).reply(b"x")
    assert published.calls == []


@pytest.mark.parametrize(
    ("properties", "why"),
    [({}, "names no response topic"), ({"response-topic": "r"}, "no subscriber has received")],
)
async def test_what_cannot_be_answered_says_so(properties: dict[str, object], why: str) -> None:
    with pytest.raises(StateError, match=why):
        await Message.of("a", properties=properties).reply(b"x")


def test_the_way_back_is_no_part_of_a_message() -> None:
    asked = Message.of("a", properties={"response-topic": "r"}, received_at=now())
    answering = answerable(replace(asked), Published())
    assert answering == asked
    assert "publish" not in repr(answering)
    assert pickle.loads(pickle.dumps(answering)) == asked
    assert not hasattr(answering, "__dict__")


def test_a_payload_can_be_asked_for_as_json_or_text() -> None:
    assert MESSAGE.json() == {"a": 1}
    assert MESSAGE.text == '{"a":1}'
    assert MESSAGE.decode() == ("json", {"a": 1}, None)


def test_asking_for_json_or_text_that_is_not_there_is_a_value_error() -> None:
    binary = replace(MESSAGE, payload=b"\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        binary.json()
    with pytest.raises(UnicodeDecodeError):
        _ = binary.text


@pytest.mark.parametrize("payload", [b"null", b" [1]\n", b'"a"', b"0", b"1" * 40, b'{"a":1,"a":2}'])
def test_strict_json_is_json(payload: bytes) -> None:
    form, _, error = decode_payload(payload)
    assert (form, error) == ("json", None)


@pytest.mark.parametrize(
    "payload",
    [
        b"alive",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"{'a':1}",
        b'{"a":1,}',
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b"1" * 5000,
        b"\0",
    ],
)
def test_other_utf8_is_text_with_a_reason(payload: bytes) -> None:
    form, value, error = decode_payload(payload)
    assert (form, value) == ("text", payload.decode())
    assert error is not None
    assert error.startswith("not JSON: ")


def test_an_empty_payload_is_empty_text() -> None:
    assert decode_payload(b"") == ("text", "", "empty payload")


def test_bytes_that_are_not_utf8_are_binary_with_the_place() -> None:
    assert decode_payload(b"ab\xc3(") == ("binary", b"ab\xc3(", "not UTF-8: byte 0xc3 at offset 2")


@pytest.mark.parametrize("levels", [1_025, 5_000, 100_000])
def test_deep_nesting_is_text_and_no_crash(levels: int) -> None:
    assert decode_payload(b"[" * levels + b"]" * levels).form == "text"


BRACKETS = st.text(st.sampled_from('[]{}"\\\\'), max_size=8)
TREES = st.recursive(
    BRACKETS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(BRACKETS, inner, max_size=3)
)


def depth_of(value: object) -> int:
    """As ``MAX_JSON_DEPTH`` counts."""
    if isinstance(value, dict):
        return 2 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(TREES, st.integers(-6, 6), st.integers(0, 60))
def test_json_is_nested_too_deeply_from_251_levels_on_whatever_is_in_its_strings(
    tree: object, beyond: int, width: int
) -> None:
    document, depth = tree, depth_of(tree)
    while depth < MAX_JSON_DEPTH + beyond - 2:
        is_array = bool(depth % 3)
        document = [document, "]"] if is_array else {'{"': document, "x": []}
        depth += 1 if is_array else 2
    wide: list[object] = [[{"n": []}]] * width
    payload = json.dumps([wide, document]).encode()
    assert is_nested_too_deeply(payload) is (depth_of([wide, document]) > MAX_JSON_DEPTH)


@pytest.mark.parametrize(("levels", "form"), [(MAX_JSON_DEPTH, "json"), (MAX_JSON_DEPTH + 1, "text")])
def test_json_that_others_could_not_read_any_more_is_text(levels: int, form: str) -> None:
    decoded = decode_payload(b"[" * levels + b"]" * levels)
    assert decoded.form == form
    assert decoded.error == (
        None if form == "json" else "nested deeper than 250 levels, of which an object is two"
    )


@given(st.binary())
def test_decoding_never_raises_and_loses_nothing(payload: bytes) -> None:
    form, value, error = decode_payload(payload)
    if form == "json":
        assert value == json.loads(payload)
    else:
        assert (value if isinstance(value, bytes) else str(value).encode()) == payload
    assert (error is None) == (form == "json")


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_a_moment_in_nanoseconds_is_the_microsecond_that_it_is_in(moment: datetime, more: int) -> None:
    assert in_utc(nanoseconds(moment) + more) == moment


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_qos_that_mqtt_knows_is_returned_as_it_is(qos: int) -> None:
    assert check_qos(qos) == qos


@pytest.mark.parametrize("qos", [-1, 3, True, 1.0, "1", None])
def test_any_other_qos_is_refused(qos: object) -> None:
    with pytest.raises(ConfigError, match=r"QoS .+ does not exist"):
        check_qos(qos)


def test_now_is_in_utc() -> None:
    assert now().utcoffset() == datetime(2026, 1, 1, tzinfo=UTC).utcoffset()
