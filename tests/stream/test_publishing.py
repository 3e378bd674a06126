"""What is to be published: payloads, properties, and the size of the packet."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypedDict, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer

from plantops_cli.errors import ConfigError, PublishRefusedError, TopicError
from plantops_cli.stream.packets import LONGEST_PACKET_BYTES, Splitter, parse_properties
from plantops_cli.stream.publishing import PublishRequest, check_properties, encode_payload
from tests.support.scripted_broker import packet_of

ENDPOINT = "h:1883"
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "payload-format-indicator": st.sampled_from([0, 1]),
        "message-expiry-interval": st.integers(0, 0xFFFF_FFFF),
        "content-type": TEXTS,
        "response-topic": TEXTS.filter(lambda text: text and not set(text) & set("+#")),
        "correlation-data": st.binary(max_size=200),
        "user-properties": st.lists(st.lists(TEXTS, min_size=2, max_size=2), min_size=1, max_size=3),
    },
)


class Telemetry(BaseModel):
    soil_moisture: float
    at: datetime | None = None


@dataclass(slots=True)
class Command:
    valve: str
    seconds: float


class Order(TypedDict):
    valve: str


class Word(StrEnum):
    OPEN = "open"


class Stubborn(BaseModel):
    value: int

    @field_serializer("value")
    def refuse(self, value: int) -> int:
        raise ValueError("not today")


def request(
    topic: Any = "a",
    payload: object = b"",
    *,
    qos: Any = 1,
    retain: bool = False,
    properties: Mapping[str, object] | None = None,
) -> PublishRequest:
    return PublishRequest.of(topic, payload, qos=qos, retain=retain, properties=properties)


def refusal(made: PublishRequest, granted: Mapping[str, object], *, is_v5: bool = True) -> PublishRefusedError:
    error = made.refusal(granted, is_v5=is_v5, endpoint=ENDPOINT)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b"\xff\0", b"\xff\0"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        ("grün", "grün".encode()),
        (Word.OPEN, b"open"),
        (None, b""),
        ("", b""),
        ({"a": [1, None, True]}, b'{"a":[1,null,true]}'),
        (Order(valve="v1"), b'{"valve":"v1"}'),
        ([1, "a"], b'[1,"a"]'),
        ((), b"[]"),
        (7, b"7"),
        (41.5, b"41.5"),
        (True, b"true"),
        (Command("v1", 2.5), b'{"valve":"v1","seconds":2.5}'),
        (Telemetry(soil_moisture=41.5), b'{"soil_moisture":41.5,"at":null}'),
        ([Telemetry(soil_moisture=1, at=NEW_YEAR)], b'[{"soil_moisture":1.0,"at":"2026-01-01T00:00:00Z"}]'),
    ],
)
def test_a_payload_is_bytes_text_or_else_json(payload: object, data: bytes) -> None:
    assert encode_payload(payload) == data


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (object(), "payload of type object .*not JSON serializable: object"),
        ({"a": {1, 2}}, "not JSON serializable: set"),
        ({"a": b"1"}, "not JSON serializable: bytes"),
        ({1: 2}, "key must be str"),
        (1 << 64, "64-bit"),
        ("\ud800", "payload .* is not UTF-8"),
        (["\ud800"], "UTF-8"),
        (Telemetry, "cannot be written as JSON"),
        ([Telemetry], "not JSON serializable: ModelMetaclass"),
        (Stubborn(value=1), "type Stubborn .*not today"),
        (len, "builtin_function_or_method"),
    ],
)
def test_what_is_no_json_is_refused_with_its_type(payload: object, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        encode_payload(payload)


def test_a_payload_without_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        encode_payload(endless)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [float, lambda n: [n], lambda n: {"a": (1, n)}, lambda n: Command("v", n)])
def test_what_is_no_number_does_not_become_null(wrap: Any, number: float) -> None:
    with pytest.raises(ConfigError, match="NaN or an infinity"):
        encode_payload(wrap(number))


def test_a_pydantic_model_says_itself_what_becomes_of_nan() -> None:
    assert encode_payload(Telemetry(soil_moisture=math.nan)) == b'{"soil_moisture":null,"at":null}'


@pytest.mark.parametrize(
    ("properties", "checked"),
    [
        (None, {}),
        ({"user-properties": {"a": "1"}}, {"user-properties": [["a", "1"]]}),
        ({"user-properties": [("a", "1"), ["a", "2"]]}, {"user-properties": [["a", "1"], ["a", "2"]]}),
        ({"correlation-data": bytearray(b"x")}, {"correlation-data": b"x"}),
        ({"message-expiry-interval": 0}, {"message-expiry-interval": 0}),
    ],
)
def test_properties_become_what_a_message_has(properties: Any, checked: dict[str, object]) -> None:
    assert check_properties(properties) == checked


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("response_topic", "'response-topic' is one"),
        ("CorrelationData", "'correlation-data' is one"),
        ("user-property", "'user-properties' is one"),
        ("topic-alias", ""),
        ("x", "there are payload-format-indicator, "),
        (7, "there are "),
    ],
)
def test_an_unknown_property_is_refused_with_the_nearest_that_there_is(name: Any, hint: str) -> None:
    with pytest.raises(ConfigError, match="a PUBLISH has no property") as caught:
        check_properties({name: "x"})
    assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("payload-format-indicator", 2),
        ("payload-format-indicator", "1"),
        ("message-expiry-interval", -1),
        ("message-expiry-interval", 1 << 32),
        ("message-expiry-interval", 1.5),
        ("message-expiry-interval", True),
        ("message-expiry-interval", None),
        ("content-type", b"text"),
        ("content-type", "a\0"),
        ("content-type", "x" * 65_536),
        ("content-type", "\ud800"),
        ("correlation-data", "text"),
        ("correlation-data", bytes(65_536)),
        ("user-properties", "ab"),
        ("user-properties", ["ab"]),
        ("user-properties", [["a", 1]]),
        ("user-properties", {"a": None}),
        ("user-properties", [["a", "b", "c"]]),
    ],
)
def test_a_property_out_of_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        check_properties({name: value})
    assert len(str(caught.value)) < 200


def test_the_value_of_a_property_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        check_properties({"user-properties": [["token", b"hunter2"]]})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0", "x" * 65_536, "\ud800"])
def test_no_topic_is_published_on_that_no_message_can_have(topic: str) -> None:
    with pytest.raises(TopicError):
        request(topic)
    with pytest.raises((TopicError, ConfigError)):
        check_properties({"response-topic": topic})


@pytest.mark.parametrize("qos", [3, -1, "1", None, 1.5, True])
def test_there_are_three_qualities_of_service(qos: object) -> None:
    with pytest.raises(ConfigError, match=r"QoS .* does not exist"):
        request(qos=qos)


def test_a_topic_is_text() -> None:
    with pytest.raises(TopicError, match="a topic is text, not of type bytes"):
        request(b"a")


def wire(made: PublishRequest, *, is_v5: bool) -> bytes:
    """A PUBLISH by the specification (MQTT 5, 3.3)."""

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(2, "big") + data

    codes = {"content-type": 3, "response-topic": 8, "correlation-data": 9}
    block = b""
    for name, value in made.properties.items():
        if name == "payload-format-indicator":
            block += bytes([1, cast("int", value)])
        elif name == "message-expiry-interval":
            block += b"\x02" + cast("int", value).to_bytes(4, "big")
        elif name == "user-properties":
            for key, text in cast("list[list[str]]", value):
                block += b"\x26" + string(key.encode()) + string(text.encode())
        else:
            data = value.encode() if isinstance(value, str) else cast("bytes", value)
            block += bytes([codes[name]]) + string(data)
    middle = string(made.topic.encode()) + (b"\0\1" if made.qos else b"")
    # the packet's own length has the form of that of its properties
    properties = packet_of(0, block)[1:] if is_v5 else b""
    return packet_of(0x30 | made.qos << 1 | made.retain, middle + properties + made.payload)


@given(
    topic=TEXTS.filter(lambda text: text and not set(text) & set("+#")),
    payload=st.one_of(
        st.binary(max_size=300), st.sampled_from([16_370, 16_380, 2_097_140]).map(lambda count: bytes(count))
    ),
    qos=st.sampled_from([0, 1, 2]),
    properties=PROPERTIES,
)
def test_the_size_of_a_packet_is_that_on_the_wire(
    topic: str, payload: bytes, qos: int, properties: dict[str, object]
) -> None:
    made = request(topic, payload, qos=qos, properties=properties)
    assert made.size(is_v5=True) == len(wire(made, is_v5=True))
    plain = request(topic, payload, qos=qos)
    assert plain.size(is_v5=False) == len(wire(plain, is_v5=False))


@given(properties=PROPERTIES)
def test_properties_come_back_as_they_were_given(properties: dict[str, object]) -> None:
    data = wire(request(properties=properties), is_v5=True)
    (packet,), others = Splitter(is_v5=True, max_packet_size=LONGEST_PACKET_BYTES).feed(data)
    assert not others
    assert parse_properties(packet[3]) == properties


@pytest.mark.parametrize("count", range(100, 200))
def test_a_packet_of_just_the_size_that_the_broker_takes_is_sent_and_one_byte_more_is_not(count: int) -> None:
    made = request(payload=bytes(count))
    size = made.size(is_v5=True)
    assert made.refusal({"MaximumPacketSize": size}, is_v5=True, endpoint=ENDPOINT) is None
    error = refusal(made, {"MaximumPacketSize": size - 1})
    assert (error.reason_code, error.endpoint) == (0x95, ENDPOINT)
    assert f"a packet of {size} bytes, where the broker takes {size - 1} at most" in str(error)


def test_what_a_connack_rules_out_is_refused_with_the_code_that_the_broker_would_say() -> None:
    refused = [
        refusal(request(qos=2), {"MaximumQoS": 1}),
        refusal(request(qos=1), {"MaximumQoS": 0}),
        refusal(request(retain=True), {"RetainAvailable": 0}),
    ]
    assert Counter(error.reason_code for error in refused) == {0x9B: 2, 0x9A: 1}
    assert request(qos=2, retain=True).refusal({}, is_v5=True, endpoint=ENDPOINT) is None


def test_mqtt_3_1_1_has_no_properties() -> None:
    error = refusal(request(properties={"content-type": "a"}), {}, is_v5=False)
    assert (error.reason_code, "MQTT 3.1.1, which knows no properties" in str(error)) == (None, True)


def test_a_packet_that_mqtt_cannot_express_is_refused() -> None:
    with pytest.raises(ConfigError, match="where MQTT can express 268,435,460"):
        request(payload=bytes(LONGEST_PACKET_BYTES))
